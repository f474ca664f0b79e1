"""The key goes to the API's origin, and nowhere else: not into a text, a file, or another host."""

import json
import logging
import pickle
import traceback
from collections.abc import Iterable
from pathlib import Path

import pytest

from fluxflex import Change, FluxFlexError, Outcome, Timeouts
from fluxflex.errors import APIError, ConfigurationError, DownloadError
from fluxflex.simulator import Fault, Faults, Simulator, faults, fingerprint
from tests.stories.stage import (
    KEY,
    PICTURE,
    SUBMIT,
    Scene,
    Wire,
    accepted,
    closed_port,
    completed,
    files_in,
    http,
    says,
    session_at,
)

LETTERS = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
FORMS = {
    "as it is": KEY,
    "with slashes escaped": KEY.replace("/", "\\/"),
    "with signs escaped": KEY.replace("+", "\\u002b").replace("=", "\\u003D"),
    "all escaped": LETTERS,
}


def told(things: Iterable[object]) -> str:
    """Return everything that these things say of themselves, in every way they can be asked."""
    words: list[str] = []
    for thing in things:
        words += [repr(thing), str(thing), pickle.dumps(thing).decode("latin-1")]
        if isinstance(thing, BaseException):
            words += [str(vars(thing)), *traceback.format_exception(thing)]
            words += [repr(vars(cause)) for cause in (thing.__cause__, thing.__context__) if cause]
    return "\n".join(words)


def tells(text: str) -> bool:
    """Say whether a text gives the key away, or a good part of it."""
    return KEY in text or KEY[3:] in text or KEY.partition("/")[2] in text


async def test_the_key_is_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Through a life full of accidents it stands in no repr, error, pickle, log or file."""
    caplog.set_level(logging.DEBUG)
    changes: list[Change] = []
    things: list[object] = []
    said = f"The key {KEY} is not for this"
    script = [
        faults.error(422, code=KEY, message=said),
        faults.custom(500, body=said.encode(), headers={"X-Request-Id": KEY}),
        faults.custom(404, body=json.dumps({"detail": [{"msg": said}]}).encode()),
        faults.redirect(f"http://127.0.0.1:9/{KEY}"),
        faults.accept_then_drop(),
        faults.rate_limited(retry_after=KEY),
        faults.truncated(30),
        None,
        None,
    ]
    async with Simulator(
        durations=0.0, pictures=lambda _: PICTURE, faults=Faults(submit=script)
    ) as sim:
        session = session_at(sim.url, on_event=changes.append, concurrency=1)
        async with session:
            outcomes: list[Outcome] = []
            for number in range(8):
                batch = session.map([f"study {number}"], save_to=tmp_path)
                try:
                    outcomes += await batch.collect()
                except FluxFlexError as error:
                    things += [error, *error.outcomes]
            things += [session.statistics(), await session.account()]
            handle = await session.submit("nsfw")
            await handle.wait()
            texts = [repr(session), repr(handle), repr(batch), repr(session.handles())]
        things += outcomes
        things += [outcome.error for outcome in outcomes if outcome.error]
        texts.append(repr(session))
    assert len(things) > 12
    assert len(changes) > 10
    assert not tells(told([*things, *changes]))
    assert not tells("".join(texts))
    assert not tells(caplog.text)
    assert caplog.records
    for record in caplog.records:
        assert not tells(repr(record.args) + record.getMessage())
    assert files_in(tmp_path)
    assert not any(KEY.encode() in path.read_bytes() for path in files_in(tmp_path))
    assert sim.ledger.keys_at(sim.url.removeprefix("http://")) == {fingerprint(KEY)}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_a_provider_that_repeats_the_key(form: str, status: int) -> None:
    """Whatever way its JSON writes the key, the error's words are without it."""
    body = f'{{"code": {status}, "data": {{"code": "{form}", "message": "No {form}!"}}}}'
    refusal = faults.custom(status, body=body.encode(), headers={"X-Request-Id": KEY})
    async with Simulator(faults=Faults(submit=[refusal])) as sim, session_at(sim.url) as session:
        with pytest.raises(FluxFlexError) as caught:
            await session.submit("a lighthouse")
    assert not tells(told([caught.value]))
    assert "\\u0073\\u006b" not in told([caught.value])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_a_task_that_repeats_the_key(form: str) -> None:
    """Neither the picture's `raw` nor a failed task's message holds it."""
    good = f'{{"data": {{"status": "completed", "seed": "{form}", "output": {{"image_url": "http://127.0.0.1/{form}"}}}}}}'
    bad = f'{{"data": {{"status": "failed", "error": {{"message": "{form}"}}}}}}'
    looks = [faults.custom(200, body=good.encode()), faults.custom(200, body=bad.encode())]
    async with (
        Simulator(faults=Faults(status=looks)) as sim,
        session_at(sim.url, concurrency=1) as session,
    ):
        outcomes = await session.map(["good", "bad"]).collect()
    assert [outcome.ok for outcome in outcomes] == [True, False]
    image = outcomes[0].image
    assert not tells(told([*outcomes, image, outcomes[1].error]) + str(image.raw) + image.url)


