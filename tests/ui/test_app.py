"""The way in: options, their errors, and how the process ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "app.py", *options],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_help_lists_every_option_and_the_environment() -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for word in ("--host", "--port", "--networks", "--device", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--port", "99999"], "65535"), (["--port", "http"], "integer"), (["--gpu"], "--gpu"), (["x.jpg"], "x.jpg")],
)
def test_a_bad_option_is_named(options: list[str], words: str) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_port_in_the_environment_is_named() -> None:
    done = run(GRADIO_SERVER_PORT="seven")
    assert done.returncode == 2
    assert "GRADIO_SERVER_PORT" in done.stderr
    assert "integer" in done.stderr


def test_a_network_that_does_not_exist_is_answered_by_those_that_do() -> None:
    done = run("--networks", "swin", "--port", str(free_port()))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "swin" in done.stderr
    for variant in ("stock", "max", "avg", "soft", "lip", "lift"):
        assert variant in done.stderr


def test_a_port_that_is_taken_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert done.stderr.startswith("PoolScope cannot start: cannot listen at 127.0.0.1")
    assert "Traceback" not in done.stderr


def test_ended_while_loading_it_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, ROOT / "app.py", "--port", str(free_port())],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "GRADIO_TEMP_DIR"} | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("poolscope-*")):
            assert time.monotonic() < deadline, "no folder for uploads"
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("poolscope-*"))
