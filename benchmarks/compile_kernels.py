"""Compile every kernel as the library launches it, without a GPU: ``python -m benchmarks.compile_kernels``.

The library's own functions are called on empty tensors; instead of being launched, what they would launch is compiled
for each compute capability, so nothing is compiled that does not run, and nothing runs that is not compiled here. A
kernel that spills registers to memory, or takes more shared memory than a block may have, makes the exit status 1.
"""

import json
import math
import multiprocessing
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest import mock

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from poolcore.lift_filters import WAVELETS, FilterParts
from poolcore.window import make_window

RESULTS = Path(__file__).parent / "results" / "kernels.json"

# Shared memory that one block may ask for, by compute capability without its dot.
SHARED_KIB = {75: 64, 80: 163, 86: 99, 90: 227, 100: 227}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16, "fp64": torch.float64}
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
WINDOWS = {"2d-2/2/0": (2, 2, 0, 2), "2d-3/2/1": (3, 2, 1, 2), "2d-7/2/3": (7, 2, 3, 2), "3d-2/2/0": (2, 2, 0, 3)}
SHAPES = {1: (8, 64, 3136), 2: (8, 64, 56, 56), 3: (4, 64, 8, 56, 56)}


class Case(NamedTuple):
    """A call of the library whose kernels are compiled.

    Attributes:
        name: like ``soft-2d-2/2/0-bf16-nhwc-backward``.
        device: whose row of blocks.json is followed; None for the plain choice.
    """

    name: str
    device: str | None = None

    def run(self) -> None:
        """Make the call."""
        _CALLS[self.name]()