async def test_pictures_are_fetched_without_the_key() -> None:
    """Not from another host, not on the way there, and not from the API's own origin."""
    async with Wire() as host:

        async def away(scene: Scene) -> None:
            back = f"{sim.url}/files/{task_id}.png"
            await scene.say(http(b"", 307, Location=back))

        async with Wire(picture=away) as first, Wire(picture=away) as second:
            urls = [f"{host.url}/a.png", f"{first.url}/b.png", f"{second.url}/c.png"]

            def look(_arrival: faults.Arrival) -> Fault:
                return faults.custom(200, body=json.dumps(completed(urls.pop(0), None)).encode())

            async with (
                Simulator(durations=0.0, pictures=lambda _: PICTURE) as sim,
                session_at(sim.url) as session,
            ):
                sim.faults = Faults(status=look)
                for _ in range(3):
                    image = await session.generate("a lighthouse")
                    task_id = image.task_id
                    assert await image.read() == PICTURE
                assert sim.ledger.file_requests == 2
                files = [seen for seen in sim.ledger.requests if "/files/" in seen.path]
            assert not any(seen.authorized for seen in files)
            scenes = host.seen + first.seen + second.seen
    assert len(scenes) == 3
    assert not any(KEY in repr(scene.headers) + scene.target for scene in scenes)
    assert not any("authorization" in scene.headers for scene in scenes)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_the_key_nowhere(status: int) -> None:
    """Submits are not redirected at all; looks and the account not to another host."""
    async with Wire() as elsewhere:
        away = faults.redirect(f"{elsewhere.url}/there", status=status)
        script = Faults(submit=[away], status=[away, away], account=[away])
        async with Simulator(durations=0.0, faults=script) as sim, session_at(sim.url) as session:
            with pytest.raises(ConfigurationError):
                await session.submit("a lighthouse")
            image = await session.generate("a lighthouse")
            with pytest.raises(ConfigurationError):
                await session.account()
    assert image.task_id == sim.ledger.entries[0].task_id
    assert elsewhere.connections == 0


async def test_a_redirect_within_the_origin_is_followed_with_the_key() -> None:
    """A look that is sent to another path of the API arrives there as it was."""

    async def look(scene: Scene) -> None:
        if scene.target.endswith("?moved"):
            await scene.say(http(completed(f"{scene.wire.url}/a.png")))
        else:
            await scene.say(http(b"", 307, Location=f"{scene.target}?moved"))

    async with Wire(look=look) as wire, session_at(wire.url) as session:
        await session.generate("a lighthouse")
    assert [scene.headers["authorization"] for scene in wire.looks] == [f"Bearer {KEY}"] * 2


async def test_a_host_that_cannot_be_reached_is_told_without_the_key() -> None:
    """The words of the network's own errors are without it too, even where a URL repeats it."""
    with closed_port() as port:
        body = completed(f"http://127.0.0.1:{port}/{KEY}.png")
        async with Wire(look=says(http(body))) as wire, session_at(wire.url) as session:
            image = await session.generate("a lighthouse")
            with pytest.raises(DownloadError) as caught:
                await image.read()
    assert not tells(told([caught.value, image]))


async def test_the_key_is_sent_as_the_provider_wants_it() -> None:
    """`Authorization: Bearer`, on the submit and on each look, and nothing else secret."""
    async with Wire(post=says(http(accepted()))) as wire, session_at(wire.url) as session:
        await session.generate("a lighthouse", metadata={"mine": "not the provider's"})
    [post], [look, *_] = wire.posts, wire.looks
    assert post.target == SUBMIT
    assert {post.headers["authorization"], look.headers["authorization"]} == {f"Bearer {KEY}"}
    assert json.loads(post.body) == {"prompt": "a lighthouse", "quality": "1K"}
    assert post.headers["content-type"] == "application/json"
    assert "cookie" not in look.headers


async def test_a_wrong_key_is_told_without_it() -> None:
    """What the simulator says of a key that it does not know, as the provider would."""
    async with Simulator(api_keys=["another"]) as sim, session_at(sim.url) as session:
        with pytest.raises(APIError, match="Invalid API key") as caught:
            await session.submit("a lighthouse")
    assert (caught.value.status, caught.value.charged) == (401, "no")
    assert not tells(told([caught.value]))
    assert len(sim.ledger) == 0


async def test_a_reply_that_comes_too_late_is_told_without_it() -> None:
    """The beginning of a body that breaks off in the key is no leak of the whole."""
    said = f'{{"code": 400, "message": "{KEY}'.encode()

    async def slowly(scene: Scene) -> None:
        await scene.say(b"HTTP/1.1 400 No\r\nContent-Length: 999\r\n\r\n" + said)
        await scene.gone()

    async with (
        Wire(post=slowly) as wire,
        session_at(wire.url, timeout=Timeouts(request=0.05)) as session,
    ):
        with pytest.raises(FluxFlexError) as caught:
            await session.submit("a lighthouse")
    assert not tells(told([caught.value]))
