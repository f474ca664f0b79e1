"""Callbacks: which of them are sent, how often, when, in what shape, and what is forged beside."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from ipaddress import ip_address
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from fluxflex.simulator.chance import draw
from fluxflex.simulator.ledger import Entry
from fluxflex.simulator.replies import Document

Shape: TypeAlias = Literal["documented", "flat", "enveloped", "mixed"]
"""What the body of a callback looks like."""

FORGERIES = ("wrong-token", "wrong-task", "broken", "giant", "wrong-type")
"""What forgers send: a true task id, a made-up one, half a body, four megabytes, plain text."""

_FORGED_PICTURE = "https://forged.example/picture.png"
_GIANT_BYTES = 4 * 2**20
_LONGEST_WAIT = 366 * 24 * 3600.0
_MOST_FORGED = 1000.0


def _up_to(highest: float) -> Callable[[object, "attrs.Attribute[float]", float], None]:
    def validate(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
        if not 0 <= value <= highest:
            raise ValueError(f"{attribute.name} must be from 0 to {highest:g}, not {value!r}")

    return validate


def _one_of(*words: str) -> Callable[[object, "attrs.Attribute[str]", str], None]:
    def validate(_instance: object, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name} must be one of {', '.join(words)}, not {value!r}")

    return validate


_is_share, _is_wait = _up_to(1), _up_to(_LONGEST_WAIT)


@attrs.frozen(kw_only=True)
class Callbacks:
    """Say how callbacks go astray; without a word each is sent once, when its task ends.

    Shares are from 0 to 1, of the tasks with a `callback_url`; which ones follows from the
    simulator's seed. Each is drawn by itself: an early or late callback may be doubled, a lost one
    is nothing else, an early one is not late. Seconds are simulated, but for `timeout`.

    Args:
        lost: The share that is never sent.
        doubled: The share that is sent twice.
        doubled_by: Seconds between the two.
        late: The share that is sent late.
        late_by: Seconds between the end of the task and a late callback.
        early: The share that is sent before the reply to the POST goes out. Such a task is finished
            when it is accepted, whatever the law of durations says, and the reply waits until the
            callback is answered or given up for the first time.
        forged: How many forged POSTs come with each task's end, on average; 0.2 is one with every
            fifth, 3 are three with each. A forger knows the path, but not its last segment, the
            token; so all go to made-up ones, before the true callback.
        forgeries: Which kinds of forged POSTs there are; see `FORGERIES`.
        shape: "documented" (docs), "flat" or "enveloped" (field), or "mixed": each task its own.
            There is no sample of an enveloped failure: that it has the code of a failed task, 400,
            is a guess.
        signature_secret: Sign in the form that is seen in the field: `X-Webhook-Signature` is the
            hex HMAC-SHA256 of the `X-Webhook-Timestamp`, a dot and the body. The documentation says
            that callbacks are not signed. Forged ones are signed with another secret.
        anywhere: Send to other machines too. Without it only this one is called, and the others are
            counted as "elsewhere": a rehearsal with the input of production is not to call it.
        again_after: Seconds between the tries of a callback that is answered with 5xx or not at
            all; after the last it is given up. The provider's schedule is unknown, this one is made
            up. Any other answer is final, a redirect too. Forged ones are tried once.
        timeout: Real seconds to wait for an answer: the receiver does not live by simulated ones.
    """

    lost: float = attrs.field(default=0.0, validator=_is_share)
    doubled: float = attrs.field(default=0.0, validator=_is_share)
    doubled_by: float = attrs.field(default=0.0, validator=_is_wait)
    late: float = attrs.field(default=0.0, validator=_is_share)
    late_by: float = attrs.field(default=60.0, validator=_is_wait)
    early: float = attrs.field(default=0.0, validator=_is_share)
    forged: float = attrs.field(default=0.0, validator=_up_to(_MOST_FORGED))
    forgeries: tuple[str, ...] = attrs.field(
        default=FORGERIES,
        validator=[
            attrs.validators.min_len(1),
            attrs.validators.deep_iterable(_one_of(*FORGERIES)),
        ],
    )
    shape: Shape = attrs.field(
        default="documented",
        validator=_one_of("documented", "flat", "enveloped", "mixed"),
    )
    signature_secret: str | None = attrs.field(
        default=None,
        repr=False,
        validator=attrs.validators.optional(attrs.validators.min_len(1)),
    )
    anywhere: bool = False
    again_after: tuple[float, ...] = attrs.field(
        default=(1.0, 5.0, 30.0), validator=attrs.validators.deep_iterable(_is_wait)
    )
    timeout: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))

    def reaches(self, url: str) -> bool:
        """Say whether callbacks go to this URL: over HTTP, and to this machine or `anywhere`.

        The contract lets a task name any URI.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
            return False
        return self.anywhere or _is_here(parts.hostname)


