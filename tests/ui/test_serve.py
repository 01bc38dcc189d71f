"""The door: alive from the first moment, ready when the page is built, and the same headers on every answer."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable

import fastapi
import pytest
from fastapi.responses import PlainTextResponse

from tests.ui.loop import run
from ui.serve import Door


async def get(door: Door, path: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one request."""
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [(b"host", b"test")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
    }  # fmt: skip
    await door(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@contextlib.asynccontextmanager
async def opened(door: Door) -> AsyncIterator[None]:
    """Start the door as a server does, and end it."""
    to_door: asyncio.Queue[dict] = asyncio.Queue()
    from_door: asyncio.Queue[dict] = asyncio.Queue()
    living = asyncio.create_task(door({"type": "lifespan"}, to_door.get, from_door.put))
    await to_door.put({"type": "lifespan.startup"})
    assert (await from_door.get())["type"] == "lifespan.startup.complete"
    yield
    await to_door.put({"type": "lifespan.shutdown"})
    assert (await from_door.get())["type"] == "lifespan.shutdown.complete"
    await living


async def wait_until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def page(events: list[str]) -> fastapi.FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        events.append("opened")
        yield
        events.append("closed")

    app = fastapi.FastAPI(lifespan=lifespan)
    app.add_api_route("/{path:path}", lambda path: PlainTextResponse(f"page {path}"))
    return app


def test_alive_while_loading_ready_afterwards() -> None:
    events: list[str] = []
    loaded = threading.Event()

    def build() -> fastapi.FastAPI:
        assert loaded.wait(10)
        return page(events)

    async def visit() -> None:
        door = Door(build, on_failure=lambda: events.append("failed"))
        async with opened(door):
            status, headers, body = await get(door, "/health")
            assert (status, json.loads(body)) == (503, {"alive": True, "ready": False})
            assert headers["content-type"] == "application/json"
            status, headers, body = await get(door, "/")
            assert status == 503
            assert b"loading" in body
            assert headers["cache-control"] == "no-store"
            loaded.set()
            await wait_until(lambda: door.ready)
            status, _, body = await get(door, "/health")
            assert (status, json.loads(body)) == (200, {"alive": True, "ready": True})
            assert (await get(door, "/anything"))[2] == b"page anything"
        assert door.failure is None

    run(visit())
    assert events == ["opened", "closed"]


@pytest.mark.parametrize("path", ["/", "/health", "/assets/index-1a2b.js", "/gradio_api/x"])
def test_every_answer_has_the_headers(path: str) -> None:
    async def visit() -> dict[str, str]:
        door = Door(lambda: page([]), on_failure=lambda: None)
        async with opened(door):
            await wait_until(lambda: door.ready)
            return (await get(door, path))[1]

    headers = run(visit())
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert "http" not in policy["script-src"] + policy["img-src"] + policy["style-src"] + policy["font-src"]
    assert ("immutable" in headers.get("cache-control", "")) == path.startswith("/assets/")


def test_a_page_that_cannot_be_built_ends_the_server() -> None:
    ended: list[str] = []

    def build() -> fastapi.FastAPI:
        raise ValueError("networks must be among max, lip, got swin")

    async def visit() -> Door:
        door = Door(build, on_failure=lambda: ended.append("ended"))
        async with opened(door):
            await wait_until(lambda: ended)
            assert (await get(door, "/health"))[0] == 503
        return door

    door = run(visit())
    assert str(door.failure) == "networks must be among max, lip, got swin"
    assert ended == ["ended"]
