"""Find the kernels' best tiles on the GPU that runs this: ``python -m benchmarks.tune``.

Writes poolcore/kernels/blocks.json. For each kernel name that the library asks for, of the weighted family (SoftPool
and LIP) and of LiftPool, candidates run in random order in each round, over all calls that ask for the name, and the
one with the lowest median of times against the plain choice's wins. Where a call of LiftPool launches several kernels,
all of it is timed, and each of them tuned by itself.
Names that the table has for this device are left as they are, so a run that its budget cut short goes on at the next.
"""

import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest import mock

import torch
import typer
from torch import Tensor

from benchmarks.rounds import Clock, CudaClock, ProcessorClock, run_rounds
from poolcore.lift_filters import FilterParts
from poolcore.window import Window, make_window

MADE_BY = "made by python -m benchmarks.tune"
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
WINDOWS = (make_window(2), make_window(3, 2, 1), make_window(2, rank=3), make_window(7, 2, 3))
TAPS = (5, 3)
# What is run through without a GPU: a window of the weighted family, and a filter of one tap.
TOYS = (WINDOWS[0], 1)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

Row = tuple[int, ...]

# Rows of the weighted family: elements of a tile, the most along the densest axis, warps.
WEIGHTED_CANDIDATES: tuple[Row, ...] = tuple(
    (elements, longest, warps)
    for elements, longest, warps in itertools.product((256, 512, 1024, 2048), (32, 64, 128), (2, 4, 8))
    if 2 <= elements // (32 * warps) <= 8
)

# Of LiftPool: elements of a tile, the most channels, warps. Windows fill the registers, so a lane has few elements.
PAIR_CANDIDATES: tuple[Row, ...] = tuple(
    (elements, channels, warps)
    for elements, channels, warps in itertools.product((128, 256, 512), (32, 64), (2, 4, 8))
    if 1 <= elements // (32 * warps) <= 2
)
# Those of its kernels that go along an axis: also the most places of a segment.
SEGMENT_CANDIDATES: tuple[Row, ...] = tuple((*row, segment) for row in PAIR_CANDIDATES for segment in (32, 64))


class Asked(NamedTuple):
    """What a kernel asked a tile for: its name, its plain row, and what makes a row its tile."""

    kernel: str
    plain: Row
    fit: Callable[[Row], object]

    @property
    def candidates(self) -> list[Row]:
        """The plain row and those that give other tiles, each another."""
        is_lift = self.kernel.startswith("lift")
        others = (SEGMENT_CANDIDATES if len(self.plain) > 3 else PAIR_CANDIDATES) if is_lift else WEIGHTED_CANDIDATES
        by_tile: dict[object, Row] = {}
        for row in (self.plain, *others):
            by_tile.setdefault(self.fit(row), row)
        return list(by_tile.values())


@contextmanager
def using_rows(rows: Mapping[str, Sequence[int]]) -> Iterator[list[Asked]]:
    """Let the kernels take the tiles of these rows of a table, whatever the device; yield what they ask for."""
    from poolcore.kernels import blocks, lift, weighted

    asked: list[Asked] = []

    def noted(kernel: str, x: Tensor, plain: Row, fit: Callable[[Row], Any]) -> Any:
        name = blocks.name_in_table(kernel, x)
        asked.append(Asked(name, plain, fit))
        return fit(blocks.check_row(name, rows.get(name, plain), plain))

    with mock.patch.object(weighted, "choose_block", noted), mock.patch.object(lift, "choose_block", noted):
        yield asked


class Call(NamedTuple):
    """A call of the library, and one of the tiles that it asks for."""

    asked: Asked
    run: Callable[[], object]


def _make(device: str, dtype: torch.dtype, channels_last: bool, shape: Sequence[int]) -> Tensor:
    x = torch.randn(*shape, device=device, dtype=dtype)
    return x.to(memory_format=CHANNELS_LAST[x.dim()]) if channels_last else x