@attrs.frozen(kw_only=True)
class Parcel:
    """Hold one POST that is to be made. `secret` signs it."""

    kind: str
    task_id: str
    url: str = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    content_type: str = "application/json"
    secret: str | None = attrs.field(default=None, repr=False)
    attempt: int = 1

    @property
    def is_forged(self) -> bool:
        """Say whether the provider has nothing to do with it."""
        return self.kind in FORGERIES


@attrs.frozen
class Fates:
    """Draw what becomes of each task's callback; the same seed gives task number n the same."""

    seed: int

    def is_lost(self, how: Callbacks, number: int) -> bool:
        """Say whether this task's callback is never sent."""
        return self._hit("lost", number, how.lost)

    def is_early(self, how: Callbacks, number: int) -> bool:
        """Say whether this task's callback comes before the reply to its POST."""
        return self._hit("early", number, how.early) and not self.is_lost(how, number)

    def forged(self, how: Callbacks, entry: Entry, url: str) -> Iterator[Parcel]:
        """Yield the forged POSTs that come with the end of this task."""
        count = int(how.forged) + self._hit("forged", entry.number, how.forged % 1)
        secret = how.signature_secret and f"not {how.signature_secret}"
        parts = urlsplit(url)
        path, _, token = parts.path.rpartition("/")
        for each in range(count):
            purpose = f"callback forgery {each}"
            kinds, drawn = how.forgeries, draw(self.seed, purpose, entry.number)
            kind = kinds[int(drawn * len(kinds))]
            made_up = _made_up(self.seed, purpose, entry.number, len(token))
            task_id = made_up if kind == "wrong-task" else entry.task_id
            body = _encoded(_flat(task_id, _FORGED_PICTURE))
            if kind == "broken":
                body = body[: len(body) // 2]
            yield Parcel(
                kind=kind,
                task_id=entry.task_id,
                url=f"{parts.scheme}://{parts.netloc}{path}/{made_up}",
                body=_giant() if kind == "giant" else body,
                content_type="text/plain" if kind == "wrong-type" else "application/json",
                secret=secret,
            )

    def sent(
        self, how: Callbacks, entry: Entry, url: str, picture: str, *, early: bool
    ) -> Iterator[tuple[float, Parcel]]:
        """Yield the POSTs of a callback that is not lost, each with its seconds after the end."""
        late = not early and self._hit("late", entry.number, how.late)
        delay = how.late_by if late else 0.0
        parcel = Parcel(
            kind="early" if early else "late" if late else "plain",
            task_id=entry.task_id,
            url=url,
            body=_encoded(self._document(how.shape, entry, picture)),
            secret=how.signature_secret,
        )
        yield delay, parcel
        if self._hit("doubled", entry.number, how.doubled):
            yield delay + how.doubled_by, attrs.evolve(parcel, kind="double")

    def _document(self, shape: Shape, entry: Entry, picture: str) -> Document:
        if shape == "mixed":
            drawn = draw(self.seed, "callback shape", entry.number)
            shape = _MIXED[int(drawn * len(_MIXED))]
        if entry.failure is not None:
            document = _failed(entry.task_id, entry.failure.message)
            return {"code": 400, "data": document} if shape == "enveloped" else document
        return _COMPLETED[shape](entry.task_id, picture)

    def _hit(self, purpose: str, number: int, share: float) -> bool:
        return draw(self.seed, f"callback {purpose}", number) < share


def _documented(task_id: str, url: str) -> Document:
    return {"task_id": task_id, "status": "completed", "data": {"image_url": url}}


def _flat(task_id: str, url: str) -> Document:
    return {"status": "completed", "task_id": task_id, "image_url": url}


def _failed(task_id: str, message: str) -> Document:
    return {"task_id": task_id, "status": "failed", "error_message": message}


_COMPLETED: Mapping[Shape, Callable[[str, str], Document]] = {
    "documented": _documented,
    "flat": _flat,
    "enveloped": lambda task_id, url: {"code": 200, "data": _flat(task_id, url)},
}
_MIXED = tuple(_COMPLETED)


def _encoded(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@cache
def _giant() -> bytes:
    # All share the same: a flood of them is not to fill the memory of the simulator.
    return b'{"task_id":"%s"}' % (b"x" * _GIANT_BYTES)


def _made_up(seed: int, purpose: str, number: int, length: int) -> str:
    """Return hex digits, as many as a token has, that no receiver gave."""
    parts = -(-max(length, 16) // 13)
    drawn = (draw(seed, f"{purpose} token {part}", number) for part in range(parts))
    return "".join(f"{int(each * 2**52):013x}" for each in drawn)[: max(length, 16)]


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
