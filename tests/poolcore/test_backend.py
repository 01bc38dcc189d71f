"""What serves where, and that nothing that a machine may lack is needed to find out."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from poolcore import Backend, backend, use_reference

# The package's name for the function hides the module's.
MODULE = importlib.import_module("poolcore.backend")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    MODULE._found.cache_clear()
    yield
    MODULE._found.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with an NVIDIA GPU, as far as PyTorch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    return monkeypatch


def probe(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def run_probe() -> None:
        if error is not None:
            raise error

    monkeypatch.setitem(sys.modules, "poolcore.kernels.probe", SimpleNamespace(run_probe=run_probe))


def test_without_a_gpu_the_reference_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(backend()) == "reference: PyTorch sees no CUDA device"


def test_where_the_probe_runs_triton_serves(gpu: pytest.MonkeyPatch) -> None:
    probe(gpu, None)
    assert backend() == Backend("triton", "Some GPU, compute capability 9.0")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler."),
        PermissionError(13, "Permission denied"),
        subprocess.CalledProcessError(1, ["cc"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_triton_cannot_build_the_reference_serves_and_says_why(gpu: pytest.MonkeyPatch, error: Exception) -> None:
    probe(gpu, error)
    name, reason = backend()
    assert name == "reference"
    assert reason == f"Triton cannot run a kernel here: {error}"


def test_the_probe_runs_once(gpu: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    gpu.setitem(sys.modules, "poolcore.kernels.probe", SimpleNamespace(run_probe=lambda: runs.append(1)))
    backend()
    backend()
    assert runs == [1]


def test_old_and_foreign_gpus_are_served_by_the_reference(gpu: pytest.MonkeyPatch) -> None:
    probe(gpu, None)
    gpu.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert backend() == Backend("reference", "kernels need compute capability 7.5, Some GPU has 7.0")
    MODULE._found.cache_clear()
    gpu.setattr(torch.version, "hip", "6.0")
    assert backend() == Backend("reference", "the kernels are checked on NVIDIA's GPUs alone, this is AMD's")


def test_without_triton_the_reference_serves(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr("importlib.util.find_spec", lambda name: None)
    assert backend() == Backend("reference", "Triton is not installed")


def test_use_reference_holds_within_its_block_alone(gpu: pytest.MonkeyPatch) -> None:
    probe(gpu, None)
    with use_reference():
        assert backend().name == "reference"
        # A backward pass asks on a thread of autograd's own.
        with ThreadPoolExecutor(1) as other:
            assert other.submit(backend).result().name == "reference"
    assert backend().name == "triton"


def test_the_library_works_without_triton_and_without_a_compiler() -> None:
    """In a process that can import no Triton and finds no program at all."""
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import torch, poolcore
x = torch.randn(1, 2, 4, 4, requires_grad=True)
poolcore.LiftDownPool2d(2, combine="mean")(poolcore.soft_pool2d(x, 2)).sum().backward()
assert x.grad is not None and "triton" not in sys.modules
print(poolcore.backend().name)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert run.stdout == "reference\n", run.stderr
