"""How long a task takes: laws that are pure functions of the order and one drawn number."""

import math
from statistics import NormalDist
from typing import Protocol

import attrs

from fluxflex.simulator.contract import Order

_NORMAL = NormalDist()


class DurationLaw(Protocol):
    """Say how long a task takes; plug in your own to rehearse another provider."""

    def seconds(self, order: Order, drawn: float, /) -> float:
        """Return the simulated seconds from accepted to finished.

        `drawn` lies strictly between 0 and 1 and is all the chance there is. Infinity means: until
        told.
        """
        ...


@attrs.frozen(kw_only=True)
class Durations:
    """Draw log-normal durations, longer with steps, 2K and references.

    The defaults give a median of 16 s and a 95th percentile of 25 s for a plain request, which is
    what is seen elsewhere (FACTS.md); the factors are guesses of the right direction.
    """

    median: float = attrs.field(default=16.0, validator=attrs.validators.gt(0))
    sigma: float = attrs.field(default=0.27, validator=attrs.validators.ge(0))
    usual_steps: int = attrs.field(default=28, validator=attrs.validators.ge(1))
    factor_2k: float = attrs.field(default=1.6, validator=attrs.validators.gt(0))
    factor_reference: float = attrs.field(default=1.07, validator=attrs.validators.gt(0))

    def typical(self, order: Order) -> float:
        """Return the median seconds of such an order."""
        steps = self.usual_steps if order.steps is None else order.steps
        # Loading, encoding and upload take their share however few the steps are.
        seconds = self.median * (0.3 + 0.7 * steps / self.usual_steps)
        if order.quality == "2K":
            seconds *= self.factor_2k
        return seconds * self.factor_reference ** len(order.image_urls)

    def seconds(self, order: Order, drawn: float, /) -> float:
        """Return the quantile `drawn` of the law for this order."""
        return self.typical(order) * math.exp(self.sigma * _NORMAL.inv_cdf(drawn))


@attrs.frozen
class Constant:
    """Let every task take the same simulated seconds; 0 = finished at the first look."""

    value: float = attrs.field(validator=attrs.validators.ge(0))

    def seconds(self, _order: Order, _drawn: float, /) -> float:
        """Return the constant."""
        return self.value


@attrs.frozen
class Manual:
    """Let no task finish before `Simulator.finish` or `Simulator.fail` says so."""

    def seconds(self, _order: Order, _drawn: float, /) -> float:
        """Return infinity."""
        return math.inf
