"""PoolScope as a process of its own whose every connection is written down, and a browser to look at it with.

The benchmark starts the page in the same way.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from scripts.chromium import find_chromium

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S, STOP_LIMIT_S, STEP_LIMIT_S = 240, 20, 100

CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Python runs this in every process that finds it in PYTHONPATH, before anything else.
RECORDER = """\
import os, sys

_record = os.open(os.environ["CONNECTIONS_RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def _note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        os.write(_record, f"{address[0] if isinstance(address, tuple) else 'unix'}\\n".encode())
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(_record, f"{arguments[0]}\\n".encode())

sys.addaudithook(_note)
"""
AT_HOME = {"127.0.0.1", "::1", "localhost", "unix", "None"}
"""Addresses, and names that were looked up, of this machine; of none where a socket is opened to listen."""


@dataclass(frozen=True)
class Server:
    """A running page.

    Attributes:
        folder: its alone: temporary files, log and record of connections.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return (self.folder / "log").read_text()

    @property
    def outside_addresses(self) -> set[str]:
        """Every address outside this machine that it has connected to, sent to or looked up so far."""
        record = self.folder / "connections"
        return set(record.read_text().split()) - AT_HOME if record.exists() else set()

    def memory_mib(self, kind: str = "VmRSS") -> float:
        """Return its resident memory; ``VmHWM`` gives the most it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kib,) = re.findall(rf"^{kind}:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kib) / 1024

    def is_ready(self) -> bool:
        """Tell whether the page is open.

        Raises:
            RuntimeError: if the process has ended.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"the page ended by itself, status {self.process.returncode}:\n{self.log}")
        try:
            return httpx.get(f"{self.url}/health", timeout=30).status_code == 200
        except httpx.ConnectError:
            return False

    def stop(self) -> None:
        """Ask it to end, as a system that shuts down does."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(folder: Path) -> Server:
    """Start the page on a free port, its temporary files in ``folder``; it is not ready yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for part in ("recorder", "temporary"):
        (folder / part).mkdir(parents=True)
    (folder / "recorder" / "sitecustomize.py").write_text(RECORDER)
    environment = os.environ | {
        "TMPDIR": str(folder / "temporary"),
        "PYTHONPATH": str(folder / "recorder"),
        "CONNECTIONS_RECORD": str(folder / "connections"),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "app.py", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return Server(process, port, folder)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve the page while the block runs.

    Raises:
        RuntimeError: if it does not become ready.
    """
    server = start(folder)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not server.is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the page was not ready after {START_LIMIT_S} s:\n{server.log}")
            time.sleep(0.2)
        yield server
    finally:
        server.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium while the block runs.

    Raises:
        RuntimeError: if there is none.
    """
    path = find_chromium()
    if path is None:
        raise RuntimeError("the page's tests need Chromium: `make test` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Call:
    """A call of an event's handler: its name, what was sent, and the session that sent it."""

    name: str
    data: list[object]
    session: str


@dataclass
class Visitor:
    """A browser context with the page open in it, and all that happens there.

    Attributes:
        errors: what the console called an error, and exceptions in the page.
        addresses: of every request, but for those that hold their answer (``data:``, ``blob:``).
        calls: of handlers on the server, in their order.
    """

    context: BrowserContext
    page: Page
    server: Server
    errors: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)

    @property
    def outside(self) -> set[str]:
        """Every address asked outside the server."""
        return {address for address in self.addresses if not address.startswith(f"{self.server.url}/")}

    @property
    def called(self) -> list[str]:
        """The names of the handlers called."""
        return [call.name for call in self.calls]

    def forget(self) -> None:
        """Begin the lists of addresses and calls anew."""
        self.addresses.clear()
        self.calls.clear()

    def read_call(self, request: Request) -> Call | None:
        """Return the call that a request is, or None if it is none."""
        path = urlsplit(request.url).path
        asks = path == "/gradio_api/queue/join" or path.startswith("/gradio_api/run/")
        body = request.post_data_json if asks else None
        return None if body is None else Call(self._names[body["fn_index"]], body["data"], body["session_hash"])

    def _note_request(self, request: Request) -> None:
        if request.url.startswith(("data:", "blob:")):
            return
        self.addresses.append(request.url)
        call = self.read_call(request)
        if call is not None:
            self.calls.append(call)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


def open_page(
    browser: Browser, server: Server, width: int = 1280, height: int = 800, *, dark: bool = False, touch: bool = False
) -> Visitor:
    """Open the page in a context of its own: browsers keep one connection a page open, and only six in all."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        reduced_motion="reduce",
        accept_downloads=True,
    )
    context.set_default_timeout(1000 * STEP_LIMIT_S)
    page = context.new_page()
    visitor = Visitor(context, page, server)
    config = httpx.get(f"{server.url}/config", timeout=60).json()
    visitor._names.update({event["id"]: event["api_name"] for event in config["dependencies"]})
    page.on("request", visitor._note_request)
    page.on("console", visitor._note_message)
    page.on("pageerror", lambda error: visitor.errors.append(str(error)))
    page.goto(server.url)
    page.locator("#cards .ps-card").first.wait_for()
    return visitor
