"""Task ids that outlive their simulator: each carries what a later one needs to answer for it.

An id is sixteen hex digits of chance, a hyphen, and in URL-safe base64 a checksum and the task as
compressed JSON. It starts with a hex digit, so that no command line takes it for an option, and
short names made of its beginning differ. It is no secret and not proof against forgery.
"""

import json
import secrets
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import attrs

from fluxflex.simulator.contract import GENERATIONS, Generation, Order
from fluxflex.simulator.ledger import Entry
from fluxflex.simulator.replies import CONTENT_POLICY, Failure

_RANDOM_BYTES = 8
_SUM_BYTES = 6
_LONGEST = 580
# The checksum depends on it: ids of another form than this are unknown, not misread.
_FORM = b"task id 1"
# Raw deflate, at its best: ids are short, and a header would not pay.
_LEVEL, _RAW = 9, -15
# What most ids repeat. It is part of the form: with other words old ids cannot be read.
_WORDS = (
    f'"aspect_ratio":"16:9""image_urls":["https://"],"steps":"guidance":"cfg":"resolution":"2k"'
    f'"{CONTENT_POLICY.message}""generation_failed","Generation failed""quality":"2K"'
    f'"0.06","0.04","v1",{{"model":"black-forest-labs/flux.2-flex","input":{{"prompt":"a '
    f'null,"flux.2-flex",{{"prompt":"a '
).encode()
# Characters of a long prompt that are kept, from most to least, until the id is short enough.
_KEPT = (400, 300, 200, 100, 50, 0)

Payload = dict[str, Any]
"""A JSON body that was accepted."""


@attrs.frozen
class Carried:
    """Hold what an id says of its task. Times are seconds of the epoch."""

    accepted: float
    due: float
    price: Decimal
    failure: Failure | None
    generation: Generation
    payload: Payload

    @property
    def order(self) -> Order:
        """Return what is asked for, as far as the id can say it."""
        return self.generation.read(self.payload)


def write(task: Carried) -> str:
    """Return a new id for the task: two of the same task differ.

    What does not fit is shortened: first each reference to a digest of its URL, then the prompt to
    its beginning and a digest of the whole, so that other tasks still get other pictures.
    """
    chance = secrets.token_hex(_RANDOM_BYTES)
    versions = (_written(chance, task, payload) for payload in _ever_shorter(task.payload))
    # The shortest of all is short enough whatever was asked for.
    return next(task_id for task_id in versions if len(task_id) <= _LONGEST)


def read(task_id: str) -> Carried | None:
    """Return what the id says, None if it is not one that `write` made."""
    chance, _, text = task_id.partition("-")
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    packed = content[_SUM_BYTES:]
    # Base64 has more than one text for the same bytes; only the one that was given counts.
    if _joined(chance, packed) != task_id:
        return None
    accepted, due, price, failure, generation, payload = json.loads(_unpacked(packed))
    return Carried(
        accepted,
        due,
        Decimal(price),
        failure and Failure(*failure),
        GENERATIONS[generation],
        payload,
    )


@attrs.frozen
class LastingIds:
    """Give ids that carry their tasks, and recall tasks from such ids.

    `now` gives the simulated seconds, `wall_clock` those of the epoch; `speed` is how many of the
    former pass in one of the latter.
    """

    now: Callable[[], float]
    wall_clock: Callable[[], float]
    speed: float

    def named(self, entry: Entry, /) -> Entry:
        """Return the task with an id that carries it."""
        accepted = self.wall_clock()
        seconds = (entry.due - entry.accepted_at) / self.speed
        task = Carried(
            accepted,
            accepted + seconds,
            entry.price,
            entry.failure,
            entry.generation,
            entry.payload,
        )
        return attrs.evolve(entry, task_id=write(task))

    def recalled(self, task_id: str, /) -> Entry | None:
        """Return the task of an earlier simulator, its times turned into simulated ones.

        From here on it goes by the simulated time, as all others do.
        """
        task = read(task_id)
        if task is None:
            return None
        now, wall = self.now(), self.wall_clock()
        # Set back by a day, the clock would let a task of seconds run for a day.
        due = wall if wall < task.accepted and task.due < float("inf") else task.due
        return Entry(
            number=0,
            task_id=task_id,
            prompt=task.order.prompt,
            body=_as_json(task.payload),
            price=task.price,
            accepted_at=now + (task.accepted - wall) * self.speed,
            due=now + (due - wall) * self.speed,
            failure=task.failure,
            generation=task.generation,
        )

    def shown(self, entry: Entry, /) -> Order:
        """Return what the id says was asked for: every later simulator knows no more."""
        task = read(entry.task_id)
        return entry.order if task is None else task.order


def _written(chance: str, task: Carried, payload: Payload) -> str:
    failure = task.failure and attrs.astuple(task.failure)
    fields = [task.accepted, task.due, str(task.price), failure, task.generation.name, payload]
    packer = zlib.compressobj(_LEVEL, wbits=_RAW, zdict=_WORDS)
    return _joined(chance, packer.compress(_as_json(fields)) + packer.flush())


def _unpacked(packed: bytes) -> bytes:
    return zlib.decompressobj(_RAW, zdict=_WORDS).decompress(packed)


def _joined(chance: str, packed: bytes) -> str:
    known = chance.encode("utf-8", "surrogatepass") + packed
    checksum = blake2b(known, digest_size=_SUM_BYTES, person=_FORM).digest()
    return f"{chance}-{urlsafe_b64encode(checksum + packed).decode().rstrip('=')}"


def _as_json(value: object) -> bytes:
    # JSON may name half a character, and Python's reader of JSON takes it back.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _ever_shorter(payload: Payload) -> Iterator[Payload]:
    """Yield payloads that say less and less; what is no matter of the picture goes at once."""
    payload = {
        name: value for name, value in payload.items() if name not in {"callback_url", "dry_run"}
    }
    yield payload
    is_nested = "input" in payload
    fields: Payload = payload["input"] if is_nested else payload
    if "image_urls" in fields:
        urls = [f"ref:{_digest(url)}" for url in fields["image_urls"]]
        fields = {**fields, "image_urls": urls}
        yield {**payload, "input": fields} if is_nested else fields
    prompt = fields["prompt"]
    for kept in _KEPT:
        fields = {**fields, "prompt": f"{prompt[:kept]} {_digest(prompt)}"}
        yield {**payload, "input": fields} if is_nested else fields


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
