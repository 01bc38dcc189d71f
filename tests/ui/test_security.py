"""What somebody who means harm sends: nothing foreign is read, nothing grows without bound, nobody outside is asked."""

import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ui import by_hand
from tests.ui.by_hand import ROOT, SET
from tests.ui.conftest import Photos
from tests.ui.running import AT_HOME, RECORDER, Server


@pytest.fixture(scope="module")
def http(attacked: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=attacked.url, timeout=100) as client:
        yield client


def send(http: httpx.Client, content: bytes, name: str = "photo.png") -> str:
    """Upload a file and return where the server says that it lies."""
    answer = http.post("/gradio_api/upload", files={"files": (name, content, "image/png")})
    assert answer.status_code == 200, answer.text
    (path,) = answer.json()
    return path


def compare(http: httpx.Client, photo: dict[str, object] | None) -> httpx.Response:
    body = {"data": [photo, ["max"], "stem", SET], "session_hash": "somebody"}
    return http.post("/gradio_api/run/compare", json=body)


def assert_unharmed(http: httpx.Client, photos: Photos) -> None:
    """Assert that the page still answers, and rightly."""
    path = send(http, photos.path("tabby", 30).read_bytes())
    answer = compare(http, {"path": path, "meta": {"_type": "gradio.FileData"}})
    assert answer.status_code == 200, answer.text
    truth = by_hand.look("max", photos.small("tabby", 30)).probabilities
    assert answer.json()["data"][0]["networks"][0]["probability"] == pytest.approx(max(truth.values()), abs=1e-4)


class TestPaths:
    @pytest.fixture
    def outside(self, photos: Photos, attacked: Server) -> dict[str, Path]:
        """Real photos that nobody uploaded: only their place can be the reason to refuse them."""
        hidden = photos.folder / ".hidden.png"
        hidden.write_bytes(photos.path("tabby", 31).read_bytes())
        (uploads,) = (attacked.folder / "temporary").glob("poolscope-*")
        link = uploads / "link.png"
        link.unlink(missing_ok=True)
        link.symlink_to(photos.path("tabby", 31))
        return {
            "photo": photos.path("tabby", 31),
            "hidden": hidden,
            "link": link,
            "upwards": uploads / ".." / ".." / "log",
            "system": Path("/etc/passwd"),
            "source": ROOT / "app.py",
            "relative": Path("app.py"),
            "process": Path("/proc/self/environ"),
        }

    def test_a_file_that_was_not_uploaded_is_not_read(
        self, http: httpx.Client, outside: dict[str, Path], photos: Photos
    ):
        for kind, path in outside.items():
            for photo in ({"path": str(path), "meta": {"_type": "gradio.FileData"}}, {"path": str(path)}):
                answer = compare(http, photo)
                assert answer.status_code >= 400, (kind, answer.text[:300])
                assert "label" not in answer.text
                assert "root:" not in answer.text
        assert_unharmed(http, photos)  # the same photo, uploaded, is read

    def test_no_file_is_served_but_uploads(self, http: httpx.Client, outside: dict[str, Path]):
        for kind, path in outside.items():
            answer = http.get(f"/gradio_api/file={path}")
            assert answer.status_code in (403, 404), (kind, answer.status_code)

    def test_an_upload_cannot_choose_its_place(self, http: httpx.Client, attacked: Server, photos: Photos):
        path = Path(send(http, photos.path("tabby", 32).read_bytes(), "../../../escaped.png"))
        assert path.resolve().is_relative_to(attacked.folder / "temporary")
        assert list(attacked.folder.parent.rglob("escaped.png")) == [path]

    def test_addresses_are_not_fetched(self, http: httpx.Client):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/photo.png"
            for photo in (
                {"url": address},
                {"path": address},
                {"path": None, "url": address},
                {"url": "file:///etc/passwd"},
            ):
                answer = compare(http, photo | {"meta": {"_type": "gradio.FileData"}})
                assert answer.status_code >= 400, answer.text[:300]
            with pytest.raises(BlockingIOError):
                listener.accept()


