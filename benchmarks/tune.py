"""Find the weighted family's best tiles on the GPU that runs this: ``python -m benchmarks.tune``.

Writes poolcore/kernels/blocks.json. For each kernel name that the library asks for, candidates run in random order in
each round, over SoftPool and LIP alike, and the one with the lowest median of times against the plain choice's wins.
Names that the table has for this device are left as they are, so a run that its budget cut short goes on at the next.
"""

import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, NamedTuple
from unittest import mock

import torch
import typer
from torch import Tensor

from benchmarks.rounds import CudaClock, ProcessorClock, run_rounds
from poolcore.window import Window, make_window

MADE_BY = "made by python -m benchmarks.tune"
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
WINDOWS = (make_window(2), make_window(3, 2, 1), make_window(2, rank=3), make_window(7, 2, 3))
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

# Elements of a tile, the most along the densest axis, warps.
CANDIDATES = tuple(
    (elements, longest, warps)
    for elements, longest, warps in itertools.product((256, 512, 1024, 2048), (32, 64, 128), (2, 4, 8))
    if 2 <= elements // (32 * warps) <= 8
)


class Asked(NamedTuple):
    """What a kernel asked a tile for."""

    kernel: str
    inner_size: int
    elements: int


@contextmanager
def using_rows(rows: Mapping[str, Sequence[int]]) -> Iterator[list[Asked]]:
    """Let the kernels take the tiles of these rows of a table, whatever the device; yield what they ask for."""
    from poolcore.kernels import blocks, weighted

    asked: list[Asked] = []
    # Only a tensor on a GPU is looked up, and where kernels are just compiled there is none.
    on_a_gpu = SimpleNamespace(is_cuda=True, device=SimpleNamespace(index=0))
    choose = blocks.choose_block

    def noted(kernel: str, x: Tensor, inner_size: int, elements: int) -> blocks.Block:
        asked.append(Asked(kernel, inner_size, elements))
        return choose(kernel, on_a_gpu, inner_size, elements)  # type: ignore[arg-type]  # see above

    table = mock.patch.object(blocks, "_device_rows", return_value=rows)
    with table, mock.patch.object(weighted, "choose_block", noted):
        yield asked


class Call(NamedTuple):
    """A call of the library that asks for one tile, and the name that it asks for."""

    asked: Asked
    run: Callable[[], object]


def _calls(window: Window, dtype: torch.dtype, channels_last: bool, device: str, numel: int) -> Iterator[Call]:
    from poolcore.kernels import weighted

    size = {2: (112, 112), 3: (16, 56, 56)}[window.rank] if device == "cuda" else (6,) * window.rank
    channels = 64 if device == "cuda" else 4
    N = max(1, numel // (channels * torch.Size(size).numel()))
    x, logit = (torch.randn(N, channels, *size, device=device, dtype=dtype) for _ in range(2))
    grad = torch.randn(N, channels, *window.output_size(size), device=device, dtype=dtype)
    if channels_last:
        x, logit, grad = (value.to(memory_format=CHANNELS_LAST[x.dim()]) for value in (x, logit, grad))
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


def _distinct(asked: Asked) -> dict[tuple[int, ...], tuple[int, int, int]]:
    """Return the candidates that give different tiles here, the plain function's first."""
    from poolcore.kernels import blocks

    def block(elements: int, longest: int, warps: int) -> tuple[int, ...]:
        inner = min(1 << (asked.inner_size - 1).bit_length(), longest, elements)
        return elements // inner, inner, warps

    plain = blocks.plain_block(asked.elements, asked.inner_size)
    candidates = ((asked.elements, 128, plain.warps), *CANDIDATES)
    return {block(*candidate): candidate for candidate in reversed(candidates)}


def tune(calls: Sequence[Call], clock: Callable[[Callable[[], object]], float], rounds: int) -> tuple[int, int, int]:
    """Return the best (elements, longest, warps) for calls that ask for the same name."""
    asked = calls[0].asked
    plain = (asked.elements, 128, max(1, min(4, asked.elements // 64)))
    candidates = [plain, *(c for c in _distinct(asked).values() if c != plain)]

    def once(candidate: tuple[int, int, int], call: Call) -> Callable[[], object]:
        def run() -> object:
            with using_rows({asked.kernel: candidate}):
                return call.run()

        return run

    ratios: dict[tuple[int, int, int], list[float]] = {candidate: [] for candidate in candidates}
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
    for dtype, window, channels_last in itertools.product(DTYPES[:1] if toy else DTYPES, WINDOWS, (True, False)):
        if toy and window not in WINDOWS[:1]:
            continue
        by_name: dict[str, list[Call]] = {}
        for call in _calls(window, dtype, channels_last, device, 0 if toy else 2**27):
            by_name.setdefault(call.asked.kernel, []).append(call)
        for kernel, calls in by_name.items():
            if kernel in rows:
                continue
            if time.perf_counter() - begun > budget_s:
                print(f"the budget is spent; {kernel} and what follows waits for the next run")
                return
            rows[kernel] = tune(calls, clock, rounds)
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
