"""The provider, faithfully, on this machine: a server to rehearse with, in your own loop.

    async with Simulator(durations=0.0) as sim:
        async with fluxflex.Session("any-key", base_url=sim.url) as session:
            await session.generate("a lighthouse in fog")
        print(sim.ledger.billed_usd)

It is a second reading of the provider's contract and shares no code with the client. Nothing it
does costs money, and no key is checked unless you say which are good.
"""

from fluxflex.simulator import faults
from fluxflex.simulator.callbacks import Callbacks
from fluxflex.simulator.durations import Constant, DurationLaw, Durations, Manual
from fluxflex.simulator.faults import Fault, Faults
from fluxflex.simulator.ledger import Entry, Ledger, SeenRequest, SentCallback, fingerprint
from fluxflex.simulator.painter import paint
from fluxflex.simulator.replies import Failure, Shapes
from fluxflex.simulator.server import Simulator

__all__ = [
    "Callbacks",
    "Constant",
    "DurationLaw",
    "Durations",
    "Entry",
    "Failure",
    "Fault",
    "Faults",
    "Ledger",
    "Manual",
    "SeenRequest",
    "SentCallback",
    "Shapes",
    "Simulator",
    "faults",
    "fingerprint",
    "paint",
]
