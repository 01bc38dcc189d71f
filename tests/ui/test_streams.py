"""Joining the queue while a stream ends: told only when the page has heard of the end, and nobody else waits."""

import asyncio
import json
import time

from tests.ui.loop import run
from ui.streams import Streams

NEVER_S = 1000.0


class Queue:
    """An application with the queue's two addresses, which writes down the joins that it has seen."""

    def __init__(self) -> None:
        self.joined: list[bytes] = []

    async def __call__(self, scope: dict, receive, send) -> None:
        message = await receive()
        if scope["path"].endswith("/join"):
            self.joined.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def ask(app: Streams, path: str, query: str = "", body: bytes = b"") -> float:
    """Send a request and return when its answer began."""
    began: list[float] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        if message["type"] == "http.response.start":
            began.append(time.monotonic())

    await app({"type": "http", "path": path, "query_string": query.encode()}, receive, send)
    (moment,) = began
    return moment


def stream(app: Streams, session: str):
    return ask(app, "/gradio_api/queue/data", f"session_hash={session}")


def join(app: Streams, session: object):
    return ask(app, "/gradio_api/queue/join", body=json.dumps({"session_hash": session}).encode())


def test_a_join_after_the_stream_ended_is_queued_at_once_and_told_later():
    async def story() -> None:
        queue = Queue()
        app = Streams(queue, hold_s=0.3)
        await stream(app, "ann")
        ended = time.monotonic()
        telling = asyncio.create_task(join(app, "ann"))
        while not queue.joined:
            await asyncio.sleep(0)
        assert not telling.done()
        assert await telling - ended >= 0.29

    run(story())


def test_nobody_else_waits():
    async def story() -> None:
        app = Streams(Queue(), hold_s=NEVER_S)
        await stream(app, "ann")
        async with asyncio.timeout(60):
            await join(app, "bob")
            await ask(app, "/gradio_api/upload", body=b'{"session_hash": "ann"}')
            for body in (b"", b"no json", b"[]", b'{"session_hash": 3}', b"{}"):
                await ask(app, "/gradio_api/queue/join", body=body)

    run(story())


def test_who_is_gone_is_forgotten():
    async def story() -> int:
        app = Streams(Queue(), hold_s=0.01)
        for visitor in range(50):
            await stream(app, f"visitor {visitor}")
            await asyncio.sleep(0.002)
        return len(app._ended)

    assert run(story()) < 25