def _empty(dtype: str, layout: str, rank: int, parts: int = 1) -> Tensor:
    """Return an input, or of LiftUp's bands one, half as large along each axis."""
    N, C, *size = SHAPES[rank]
    x = torch.empty(N, C, *(n // parts for n in size), dtype=DTYPES[dtype])
    return x.to(memory_format=CHANNELS_LAST[x.dim()]) if layout == "nhwc" else x


def _weighted_calls() -> Iterator[tuple[str, Callable[[], None]]]:
    from poolcore.kernels import weighted

    def call(window: tuple[int, int, int, int], dtype: str, layout: str, kind: str, direction: str) -> None:
        *arguments, rank = window
        checked = make_window(*arguments, rank=rank)
        x = _empty(dtype, layout, rank)
        logit = x if kind == "lip" else None
        if direction == "forward":
            weighted.weighted_pool(x, logit, checked)
            return
        grad = x.new_empty((*x.shape[:2], *checked.output_size(x.shape[2:])))
        if layout == "nhwc":
            grad = grad.to(memory_format=CHANNELS_LAST[x.dim()])
        with mock.patch.object(weighted, "MARCHED_FROM", 0 if direction == "marched" else math.inf):
            weighted.weighted_pool_backward(grad, x, logit, checked)

    for dtype in DTYPES:
        for name, window in WINDOWS.items():
            for layout in ("nhwc", "nchw"):
                for kind in ("soft", "lip"):
                    directions = ["forward"] if dtype == "fp64" else ["forward", "backward"]
                    # A backward pass over many cells goes through rows of them where windows share rows.
                    directions += ["marched"] if dtype != "fp64" and name == "2d-3/2/1" else []
                    for direction in directions:
                        full = f"{kind}-{name}-{dtype}-{layout}-{direction}"
                        yield full, lambda a=(window, dtype, layout, kind, direction): call(*a)  # type: ignore[misc]


def _filters(name: str) -> tuple[FilterParts, FilterParts]:
    if name in WAVELETS:
        predict, update = (FilterParts(torch.tensor([taps])) for taps in WAVELETS[name])
        return predict, update
    number = torch.empty(64)
    parts = FilterParts(torch.empty(64, int(name.removeprefix("k"))), number, number, number)
    return parts, parts


def _lift_calls() -> Iterator[tuple[str, Callable[[], None]]]:
    from poolcore.kernels import lift

    def call(rank: int, filters: str, dtype: str, layout: str, what: str, backward: bool) -> None:
        predict, update = _filters(filters)
        is_learned = filters not in WAVELETS
        x = _empty(dtype, layout, rank)
        if what != "up":
            combine: Any = None if what == "bands" else "mean"
            y = lift.lift_down(x, predict, update, "replicate", combine)
            if backward:
                lift.lift_down_backward(y, x, predict, update, "replicate", combine, True, is_learned)
            return
        bands = [_empty(dtype, layout, rank, parts=2) for _ in range(2**rank)]
        if backward:
            lift.lift_up_backward(x, bands, x.shape[2:], predict, update, "replicate", True, is_learned)
        else:
            lift.lift_up(bands, x.shape[2:], predict, update, "replicate")

    for dtype in DTYPES:
        for rank in (2, 1):
            for filters in ("k5", "k3", "k7", *WAVELETS):
                for layout in ("nhwc", "nchw") if rank == 2 else ("nchw",):
                    for what in ("mean", "bands", "up"):
                        for backward in (False,) if dtype == "fp64" else (False, True):
                            direction = "backward" if backward else "forward"
                            full = f"lift-{rank}d-{filters}-{what}-{dtype}-{layout}-{direction}"
                            yield full, lambda a=(rank, filters, dtype, layout, what, backward): call(*a)  # type: ignore[misc]


_CALLS: dict[str, Callable[[], None]] = {}


def all_cases() -> list[Case]:
    """Return every case: those of the plain choice, then those of each device of blocks.json."""
    from poolcore.kernels import blocks

    if not _CALLS:
        _CALLS.update(_weighted_calls())
        _CALLS.update(_lift_calls())
    tuned = [device for device, rows in json.loads(blocks.TABLE.read_text()).items() if rows]
    return [Case(name, device) for device in (None, *tuned) for name in _CALLS]


class _StandIn:
    """Triton's driver of a GPU that is not there; each capability is a device of its own."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        return self._capability

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled(NamedTuple):
    """What a kernel takes: registers of a thread, bytes of a block's shared and a thread's local memory, ...

    Attributes:
        load_bits: how many loads of each width from global memory one thread has: "8x128 2x32".
        seconds: that compiling took.
    """

    kernel: str
    case: str
    capability: int
    device: str | None
    warps: int
    registers: int
    shared: int
    local: int
    load_bits: str
    seconds: float
    key: str

    @property
    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        most = SHARED_KIB[self.capability] * 1024
        # fp64 is there to hold other dtypes against, not for speed.
        if self.local and "fp64" not in self.case:
            return f"it keeps {self.local} bytes a thread in local memory, must be 0"
        if self.shared > most:
            return f"it takes {self.shared} bytes of shared memory, must be at most {most}"
        return None


def _load_bits(ptx: str) -> str:
    widths: Counter[int] = Counter()
    for count, bits in re.findall(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[bfsu](\d+)\b", ptx):
        widths[int(count or 1) * int(bits)] += 1
    return " ".join(f"{number}x{width}" for width, number in sorted(widths.items(), reverse=True))


def _usage(cubin: bytes) -> dict[str, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told)}


@contextmanager
def _noting(case: Case, capability: int, found: list[Compiled]) -> Iterator[None]:
    """Compile launches instead of making them, and note what came out."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    run = JITFunction.run

    def compile_only(function: Any, *args: Any, grid: Any, warmup: bool, **flags: Any) -> Any:
        begun = time.perf_counter()
        kernel = run(function, *args, grid=grid, warmup=True, **flags)
        seconds = time.perf_counter() - begun
        usage = _usage(kernel.asm["cubin"])
        found.append(
            Compiled(
                kernel=function.__name__,
                case=case.name,
                capability=capability,
                device=case.device,
                warps=kernel.metadata.num_warps,
                registers=usage["REG"],
                shared=kernel.metadata.shared,
                local=usage["STACK"] + usage["LOCAL"],
                load_bits=_load_bits(kernel.asm["ptx"]),
                seconds=round(seconds, 2),
                key=kernel.hash,
            )
        )
        return kernel

    driver.set_active(_StandIn(capability))  # only these three methods are asked
    with mock.patch.object(JITFunction, "run", compile_only):
        yield


def compile_case(case: Case, capability: int) -> list[Compiled]:
    """Return what the case's launches are compiled to."""
    from benchmarks.tune import using_rows
    from poolcore.kernels import blocks

    all_cases()
    rows = json.loads(blocks.TABLE.read_text())[case.device] if case.device else {}
    found: list[Compiled] = []
    with _noting(case, capability, found), using_rows(rows):
        case.run()
    return found


def compile_all(cases: Sequence[Case], capabilities: Sequence[int], processes: int) -> Iterator[Compiled]:
    """Yield every kernel that the cases launch, once for each capability, as they come."""
    known: set[str] = set()
    tasks = [(case, capability) for capability in capabilities for case in cases]
    # A folder of its own, so that the seconds are those of compiling.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            pending = [pool.submit(compile_case, *task) for task in tasks]
            for done in tqdm(as_completed(pending), total=len(pending), desc="compiling", mininterval=10, disable=None):
                for kernel in done.result():
                    if kernel.key not in known:
                        known.add(kernel.key)
                        yield kernel


def _as_json(kernels: Sequence[Compiled], seconds: float) -> str:
    import triton

    fields = [name for name in Compiled._fields if name != "key"]
    rows = [json.dumps([getattr(kernel, name) for name in fields]) for kernel in kernels]
    head = {"torch": torch.__version__, "triton": triton.__version__, "seconds": round(seconds), "fields": fields}
    # One row a line, so that a change of one kernel is a change of one line.
    return json.dumps(head, indent=1)[:-2] + ',\n "kernels": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


def main(
    only: Annotated[list[str] | None, typer.Option(help="Parts of names of cases; all of one must be in it.")] = None,
    capability: Annotated[list[int] | None, typer.Option(help="Compute capabilities without the dot.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="That compile at the same time.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Where the JSON goes; with --only nowhere by itself.")] = None,
) -> None:
    """Compile the kernels, print what they take, and write it as JSON."""
    capabilities = capability or list(SHARED_KIB)
    unknown = set(capabilities) - set(SHARED_KIB)
    if unknown:
        raise typer.BadParameter(f"capability must be among {sorted(SHARED_KIB)}, got {sorted(unknown)}")
    cases = [case for case in all_cases() if not only or any(set(o.split()) <= _words(case.name) for o in only)]
    if not cases:
        raise typer.BadParameter(f"only must name a case such as {all_cases()[0].name!r}, got {only}")
    begun = time.perf_counter()
    kernels = []
    for kernel in compile_all(cases, capabilities, processes):
        kernels.append(kernel)
        print(
            f"{kernel.capability:4} {kernel.kernel:24} {kernel.case:44} {kernel.warps} warps",
            f"{kernel.registers:4} registers {kernel.shared:6} shared {kernel.local:4} local",
            f"loads {kernel.load_bits:24} {kernel.seconds:5.1f} s",
            flush=True,
        )
    seconds = time.perf_counter() - begun
    kernels.sort(key=lambda kernel: (kernel.capability, kernel.kernel, kernel.case))
    if output is None and not only and not capability:
        output = RESULTS
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(_as_json(kernels, seconds))
    faults = [kernel for kernel in kernels if kernel.fault]
    print(f"{len(kernels)} kernels of {len(cases)} cases in {seconds:.0f} s, {len(faults)} at fault")
    for kernel in faults:
        print(f"{kernel.kernel} ({kernel.case}) for {kernel.capability}: {kernel.fault}")
    raise typer.Exit(1 if faults else 0)


def _words(name: str) -> set[str]:
    return set(name.split("-"))


if __name__ == "__main__":
    typer.run(main)
