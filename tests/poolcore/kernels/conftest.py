"""Kernels run natively where a GPU is, else under Triton's interpreter on the processor (see tests/conftest.py)."""

import importlib

import numpy as np
import pytest
import torch

pytest.importorskip("triton")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def rounded_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter round fp32 to bf16 as a GPU does, to nearest even; by itself it cuts the bits off."""
    if torch.cuda.is_available():
        return
    interpreter = importlib.import_module("triton.runtime.interpreter")
    convert = interpreter._convert_float

    def rounded(data: np.ndarray, source: object, target: object, mode: object) -> np.ndarray:
        if str(source) == "fp32" and str(target) == "bf16":
            # The interpreter hands out single numbers, of no axes, as well.
            nearest = torch.from_numpy(np.atleast_1d(data)).to(torch.bfloat16).view(torch.int16)
            return nearest.numpy().view(np.uint16).reshape(data.shape)
        return convert(data, source, target, mode)

    monkeypatch.setattr(interpreter, "_convert_float", rounded)
