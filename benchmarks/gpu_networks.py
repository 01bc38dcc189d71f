"""Time whole ResNets on a GPU, poolings by kernels and by the reference: ``python -m benchmarks.gpu_networks``.

Networks of one skeleton run against each other in every round, so what a variant costs beyond average pooling comes
from the same rounds. Before that the logits with the kernels are held against those with the reference, in fp32. The
JSON is written after each group; ``--resume`` goes on where the budget ended the run before.
"""

import copy
import itertools
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torch._dynamo import config as compiler

from benchmarks.gpu_ops import check_options, sentence, write
from benchmarks.machine import describe_gpu, describe_run
from benchmarks.rounds import Call, ProcessorClock, median_ratio, run_rounds, spread
from models.resnet import VARIANTS, ResNet, Variant, resnet
from poolcore.backend import backend, use_reference

RESULTS = Path(__file__).parent / "results" / "gpu_networks.json"
LEAST_ROUNDS, MOST_ROUNDS = 30, 60
TOLERANCE = 1e-3  # between logits in fp32, relative to the largest: twenty layers add in another order
# The variants that have kernels of their own; the others are PyTorch's alone.
WITH_KERNELS: tuple[Variant, ...] = ("soft", "lip", "lift")

Mode = Literal["inference", "training"]
How = Literal["eager", "compile"]


class Group(NamedTuple):
    """Networks that are timed against each other."""

    how: How
    depth: int
    batch: int
    mode: Mode

    def __str__(self) -> str:
        return f"ResNet-{self.depth}, batch {self.batch}, {self.mode}, {self.how}"


def groups(toy: bool) -> list[Group]:
    """Return the groups: all eager ones first, for a compilation takes as long as many of them."""
    modes: tuple[Mode, ...] = ("inference", "training")
    hows: tuple[How, ...] = ("eager", "compile")
    if toy:
        return [Group(*values) for values in (("eager", 18, 2, "inference"), ("compile", 18, 2, "training"))]
    return [Group(*values) for values in itertools.product(hows, (18, 50), (128, 1), modes)]


def _network(depth: int, variant: Variant, toy: bool) -> ResNet:
    """Return a network whose poolings do something: what begins at zero, and would do nothing there, gets noise."""
    torch.manual_seed(0)
    network = resnet(depth, variant, width=4 if toy else 64, num_classes=10 if toy else 1000)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def _check(network: ResNet, x: Tensor) -> str | None:
    """Return how far the network's logits with the kernels are from those with the reference; None if near enough."""
    exact = copy.deepcopy(network).to(x.device).eval()
    few = x[:2].float()
    with torch.no_grad():
        found = exact(few)
        with use_reference():
            expected = exact(few)
    error = float((found - expected).abs().max() / expected.abs().max())
    return None if error <= TOLERANCE else f"logits are off by {error:.1e} of the largest, may be by {TOLERANCE:.0e}"


