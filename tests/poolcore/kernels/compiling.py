"""Compile the kernels that a call would launch, for any GPU and without one, and tell what they take.

Triton's interpreter must be off, which is decided when Triton is imported: tests run this file as a program.
"""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from poolcore.kernels import lift
from poolcore.lift_filters import FilterParts

CUOBJDUMP = Path(triton.__file__).with_name("backends") / "nvidia/bin/cuobjdump"


def compiled(kernel: Any, args: tuple[Any, ...], flags: dict[str, Any], capability: int) -> dict[str, int]:
    """Compile a kernel as a launch with these arguments would; return registers, stack and local bytes of a thread."""
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    bound, specialization, options = create_function_from_signature(kernel.signature, kernel.params, backend)(
        *args, debug=False, instrumentation_mode="", **flags
    )
    flags = {**flags, "debug": False, "instrumentation_mode": ""}
    options, signature, constants, attributes = kernel._pack_args(backend, flags, bound, specialization, options)
    source = ASTSource(kernel, signature, constants, attributes)
    result = triton.compile(source, target=target, options=options.__dict__)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(result.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}


@contextmanager
def launches_of(module: ModuleType, *names: str) -> Iterator[list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]]]:
    """Note launches of the module's kernels instead of running them, each as name, kernel, arguments and flags."""
    noted: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []

    class Noted:
        def __init__(self, name: str, kernel: Any) -> None:
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *args, **flags: noted.append((self.name, self.kernel, args, flags))

    with mock.patch.multiple(module, **{name: Noted(name, getattr(module, name)) for name in names}):
        yield noted


def _calls(dtype: torch.dtype, taps: int, layout: str, combine: Any) -> None:
    x = torch.empty(2, 64, 64, 64, dtype=dtype, device="meta")
    if layout == "nhwc":
        x = x.to(memory_format=torch.channels_last)
    bias = torch.empty(64, device="meta")
    filters = (FilterParts(torch.empty(64, taps, device="meta"), bias, bias, bias),) * 2
    y = lift.lift_down(x, *filters, "replicate", combine)
    lift.lift_down_backward(y, x, *filters, "replicate", combine, True, True)
    if combine is None:
        lift.lift_up(list(y), (64, 64), *filters, "replicate")
        lift.lift_up_backward(x, list(y), (64, 64), *filters, "replicate", True, True)


def main() -> None:
    """Print a line for each launch: ``[--one] CAPABILITY...``, with --one in one dtype and layout alone."""
    arguments = sys.argv[1:]
    cases = list(itertools.product((torch.bfloat16, torch.float32), ("nhwc", "nchw"), (None, "mean")))
    if "--one" in arguments:
        arguments.remove("--one")
        cases = cases[:1]
    for dtype, layout, combine in cases:
        with launches_of(lift, "lift_kernel", "lift_image_kernel", "lift_backward_kernel") as noted:
            _calls(dtype, 5, layout, combine)
        for capability, (name, kernel, args, flags) in itertools.product(map(int, arguments), noted):
            row = {"kernel": name, "capability": capability, "case": f"{dtype} {layout} {combine}", "flags": str(flags)}
            print(json.dumps(row | compiled(kernel, args, flags, capability)), flush=True)  # noqa: T201  # its result


if __name__ == "__main__":
    main()
