"""Serve the page: answer ``/health`` from the first moment, everything else once the networks are loaded.

The page is mounted, not launched, so that the server can be alive before it is ready: loading takes seconds, and
whoever comes meanwhile (a health check, an early visitor) gets an answer. Imports of torch and Gradio happen in the
builder, in a thread. Every answer carries `HEADERS`; the page asks nobody else for anything, and these see to it.
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["Door", "serve"]

CONTENT_POLICY = (
    "default-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; "  # Gradio compiles gr.HTML and js= in the browser
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; "
    "media-src 'self' blob:; "
    "font-src 'self' data:; "
    "connect-src 'self'; "
    "worker-src 'self' blob:; "
    "object-src 'none'; "
    "base-uri 'self'; "
    "form-action 'self'; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)
YEAR_S = 31_536_000

LOADING_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>PoolScope</title><meta http-equiv="refresh" content="1">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body { font: 1.1rem system-ui, sans-serif; max-width: 32rem; margin: 40vh auto 0; padding: 0 1rem }</style>
</head><body><main><p>PoolScope is loading its networks. The page opens by itself in a few seconds.</p></main></body>
</html>
"""


class Door:
    """The ASGI application at the door: the page once it is built, and short answers until then.

    Attributes:
        failure: why the page could not be built, if so.
    """

    def __init__(self, build: Callable[[], "FastAPI"], on_failure: Callable[[], None]) -> None:
        self.failure: BaseException | None = None
        self._build, self._on_failure = build, on_failure
        self._page: FastAPI | None = None
        self._closing = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the networks are loaded and the page is open."""
        return self._page is not None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        send = _with_headers(scope["path"], send)
        if scope["path"] == "/health":
            state = {"alive": True, "ready": self.ready}
            await _answer(send, 200 if self.ready else 503, "application/json", json.dumps(state))
        elif self._page is None:
            await _answer(send, 503, "text/html; charset=utf-8", LOADING_PAGE)
        else:
            await self._page(scope, receive, send)

    async def _live(self, receive: "Receive", send: "Send") -> None:
        """Start opening the page when the server starts; close it when the server ends."""
        await receive()  # lifespan.startup
        opening = asyncio.create_task(self._open())
        opening.add_done_callback(self._note_failure)
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        self._closing.set()
        await asyncio.wait({opening})
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        page = await asyncio.to_thread(self._build)
        async with page.router.lifespan_context(page):
            self._page = page
            await self._closing.wait()
            self._page = None

    def _note_failure(self, opening: "asyncio.Task[None]") -> None:
        self.failure = opening.exception()
        if self.failure is not None:
            self._on_failure()


def _with_headers(path: str, send: "Send") -> "Send":
    """Add `HEADERS`, and let browsers keep files whose name holds their content's hash."""
    kept = ((b"cache-control", f"public, max-age={YEAR_S}, immutable".encode()),) if path.startswith("/assets/") else ()

    async def send_with_headers(message: "Message") -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS, *kept]}
        await send(message)

    return send_with_headers


async def _answer(send: "Send", status: int, kind: str, text: str) -> None:
    body = text.encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", length), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(build: Callable[[], "FastAPI"], host: str, port: int) -> None:
    """Serve the page that ``build`` returns until the process is asked to end.

    Raises:
        OSError: if nothing can listen at ``host`` and ``port``.
        Exception: whatever ``build`` raised; the server has ended then.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen at {host}, port {port}: {error.strerror}") from error

    def end() -> None:
        server.should_exit = True

    door = Door(build, on_failure=end)
    config = uvicorn.Config(
        door, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none"
    )
    server = uvicorn.Server(config)
    # The server ends in good order, then raises the signal again; as an interrupt it lets callers tidy up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if door.failure is not None:
        raise door.failure
