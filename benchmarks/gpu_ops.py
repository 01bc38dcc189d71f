"""Time the poolings on a GPU against the memory's speed and their competitors: ``python -m benchmarks.gpu_ops``.

Every candidate is held against the formula in fp64 before it is timed, forward and backward; a wrong one is not timed.
The JSON is written after each row. README.md beside this file says what each figure includes.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor
from torch._functorch import config as autograd_of_compiled
from triton.errors import TritonError

from benchmarks.cases import Case, Pooling, make_case, run_backward
from benchmarks.machine import describe_gpu, describe_run
from benchmarks.roofline import OPERATIONS, Direction
from benchmarks.rounds import Call, Clock, CudaClock, HostClock, ProcessorClock, median_ratio, run_rounds, spread
from poolcore.backend import backend

RESULTS = Path(__file__).parent / "results" / "gpu_ops.json"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
LARGE_MIB, SMALL = 256, (1, 64, 112, 112)
SIZES = {1: (12544,), 2: (112, 112), 3: (16, 56, 56)}
RANKS = {"soft_pool1d 2/2/0": 1, "soft_pool3d 2/2/0": 3}
SMALL_OPERATIONS = ("soft_pool2d 2/2/0", "lip2d 3/2/1", "lift_down_pool2d mean")
LEAST_ROUNDS, MOST_ROUNDS = 30, 100
# Of the budget, the part after which nothing more is compiled by torch.compile: each takes seconds.
COMPILING = 0.5

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


class Setting(NamedTuple):
    """What a case is timed with."""

    operation: str
    shape: tuple[int, ...]
    dtype: str
    channels_last: bool

    @property
    def is_small(self) -> bool:
        """Whether it is about the time of a call, not of the memory."""
        return self.shape[0] == 1


def settings(toy: bool) -> list[Setting]:
    """Return what is timed, the most telling first."""
    small = [Setting(name, SMALL, "bf16", True) for name in SMALL_OPERATIONS]
    large = []
    for dtype in DTYPES:
        for channels_last in (True, False):
            for name in OPERATIONS:
                rank = RANKS.get(name, 2)
                if rank != 2 and (dtype != "bf16" or channels_last):
                    continue
                size = (64, *SIZES[rank])
                N = -(-LARGE_MIB * 2**20 // (torch.Size(size).numel() * DTYPES[dtype].itemsize))
                large.append(Setting(name, (N, *size), dtype, channels_last))
    if not toy:
        return small + large

    def tiny(setting: Setting) -> Setting:
        N, _, *size = setting.shape
        # A processor has no 3D poolings in bf16.
        return setting._replace(shape=(min(N, 3), 4, *[8 for _ in size]), dtype="fp32" if len(size) == 3 else "bf16")

    return [tiny(setting) for setting in small + large if setting.dtype == "bf16"]


def _tolerance(dtype: torch.dtype, is_ours: bool) -> float:
    """Ours rounds once; who computes in the dtype itself rounds a dozen times."""
    return torch.finfo(dtype).eps + 2e-5 if is_ours else 16 * torch.finfo(dtype).eps + 1e-4


def _calls(case: Case, poolings: dict[str, Pooling], direction: Direction) -> dict[str, Call]:
    """Return what is timed; the graphs of backward passes are made here, and kept by the calls."""
    image = case.image()
    calls: dict[str, Call] = {}
    for name, pooling in poolings.items():
        is_native = name.startswith("native")
        inputs = (image,) if is_native else case.inputs
        if direction == "forward":
            calls[name] = _without_graph(pooling, inputs)
            continue
        wanted = inputs if is_native else (*inputs, *case.parameters)
        y = pooling(*inputs)
        upstream = tuple(torch.randn_like(one) for one in y)
        calls[name] = lambda y=y, wanted=wanted, upstream=upstream: run_backward(y, wanted, upstream)  # type: ignore[misc]
    return calls


def _without_graph(pooling: Pooling, inputs: tuple[Tensor, ...]) -> Call:
    def call() -> object:
        with torch.no_grad():
            return pooling(*inputs)

    return call


def _replay(case: Case, direction: Direction) -> Call:
    """Return the replay of a CUDA graph of the case."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    stream.wait_stream(torch.cuda.current_stream())
    # A backward pass runs on the stream of its forward pass, so that is captured on the same one.
    with torch.cuda.stream(stream):
        call = _calls(case, {"ours": case.ours}, direction)["ours"]
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    kept = []
    with torch.cuda.graph(graph, stream=stream):
        kept.append(call())

    def replay(kept: list[object] = kept) -> object:
        graph.replay()
        return kept

    return replay