def huge_png(side: int) -> bytes:
    """Return a small file that holds a square picture of so many pixels a side, one bit each."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class TestBounds:
    def test_a_huge_picture_is_refused_before_it_is_decoded(self, http: httpx.Client, attacked: Server):
        content = huge_png(12_000)
        assert len(content) < 50_000
        path = send(http, content)
        before = attacked.memory_mib()
        Path(f"/proc/{attacked.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        answer = compare(http, {"path": path, "meta": {"_type": "gradio.FileData"}})
        assert "12000 x 12000 pixels" in answer.json()["error"]
        assert attacked.memory_mib("VmHWM") - before < 100

    def test_a_file_of_many_bytes_is_refused(self, http: httpx.Client, attacked: Server):
        answer = http.post("/gradio_api/upload", files={"files": ("big.png", bytes(21 * 2**20), "image/png")})
        assert answer.status_code == 413
        assert list((attacked.folder / "temporary").rglob("big.png")) == []

    def test_a_long_data_address_is_refused(self, http: httpx.Client):
        address = "data:image/png;base64," + "A" * (21 * 2**20 * 4 // 3)
        answer = compare(http, {"path": None, "url": address, "meta": {"_type": "gradio.FileData"}})
        assert answer.status_code >= 400
        assert "MiB" in answer.json()["error"]


NONSENSE: tuple[object, ...] = (
    None,
    "'; DROP TABLE networks; --",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    -1,
    10**30,
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    [["nested"], {}],
    "☃" * 10_000,
)


def test_nonsense_does_no_harm_to_any_handler(http: httpx.Client, photos: Photos):
    """Private handlers can be called as well: whatever is sent, the answer names no path and no line of code."""
    events = [event for event in http.get("/config").json()["dependencies"] if event["backend_fn"]]
    assert {"run", "redraw", "save_row", "choose", "compare"} <= {event["api_name"] for event in events}
    for event in events:
        for nonsense in NONSENSE:
            body = {"data": [nonsense] * len(event["inputs"]), "event_data": {"index": nonsense}}
            answer = http.post(f"/gradio_api/run/{event['api_name']}", json=body | {"session_hash": "nobody"})
            assert "Traceback" not in answer.text
            assert str(ROOT) not in answer.text
            assert "root:" not in answer.text
            if answer.status_code >= 400:
                assert len(answer.text) < 200_000
    assert_unharmed(http, photos)


@pytest.mark.parametrize("index", [10**6, -1, "0", None, 1.5, [0]])
def test_an_example_that_does_not_exist(http: httpx.Client, index: object):
    answer = http.post("/gradio_api/run/choose", json={"data": [], "event_data": {"index": index}, "session_hash": "s"})
    assert answer.status_code == 500
    assert "15 photos to choose from" in answer.json()["error"]


def test_every_answer_carries_the_headers(http: httpx.Client):
    for path in ("/", "/config", "/health", "/theme.css", "/nowhere", "/gradio_api/file=/etc/passwd"):
        headers = http.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["connect-src"] == "'self'"
        assert policy["object-src"] == "'none'"
        assert "http:" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "microphone=()" in headers["permissions-policy"]


def test_no_documentation_is_served_that_loads_from_elsewhere(http: httpx.Client):
    for path in ("/docs", "/redoc"):
        answer = http.get(path)
        assert "jsdelivr" not in answer.text
        assert "cdn" not in answer.text


def test_uploads_are_not_logged(http: httpx.Client, attacked: Server, photos: Photos):
    path = send(http, photos.path("tabby", 33).read_bytes(), "my private photo.png")
    assert compare(http, {"path": path, "meta": {"_type": "gradio.FileData"}}).status_code == 200
    assert "private photo" not in attacked.log
    assert Path(path).parent.name not in attacked.log


def test_the_server_asks_nobody_outside(http: httpx.Client, attacked: Server, photos: Photos):
    assert_unharmed(http, photos)
    assert http.get("/gradio_api/info").status_code == 200
    assert attacked.outside_addresses == set()


def test_asking_outside_would_be_noticed(tmp_path: Path):
    """The record that the test above reads does hold what a process connects to and looks up."""
    (tmp_path / "sitecustomize.py").write_text(RECORDER)
    record = tmp_path / "connections"
    script = (
        "import socket\n"
        "with socket.socket() as s:\n    s.setblocking(False)\n    s.connect_ex(('192.0.2.1', 80))\n"
        "try:\n    socket.getaddrinfo('name.invalid', 80)\nexcept OSError:\n    pass\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CONNECTIONS_RECORD": str(record)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert set(record.read_text().split()) - AT_HOME == {"192.0.2.1", "name.invalid"}
