"""The ground: environment, packaging, container, licences. Each claim is held against the files or by running them."""

import http.server
import importlib.metadata
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement

from scripts.chromium import NAMES, find_chromium

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[0-9][0-9a-z.]*)\s+# \S.*")
MIB = 2**20


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
   # Under `make test` a make that is run here would take itself for a part of that one and say so in its output.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment["COLUMNS"] = "200"
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="session")
def tracked() -> list[str]:
    """Every path in git that lies in the working tree, relative to the root."""
    listed = run("git", "ls-files", "-z", cwd=ROOT)
    assert listed.returncode == 0, listed.stderr
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


def copy_tracked(tracked: list[str], sources: list[str], target: Path) -> None:
    """Copy those files in git that lie under the sources, and nothing that git ignores."""
    for path in tracked:
        if any(path == source or path.startswith(f"{source}/") for source in sources):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, target / path)


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a requirements file; any other line than a pin with its reason fails."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "-r "))]
    found = [PIN.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match["name"].lower(): match["version"] for match in found if match}


# Requirements and package


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_exact_explained_and_installed(name: str) -> None:
    wanted = pins(name)
    installed = {package: importlib.metadata.version(package) for package in wanted}
   # PyTorch's builds for CPUs add "+cpu" to the version that is pinned.
    assert {package: version.partition("+")[0] for package, version in installed.items()} == wanted


def test_dev_requirements_include_the_page() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_package_needs_torch_alone_in_the_version_that_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [Requirement(line) for line in project["dependencies"]]
    assert [requirement.name for requirement in needed] == ["torch"]
    assert needed[0].specifier.contains(pins("requirements.txt")["torch"])


def test_install_gives_poolcore_alone(tracked: list[str], tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    copy_tracked(tracked, ["pyproject.toml", "LICENSE", "app.py", "poolcore", "models", "ui", "scripts"], source)
    done = run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index",
        "--target", target, source,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in target.iterdir() if path.suffix != ".dist-info") == ["poolcore"]

    installed = {str(path.relative_to(target)) for path in target.rglob("*") if path.suffix in {".py", ".typed"}}
    assert "poolcore/py.typed" in installed
    assert installed == {path for path in tracked if path.startswith("poolcore/") and path.endswith((".py", ".typed"))}

   # Imported from there, with everything that is not torch's own out of reach, it loads no room above it.
    seen = run(
        sys.executable, "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); import poolcore; print(poolcore.__file__); "
        "print([name for name in ('models', 'ui', 'gradio', 'plotly', 'PIL', 'torchvision') if name in sys.modules])",
        target, cwd=tmp_path,
    )
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.splitlines() == [str(target / "poolcore/__init__.py"), "[]"]


# Commands


def test_make_lists_its_commands() -> None:
    listed = run("make", cwd=ROOT)
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "help", "run", "test", "test-long", "lint", "mutations", "bench", "kernels", "bench-gpu", "tune",
    ]


