"""Our clients, and the loops that people write by hand."""

from __future__ import annotations

import asyncio

import aiohttp
import attrs

import fluxflex
from fluxflex._aio.transport import AiohttpTransport
from fluxflex._core.exchange import Call, Intent, Reply, Unanswered
from fluxflex.webhooks import WebhookReceiver
from side_by_side.work import KEY, Work, in_lanes

_BEARER = {"authorization": f"Bearer {KEY}"}
_SUBMIT, _STATUS = "/flux.2-flex/generate", "/flux.2-flex/status/"
# As soon as it can: a policy of ours takes no interval of nought.
_AT_ONCE = 0.001


async def fluxflex_map(work: Work) -> None:
    """One `session.map`, looking at the interval of the work, with no limit on looks."""
    poll = fluxflex.FixedPolling(work.interval or _AT_ONCE)
    await _mapped(
        work,
        fluxflex.Session(
            KEY,
            base_url=work.url,
            concurrency=work.at_once,
            poll=poll,
            poll_rate=None,
        ),
    )


async def fluxflex_default(work: Work) -> None:
    """One `session.map` of a session as it comes, but for the ceiling."""
    await _mapped(work, fluxflex.Session(KEY, base_url=work.url, concurrency=work.at_once))


async def fluxflex_callbacks(work: Work) -> None:
    """One `session.map` of a session as it comes, with callbacks at a server of its own."""
    receiver = WebhookReceiver("http://127.0.0.1:0/callbacks")
    async with receiver.serve():
        session = fluxflex.Session(
            KEY, base_url=work.url, concurrency=work.at_once, webhooks=receiver
        )
        await _mapped(work, session)


async def _mapped(work: Work, session: fluxflex.Session) -> None:
    async with session, session.map(work.prompts()) as outcomes:
        async for outcome in outcomes:
            if outcome.ok:
                work.learnt(outcome.image.url)
            else:
                work.failed(outcome.error)


async def fluxflex_generate(work: Work) -> None:
    """`session.generate` in loops of one's own."""
    async with fluxflex.Session(
        KEY,
        base_url=work.url,
        concurrency=work.at_once,
        poll=fluxflex.FixedPolling(work.interval or _AT_ONCE),
        poll_rate=None,
    ) as session:

        async def one(prompt: str) -> str:
            return (await session.generate(prompt)).url

        await in_lanes(work, one)


async def bare_transport(work: Work) -> None:
    """The session's transport alone: the same exchanges, and next to nothing made of them."""
    transport = AiohttpTransport(base_url=work.url, key=KEY, connections=work.at_once)

    async def one(prompt: str) -> str:
        post = Call(
            method="POST",
            url=work.url + _SUBMIT,
            intent=Intent.SUBMIT,
            body=b'{"prompt":"%s","quality":"1K"}' % prompt.encode(),
        )
        task = _after(b'"task_id":"', await transport.send(post, timeout=60))
        look = Call(method="GET", url=work.url + _STATUS + task, intent=Intent.READ)
        while True:
            picture = _after(b'"image_url":"', await transport.send(look, timeout=60))
            if picture:
                return picture
            await asyncio.sleep(work.interval)

    try:
        await in_lanes(work, one)
    finally:
        await transport.aclose()


def _after(name: bytes, got: Reply | Unanswered) -> str:
    """Return a value out of a reply without reading all of it."""
    if isinstance(got, Unanswered):
        raise ConnectionError(got.reason)
    return got.body.partition(name)[2].partition(b'"')[0].decode()


@attrs.frozen
class _Hand:
    """One task over aiohttp, as people write it by hand."""

    session: aiohttp.ClientSession
    work: Work

    async def one(self, prompt: str) -> str:
        async with self.session.post(
            self.work.url + _SUBMIT, json={"prompt": prompt, "quality": "1K"}
        ) as response:
            response.raise_for_status()
            task = (await response.json())["data"]["task_id"]
        while True:
            async with self.session.get(self.work.url + _STATUS + task) as response:
                response.raise_for_status()
                data = (await response.json())["data"]
            if data["status"] == "completed":
                return str(data["output"]["image_url"])
            await asyncio.sleep(self.work.interval)


async def aiohttp_loops(work: Work) -> None:
    """Plain aiohttp: one session, one coroutine a task, the next when one is done."""
    async with aiohttp.ClientSession(headers=_BEARER) as session:
        await in_lanes(work, _Hand(session, work).one)


async def aiohttp_semaphore(work: Work) -> None:
    """Plain aiohttp: everything gathered at once, behind a semaphore."""
    semaphore = asyncio.Semaphore(work.at_once)
    async with aiohttp.ClientSession(headers=_BEARER) as session:
        hand = _Hand(session, work)

        async def one(prompt: str) -> None:
            async with semaphore:
                await work.one(hand.one(prompt))

        await asyncio.gather(*(one(prompt) for prompt in work.prompts()))
