"""Hold the answer to who joins the queue until the page knows that its last stream has ended.

Gradio's page reads all that its queue says from one stream, which the server ends when nothing of the visitor's is
pending. Where the end is on its way while the visitor does the next thing, the page believes its stream open (Gradio
6.31, the client's ``open_stream``): it opens no other and never hears the answer. So whoever joins within `HOLD_S` of
the end is queued at once, but told so only then; the page, which has heard of the end by that time, opens a stream.
"""

import asyncio
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HOLD_S", "Streams"]

HOLD_S = 0.5


class Streams:
    """An ASGI layer before Gradio's application.

    Args:
        hold_s: seconds from the end of a visitor's stream until a join is answered.
    """

    def __init__(self, app: "ASGIApp", hold_s: float = HOLD_S) -> None:
        self._app, self._hold_s = app, hold_s
        self._ended: dict[str, float] = {}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        path = scope.get("path", "")
        if path.endswith("/queue/data"):
            session = parse_qs(scope["query_string"].decode()).get("session_hash", [""])[0]
            try:
                await self._app(scope, receive, send)
            finally:
                self._note_end(session)
        elif path.endswith("/queue/join"):
            await self._join(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _note_end(self, session: str) -> None:
        now = time.monotonic()
        self._ended = {one: ended for one, ended in self._ended.items() if now - ended < self._hold_s} | {session: now}

    async def _join(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        body = bytearray()

        async def listen() -> "Message":
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def answer(message: "Message") -> None:
            if message["type"] == "http.response.start":
                ended = self._ended.get(_session_of(body))
                if ended is not None:
                    await asyncio.sleep(self._hold_s - (time.monotonic() - ended))
            await send(message)

        await self._app(scope, listen, answer)


def _session_of(body: bytearray) -> str:
    """Return who joins; nobody if the body is not what Gradio's page sends."""
    try:
        asked = json.loads(body)
    except ValueError:
        return ""
    session = asked.get("session_hash") if isinstance(asked, dict) else None
    return session if isinstance(session, str) else ""