def test_make_run_passes_host_and_port_on() -> None:
    planned = run("make", "--dry-run", "run", "HOST=127.0.0.1", "PORT=8123", cwd=ROOT)
    assert "app.py --host 127.0.0.1 --port 8123" in planned.stdout


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("#!/bin/sh\nexit 1\n", "PoolScope needs Python 3.11 or later, found none under: {python}."),
        ('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n', "{python} has no ensurepip"),
    ],
    ids=["too-old", "no-ensurepip"],
)
def test_make_says_what_python_lacks(script: str, sentence: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python-of-the-test"
    python.write_text(script)
    python.chmod(0o755)
    done = run("make", ".venv/bin/pip", f"PYTHON={python}", cwd=tmp_path)
    assert done.returncode != 0
    assert sentence.format(python=python) in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", NAMES)
def test_chromium_is_found_under_each_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = tmp_path / name
    browser.touch(mode=0o755)
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() == browser


def test_chromium_that_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chromium", "mine"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "mine"))
    assert find_chromium() == tmp_path / "mine"
    (tmp_path / "mine").unlink()
    with pytest.raises(ValueError, match="CHROMIUM must name a browser that can be run, got"):
        find_chromium()


def test_ci_runs_tests_then_lint_and_stops_at_the_first_failure(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    makefile = tmp_path / "Makefile"

    makefile.write_text("test:\n\t@echo tested\nlint:\n\t@echo linted\n")
    passed = run("bash", tmp_path / ".ci/run")
    assert (passed.returncode, passed.stdout.split()) == (0, ["tested", "linted"])

    makefile.write_text("test:\n\t@exit 5\nlint:\n\t@echo linted\n")  # 5 is pytest's code for "no test ran"
    failed = run("bash", tmp_path / ".ci/run")
    assert failed.returncode != 0
    assert "linted" not in failed.stdout


# Container


def dockerfile(instruction: str) -> list[str]:
    """The arguments of each such instruction, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{instruction} ")]


@pytest.fixture(scope="session")
def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    words = [[word for word in line.split() if not word.startswith("--")] for line in dockerfile("COPY")]
    return [source for line in words for source in line[:-1]]


@pytest.fixture(scope="session")
def command() -> list[str]:
    """What the container runs."""
    [line] = dockerfile("CMD")
    return json.loads(line)


def test_container_copies_only_what_is_in_git(copied: list[str], tracked: list[str]) -> None:
    assert copied
    missing = [s for s in copied if s not in tracked and not any(path.startswith(f"{s}/") for path in tracked)]
    assert not missing


def test_dockerignore_lets_through_what_is_copied(copied: list[str]) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied)


def test_container_command_runs_from_the_copied_files(
    copied: list[str], command: list[str], tracked: list[str], tmp_path: Path
) -> None:
    copy_tracked(tracked, copied, tmp_path)
    assert command[0] == "python"
   # An unknown option is refused before --help is answered.
    done = run(sys.executable, *command[1:], "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for option in ["--host", "--port", "--networks", "--device", *command[2::2]]:
        assert re.search(rf"{option}\b", done.stdout), f"{option} is not in the help"
    refused = run(sys.executable, *command[1:], "--no-such-option", "--help", cwd=tmp_path)
    assert refused.returncode != 0


def test_container_serves_as_uid_1000_on_7860(command: list[str]) -> None:
    assert dockerfile("FROM") == ["python:3.11-slim"]
    assert any("useradd" in line and "--uid 1000 user" in line for line in dockerfile("RUN"))
    assert dockerfile("USER") == ["user"]
    assert dockerfile("EXPOSE") == ["7860"]
    assert command[-4:] == ["--host", "0.0.0.0", "--port", "7860"]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on a free port that answers /health with the status and anything else with 404."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_container_health_check_follows_the_answer(status: int, healthy: bool) -> None:
    [line] = dockerfile("HEALTHCHECK")
    check = json.loads(line.split(" CMD ")[1])
    with answering(status) as port:
        ported = [part.replace(":7860/", f":{port}/") for part in check]
        assert ported != check
        assert (run(sys.executable, *ported[1:]).returncode == 0) is healthy


# Spaces


def test_front_matter_fits_the_requirements(tracked: list[str]) -> None:
    _, front, _ = (ROOT / "README.md").read_text().split("---\n", 2)
    keys = yaml.safe_load(front)
    assert keys["sdk"] == "gradio"
    assert str(keys["sdk_version"]) == pins("requirements.txt")["gradio"]
    assert keys["python_version"] == "3.11", "in quotes, else YAML reads a number"
    assert keys["app_file"] == "app.py"
    assert keys["app_file"] in tracked
    assert keys["license"] == "mit"
    assert 0 < len(keys["short_description"]) <= 60
    assert keys["title"]


# Files


def test_each_weights_file_is_small_and_has_its_card(tracked: list[str]) -> None:
    weights = {path for path in tracked if path.endswith(".safetensors")}
    cards = {path for path in tracked if re.fullmatch(r"models/weights/[^/]+\.json", path)}
    assert weights, "no trained weights in git"
    assert {path.removesuffix(".safetensors") for path in weights} == {path.removesuffix(".json") for path in cards}
    assert all(path.startswith("models/weights/") for path in weights)
    sizes = {path: (ROOT / path).stat().st_size for path in weights}
    assert max(sizes.values()) < 10_000_000, sizes  # above that Spaces asks for LFS
    assert sum(sizes.values()) < 64 * MIB, sizes
    for card in cards:
        assert isinstance(json.loads((ROOT / card).read_text()), dict), card


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle by its name, its first bytes (protocol 2 and later), or as torch.save's zip of one."""
    if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"}:
        return True
    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80" and head[1:] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return True
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return False


def test_no_pickle_in_git(tracked: list[str], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps([1]))
    torch.save({"a": torch.zeros(1)}, tmp_path / "b")
    assert is_pickle(tmp_path / "a")
    assert is_pickle(tmp_path / "b")
    assert not [path for path in tracked if is_pickle(ROOT / path)]


# Put together from parts, so that this file does not hold what it forbids.
FORBIDDEN = [
    re.compile(rf"(?<![\w.~-])/{folder}/", re.IGNORECASE)
    for folder in ("wo" + "rk", "t" + "mp", "ro" + "ot", "opt/wh" + "eels", "opt/py" + "pi")
] + [
    re.compile(re.escape(name), re.IGNORECASE)
    for name in ("py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js.org", "deb.deb" + "ian.org")
]


def test_text_names_no_folder_of_one_machine(tracked: list[str]) -> None:
    found = []
    for path in tracked:
        data = (ROOT / path).read_bytes()
        if b"\0" in data:
            continue  # not text
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            found += [f"{path}:{number}: {pattern.pattern}" for pattern in FORBIDDEN if pattern.search(line)]
    assert not found


def test_licence_names_every_kind_of_content() -> None:
    text = " ".join((ROOT / "LICENSE").read_text().split())
    assert "Copyright (c) 2026 the PoolScope authors" in text
    assert "for research and education" in text
    assert "assets/CREDITS.md" in text
    assert (ROOT / "assets/CREDITS.md").is_file()