def _step(network: ResNet, group: Group, x: Tensor, target: Tensor, toy: bool) -> Call:
    """Return one inference or one training step with SGD."""
    forward: Callable[[Tensor], Tensor] = network
    if group.how == "compile":
        # Whole or not at all: what falls back to eager in parts would not be what the row says.
        forward = torch.compile(network, fullgraph=True, dynamic=False, backend="eager" if toy else "inductor")
    if group.mode == "inference":
        network.eval()

        def infer() -> object:
            with torch.no_grad():
                return forward(x)

        return infer
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def train() -> None:
        optimiser.zero_grad()
        # On the thread that called it, else a backward pass on a GPU would not see use_reference().
        with torch.autograd.set_multithreading_enabled(False):
            F.cross_entropy(forward(x).float(), target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return train


def _peak_mib(call: Call, device: torch.device) -> float | None:
    """Return the most memory in use during a call, beyond what is there before it."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def rows(
    group: Group, device: torch.device, toy: bool, budget_s: float, deadline: float
) -> list[dict[str, Any]] | None:
    """Return a row for each variant, and another for each with its poolings by the reference.

    None if the networks could not all be compiled before the deadline, on `time.perf_counter`.
    """
    torch.compiler.reset()
    layout, dtype = torch.channels_last, torch.bfloat16
    size = 64 if toy else 224
    x = torch.randn(group.batch, 3, size, size, device=device, dtype=dtype).to(memory_format=layout)
    target = torch.randint(10, (group.batch,), device=device)
    calls: dict[str, Call] = {}
    served: dict[str, tuple[Variant, str]] = {}
    found: list[dict[str, Any]] = []
    for variant in VARIANTS:
        network = _network(group.depth, variant, toy)
        fault = _check(network, x)
        named = {**group._asdict(), "variant": variant}
        if fault is not None:
            found.append({**named, "error": fault})
            continue
        network = network.to(device, dtype)
        network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's types do not know it
        has_kernels = variant in WITH_KERNELS
        for by in ("kernels", "reference") if has_kernels else ("native",):
            if time.perf_counter() > deadline:
                return None
            name = f"{variant} {by}"
            context = use_reference if by == "reference" else nullcontext
            call = _in(context, _step(copy.deepcopy(network), group, x, target, toy))
            try:
                call()  # compiles
            except RuntimeError as error:
                found.append({**named, "by": by, "error": sentence(error)})
                continue
            calls[name], served[name] = call, (variant, by)
    least, most = (2, 2) if toy else (LEAST_ROUNDS, MOST_ROUNDS)
    seen = run_rounds(calls, ProcessorClock(), most, at_least=least, budget_s=budget_s)
    for name, (variant, by) in served.items():
        times = spread(seen, name)
        figures = {
            "ms": times.median,
            "quartiles": [times.lower, times.upper],
            "over_avg": median_ratio(seen, name, "avg native") if "avg native" in calls else None,
            "peak_mib": _peak_mib(calls[name], device),
            "rounds": len(seen),
        }
        found.append({**group._asdict(), "variant": variant, "by": by, **figures})
    return found


def _in(context: Callable[[], AbstractContextManager[None]], call: Call) -> Call:
    def within() -> object:
        with context():
            return call()

    return within


def main(
    budget_s: Annotated[float, typer.Option(help="Seconds after which no further network is begun.")] = 420,
    device: Annotated[str, typer.Option()] = "cuda",
    resume: Annotated[bool, typer.Option(help="Keep the groups that the output has.")] = False,
    toy: Annotated[bool, typer.Option(help="Small networks, to try the script; nothing goes to results/.")] = False,
    output: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
) -> None:
    """Time the networks and write the rows as JSON."""
    where = torch.device(device)
    output = check_options(where, toy, output, RESULTS)
    deadline = time.perf_counter() + budget_s
    # The check is in fp32; and one function holds the networks of a group, each compiled for itself.
    torch.backends.cudnn.allow_tf32 = False
    compiler.recompile_limit = 4 * len(VARIANTS)
    report: dict[str, Any] = {**describe_gpu(), **describe_run(), "backend": str(backend()), "rows": [], "left_out": []}
    if resume and output is not None and output.exists():
        before = json.loads(output.read_text())
        if any(before[key] != report[key] for key in ("device", "commit")):
            raise typer.BadParameter(f"resume must find rows of this device and commit in {output}, found others")
        report["rows"] = before["rows"]
    done = {tuple(row[key] for key in Group._fields) for row in report["rows"]}
    pending = [group for group in groups(toy) if tuple(group) not in done]
    for index, group in enumerate(pending):
        left_s = deadline - time.perf_counter()
        report["left_out"] = [str(left) for left in pending[index:]]
        found = rows(group, where, toy, left_s / (len(pending) - index), deadline) if left_s > 0 else None
        if found is None:
            break
        for row in found:
            print(json.dumps(row))
        report["rows"] += found
        report["left_out"] = report["left_out"][1:]
        write(report, output)
    write(report, output)


if __name__ == "__main__":
    typer.run(main)
