"""The peers: other SDKs and httpx, each used as its documentation shows, with its own defaults.

Where a default stands in the way of the work (an interval between looks, for work that is done at
the first), the work's goes before it, in the peer's favour.
"""

from __future__ import annotations

import asyncio

from side_by_side.work import KEY, Json, Work, in_lanes


async def httpx_loops(work: Work) -> None:
    """Plain httpx: one client, one coroutine a task."""
    import httpx

    async with httpx.AsyncClient(
        base_url=work.url, headers={"authorization": f"Bearer {KEY}"}, timeout=600
    ) as client:

        async def one(prompt: str) -> str:
            body = {"prompt": prompt, "quality": "1K"}
            response = await client.post("/flux.2-flex/generate", json=body)
            response.raise_for_status()
            task = response.json()["data"]["task_id"]
            while True:
                response = await client.get(f"/flux.2-flex/status/{task}")
                response.raise_for_status()
                data = response.json()["data"]
                if data["status"] == "completed":
                    return str(data["output"]["image_url"])
                await asyncio.sleep(work.interval)

        await in_lanes(work, one)


async def fal_client_subscribe(work: Work) -> None:
    """`AsyncClient.subscribe`: submit, status until it is completed, then the result."""
    import fal_client
    import fal_client.client as module

    # The environment can name the host only; this spares fal-client the TLS as well.
    module.QUEUE_URL_FORMAT = f"{work.url}/fal/"
    client = fal_client.AsyncClient(key=KEY)

    async def one(prompt: str) -> str:
        result: Json = await client.subscribe(
            "fal-ai/flux-2-flex", {"prompt": prompt}, interval=work.interval
        )
        return str(result["images"][0]["url"])

    await in_lanes(work, one)


async def replicate_predictions(work: Work) -> None:
    """`predictions.async_create`, then `async_wait`."""
    import replicate

    client = replicate.Client(api_token=KEY, base_url=work.url)
    client.poll_interval = work.interval

    async def one(prompt: str) -> str:
        prediction: Json = await client.models.predictions.async_create(
            "o/m", input={"prompt": prompt}
        )
        await prediction.async_wait()
        return str(prediction.output)

    await in_lanes(work, one)


async def openai_images(work: Work) -> None:
    """`images.generate`: one request an image, whose reply is the picture."""
    import openai

    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{work.url}/v1") as client:

        async def one(prompt: str) -> str:
            images: Json = await client.images.generate(model="flux-2-flex", prompt=prompt)
            return str(images.data[0].url)

        await in_lanes(work, one)