def _peak_mib(case: Case, pooling: Pooling, direction: Direction) -> float | None:
    """Return the most memory that a call has beyond its inputs; backward, with the forward pass before it."""
    if not case.inputs[0].is_cuda:
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    if direction == "forward":
        _without_graph(pooling, case.inputs)()
    else:
        y = pooling(*case.inputs)
        torch.autograd.grad(y, (*case.inputs, *case.parameters), tuple(torch.ones_like(one) for one in y))
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def sentence(error: Exception) -> str:
    """Return what an error says in its first line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _runs(pooling: Pooling, x: Tensor) -> None:
    """Raise a RuntimeError where PyTorch has no such pooling for such a tensor."""
    pooling(x)


def _copy(x: Tensor) -> Call:
    source = x.detach()
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


class Bench:
    """Times one setting after another."""

    def __init__(self, device: torch.device, budget_s: float, least_rounds: int, most_rounds: int) -> None:
        self._device, self._budget_s, self._began = device, budget_s, time.perf_counter()
        self._least, self._most = least_rounds, most_rounds
        self._is_cuda = device.type == "cuda"
        self._clock: Clock = CudaClock() if self._is_cuda else ProcessorClock()
        self.copy_gb_s = self._measure_copy_gb_s()

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget_s - (time.perf_counter() - self._began)

    def _measure_copy_gb_s(self) -> float:
        """Return the speed of a copy of 256 MiB, counting what it reads and what it writes."""
        source = torch.zeros(LARGE_MIB * 2**20 if self._is_cuda else 2**16, dtype=torch.uint8, device=self._device)
        seen = run_rounds({"copy": _copy(source)}, self._clock, self._least)
        return round(2 * source.nbytes / spread(seen, "copy").median / 1e6, 1)

    def rows(self, setting: Setting, rows_left: int) -> Iterator[dict[str, Any]]:
        """Yield a row for each direction."""
        torch.manual_seed(0)
        case = make_case(setting.operation, setting.shape, DTYPES[setting.dtype], setting.channels_last, self._device)
        errors: dict[str, str] = {}
        poolings = dict(self._right_ones(case, errors))
        layout = "channels_last" if setting.channels_last else "contiguous"
        named = {"op": setting.operation, "shape": list(setting.shape), "dtype": setting.dtype, "layout": layout}
        for index, direction in enumerate(DIRECTIONS):
            row = {**named, "direction": direction}
            if "ours" not in poolings:
                yield {**row, "error": errors["ours"]}
                continue
            budget_s = self.left_s / (rows_left - index)
            figures = self._figures(case, poolings, direction, setting.is_small, budget_s, errors)
            yield {**row, **figures, "errors": dict(errors)}

    def _right_ones(self, case: Case, errors: dict[str, str]) -> Iterator[tuple[str, Pooling]]:
        """Yield the candidates that are right; what is wrong with the others goes to ``errors``."""
        for name, pooling in (("ours", case.ours), ("eager", case.eager), ("compile", self._compiled(case))):
            if pooling is None:
                errors[name] = "not compiled: the time for compiling was spent"
                continue
            fault = self._tried(lambda p=pooling, n=name: case.check(p, _tolerance(case.inputs[0].dtype, n == "ours")))  # type: ignore[misc]
            if fault is None:
                yield name, pooling
            else:
                errors[name] = fault
        for name, pooling in (("native_avg", case.average), ("native_max", case.maximum)):
            fault = self._tried(lambda p=pooling: _runs(p, case.image()))  # type: ignore[misc]
            if fault is None:
                yield name, pooling
            else:
                errors[name] = fault

    @staticmethod
    def _tried(check: Callable[[], str | None]) -> str | None:
        try:
            return check()
        except (RuntimeError, TritonError) as error:  # a compiler's, or one of memory: this candidate's alone
            return sentence(error)

    def _compiled(self, case: Case) -> Pooling | None:
        if self.left_s < (1 - COMPILING) * self._budget_s:
            return None
        torch.compiler.reset()  # else a function that was compiled often enough is not compiled again
        if self._is_cuda:
            return torch.compile(case.eager, fullgraph=True, dynamic=False)
        return torch.compile(case.eager, fullgraph=True, dynamic=False, backend="eager")

    def _figures(
        self,
        case: Case,
        poolings: dict[str, Pooling],
        direction: Direction,
        is_small: bool,
        budget_s: float,
        errors: dict[str, str],
    ) -> dict[str, Any]:
        calls = _calls(case, poolings, direction)
        image, work = case.image(), case.work(direction)
        calls["copy"] = _copy(image)
        if is_small and self._is_cuda:
            try:
                calls["graph"] = _replay(case, direction)
            except RuntimeError as error:
                errors["graph"] = sentence(error)
        seen = run_rounds(calls, self._clock, self._most, at_least=self._least, budget_s=budget_s)
        # A small copy does not come near the memory's speed; the floor of a small call is that of a large one's bytes.
        floors = [
            {
                "ours": times["ours"],
                "floor": work.floor_ms(self.copy_gb_s if is_small else 2 * image.nbytes / times["copy"] / 1e6),
            }
            for times in seen
        ]
        figures: dict[str, Any] = {
            "ms": spread(seen, "ours").median,
            "bytes_min": work.moved_bytes,
            "floor_ms": spread(floors, "floor").median,
            "ratio_to_floor": median_ratio(floors, "ours", "floor"),
            "peak_mib": _peak_mib(case, case.ours, direction),
            "eager_peak_mib": _peak_mib(case, case.eager, direction) if "eager" in calls else None,
            "rounds": len(seen),
        }
        for name in ("eager", "compile", "native_avg", "native_max", "graph"):
            is_there = name in calls
            figures[f"{name}_ms"] = spread(seen, name).median if is_there else None
            # How many times as long as ours, in the same rounds.
            figures[f"{name}_ratio"] = median_ratio(seen, name, "ours") if is_there else None
        figures["quartiles"] = {name: [spread(seen, name).lower, spread(seen, name).upper] for name in calls}
        if is_small:
            hosts = {name: calls[name] for name in calls if name not in ("copy", "graph")}
            host = run_rounds(hosts, HostClock(), self._least)
            figures["host_us"] = {name: round(1000 * spread(host, name).median, 2) for name in hosts}
        return figures


def main(
    budget_s: Annotated[float, typer.Option(help="Seconds that all may take; more rounds where there is time.")] = 420,
    device: Annotated[str, typer.Option()] = "cuda",
    toy: Annotated[bool, typer.Option(help="Small tensors, to try the script; nothing goes to results/.")] = False,
    output: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
) -> None:
    """Time the poolings and write the rows as JSON."""
    where = torch.device(device)
    output = check_options(where, toy, output, RESULTS)
    # PyTorch's own convolutions in fp32 are to compute in fp32; and a graph is to serve many backward passes.
    torch.backends.cudnn.allow_tf32 = False
    autograd_of_compiled.donated_buffer = False
    bench = Bench(where, budget_s, *((2, 2) if toy else (LEAST_ROUNDS, MOST_ROUNDS)))
    report: dict[str, Any] = {
        **describe_gpu(),
        **describe_run(),
        "backend": str(backend()),
        "copy_gb_s": bench.copy_gb_s,
        "rows": [],
        "left_out": [],
    }
    pending = settings(toy)
    for index, setting in enumerate(pending):
        if bench.left_s < 0:
            report["left_out"] = [f"{s.operation} {s.dtype} {s.shape}" for s in pending[index:]]
            break
        for row in bench.rows(setting, 2 * (len(pending) - index)):
            report["rows"].append(row)
            print(json.dumps(row))
            write(report, output)
    report["power_state_after"] = describe_gpu().get("power_state")
    write(report, output)


def check_options(device: torch.device, toy: bool, output: Path | None, results: Path) -> Path | None:
    """Return where the JSON goes, None for nowhere.

    Raises:
        typer.BadParameter: if the device is not there or is served by the reference, or a toy would write results.
    """
    if toy:
        if output is not None and output.resolve().parent == results.parent:
            raise typer.BadParameter(f"output must lie outside {results.parent.name}/ with --toy, got {output}")
        return output
    if device.type != "cuda" or not torch.cuda.is_available():
        raise typer.BadParameter("device must be a CUDA device that is there; --device cpu --toy tries the script")
    if backend().name != "triton":
        raise typer.BadParameter(f"the kernels must serve here, else nothing is measured; got {backend()}")
    return output or results


def write(report: dict[str, Any], output: Path | None) -> None:
    """Write the report, if it goes anywhere, with a row a line."""
    if output is None:
        return
    head = json.dumps({key: value for key, value in report.items() if key != "rows"}, indent=1)[:-2]
    rows = ",\n  ".join(json.dumps(row) for row in report["rows"])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


if __name__ == "__main__":
    typer.run(main)