def _shape(rank: int, device: str, numel: int) -> tuple[int, ...]:
    """Return the shape (N, C, *size) of an input of about so many elements."""
    size = {2: (112, 112), 3: (16, 56, 56)}[rank] if device == "cuda" else (4,) * rank
    channels = 64 if device == "cuda" else 2
    return max(1, numel // (channels * math.prod(size))), channels, *size


def _weighted_calls(window: Window, dtype: torch.dtype, channels_last: bool, device: str, numel: int) -> Iterator[Call]:
    from poolcore.kernels import weighted

    shape = _shape(window.rank, device, numel)
    x, logit = (_make(device, dtype, channels_last, shape) for _ in range(2))
    grad = _make(device, dtype, channels_last, (*shape[:2], *window.output_size(shape[2:])))
    runs: list[Callable[[], object]] = [
        lambda: weighted.weighted_pool(x, None, window),
        lambda: weighted.weighted_pool(x, logit, window),
        lambda: weighted.weighted_pool_backward(grad, x, None, window),
        lambda: weighted.weighted_pool_backward(grad, x, logit, window),
    ]
    for run in runs:
        with using_rows({}) as asked:
            run()
        # A backward pass over a large window sums its windows first; what it asks for last is its own.
        yield Call(asked[-1], run)


def _lift_calls(taps: int, dtype: torch.dtype, channels_last: bool, device: str, numel: int) -> Iterator[Call]:
    from poolcore.kernels import lift

    N, C, H, W = _shape(2, device, numel)
    half = N, C, H // 2, W // 2
    x = _make(device, dtype, channels_last, (N, C, H, W))
    bands = [_make(device, dtype, channels_last, half) for _ in range(4)]
    p, u = (
        FilterParts(torch.randn(C, taps, device=device) / taps, *(torch.randn(C, device=device) for _ in range(3)))
        for _ in range(2)
    )
    runs: list[Callable[[], object]] = [
        lambda: lift.lift_down(x, p, u, "replicate", "mean"),
        lambda: lift.lift_down(x, p, u, "replicate", None),
        lambda: lift.lift_up(bands, (H, W), p, u, "replicate"),
        lambda: lift.lift_down_backward(bands[0], x, p, u, "replicate", "mean", True, True),
        lambda: lift.lift_up_backward(x, bands, (H, W), p, u, "replicate", True, True),
    ]
    for run in runs:
        with using_rows({}) as asked:
            run()
        for one in {one.kernel: one for one in asked}.values():
            yield Call(one, run)


def tune(calls: Sequence[Call], clock: Clock, rounds: int, most: int | None = None) -> Row:
    """Return the best row for calls that ask for the same name, of so many candidates at most."""
    kernel, plain = calls[0].asked.kernel, calls[0].asked.plain
    candidates = calls[0].asked.candidates[:most]

    def once(candidate: Row, call: Call) -> Callable[[], object]:
        def run() -> object:
            with using_rows({kernel: candidate}):
                return call.run()

        return run

    ratios: dict[Row, list[float]] = {candidate: [] for candidate in candidates}
    for call in calls:
        seen = run_rounds({str(c): once(c, call) for c in candidates}, clock, rounds)
        for candidate in candidates:
            ratios[candidate] += [times[str(candidate)] / times[str(plain)] for times in seen]
    return min(candidates, key=lambda candidate: statistics.median(ratios[candidate]))


def main(
    budget_s: Annotated[float, typer.Option(help="Seconds after which no further kernel is begun.")] = 480,
    rounds: Annotated[int, typer.Option(min=1)] = 30,
    output: Annotated[Path | None, typer.Option(help="The table; by itself the library's.")] = None,
    toy: Annotated[bool, typer.Option(help="Run through on the processor, under Triton's interpreter.")] = False,
) -> None:
    """Tune every kernel name for this device and write the table after each."""
    if toy:
        if output is None:
            raise typer.BadParameter("output must be given with --toy: what it finds means nothing")
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    elif not torch.cuda.is_available():
        raise typer.BadParameter("a GPU is needed to tune for it; --toy tries the script without one")
    from poolcore.kernels import blocks

    path = output or blocks.TABLE
    table: dict[str, dict[str, Sequence[int]]] = {MADE_BY: {}}
    if path.exists():
        table |= json.loads(path.read_text())
    device, name = ("cpu", "interpreter") if toy else ("cuda", torch.cuda.get_device_name())
    clock = ProcessorClock() if toy else CudaClock()
    rows = table.setdefault(name, {})
    begun = time.perf_counter()
    dtypes, poolings = (DTYPES[:1], TOYS) if toy else (DTYPES, (*WINDOWS, *TAPS))
    for dtype, pooling, channels_last in itertools.product(dtypes, poolings, (True, False)):
        by_name: dict[str, list[Call]] = {}
        how = dtype, channels_last, device, 0 if toy else 2**27
        for call in _weighted_calls(pooling, *how) if isinstance(pooling, Window) else _lift_calls(pooling, *how):
            by_name.setdefault(call.asked.kernel, []).append(call)
        for kernel, calls in by_name.items():
            if kernel in rows:
                continue
            if time.perf_counter() - begun > budget_s:
                print(f"the budget is spent; {kernel} and what follows waits for the next run")
                return
            rows[kernel] = tune(calls, clock, rounds, most=2 if toy else None)
            print(kernel, *rows[kernel])
            path.write_text(as_json(table))


def as_json(table: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """Return the table with a kernel a line."""
    devices = [
        f" {json.dumps(device)}: {{"
        + ",".join(f"\n  {json.dumps(kernel)}: {json.dumps(list(row))}" for kernel, row in rows.items())
        + ("\n }" if rows else "}")
        for device, rows in table.items()
    ]
    return "{\n" + ",\n".join(devices) + "\n}\n"


if __name__ == "__main__":
    typer.run(main)
