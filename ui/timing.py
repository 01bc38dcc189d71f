"""Measure how long candidates take, on the machine that runs this, so that their ratios can be trusted.

In each round every candidate runs once, in a new random order, so that whatever else the machine does meets all alike.
Before that each is checked against a slow computation in fp64 and run once more. If one is wrong, none is timed.
"""

import copy
import os
import platform
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.zoo import Loaded
from poolcore import Backend, LiftDownPool2d, backend, lip2d, soft_pool2d, stopwatch, use_reference

__all__ = [
    "Candidate",
    "Lap",
    "Quartiles",
    "Timing",
    "WrongResultError",
    "describe_machine",
    "measure",
    "network_candidates",
    "pooling_candidates",
    "quartiles",
    "serving",
]

POOLING_TOLERANCE, NETWORK_TOLERANCE = 1e-5, 1e-3
"""Largest error against fp64, relative to the reference's largest number: some 80 roundings; more for 20 layers."""
WITH_KERNEL = ("soft", "lip", "lift")
"""The poolings that a GPU kernel of ours serves where it can; the others are PyTorch's own everywhere."""
PROCESSOR = torch.device("cpu")


class WrongResultError(ValueError):
    """A candidate's result is not what it must be, so nothing is timed."""


@dataclass(frozen=True)
class Candidate:
    """Something to be timed.

    Attributes:
        run: does the work and returns its result.
        expected: returns what the result must be, in fp64, found in another way.
        tolerance: largest error, relative to the largest number that is expected.
        pooling: modules within ``run`` whose time is added up; none where all is pooling.
        by_reference: runs as plain PyTorch, even where kernels serve.
    """

    name: str
    run: Callable[[], Tensor]
    expected: Callable[[], Tensor]
    tolerance: float = POOLING_TOLERANCE
    pooling: Sequence[nn.Module] = ()
    by_reference: bool = False

    def implementation(self) -> AbstractContextManager[None]:
        """Return what is open around each run, outside the timed part."""
        return use_reference() if self.by_reference else nullcontext()

    def check(self) -> None:
        """Raise `WrongResultError` unless the result is right."""
        with self.implementation():
            found = self.run()
        with use_reference():  # a kernel would agree with itself
            expected = self.expected()
        name = f"{self.name} as plain PyTorch" if self.by_reference else self.name
        if found.shape != expected.shape:
            raise WrongResultError(
                f"{name} is wrong here, so nothing is timed: its result has shape {tuple(found.shape)} "
                f"instead of {tuple(expected.shape)}."
            )
        error = float((found.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        if not error <= self.tolerance:
            raise WrongResultError(
                f"{name} is wrong here, so nothing is timed: it is off by {error:.1e} of its largest number."
            )


@dataclass(frozen=True)
class Lap:
    """What one run took, in milliseconds: in all, and in pooling layers."""

    total_ms: float
    pooling_ms: float


@dataclass(frozen=True)
class Quartiles:
    """In milliseconds: a quarter of the laps took at most ``lower``, half ``median``, three quarters ``upper``."""

    lower: float
    median: float
    upper: float


def quartiles(times_ms: Sequence[float]) -> Quartiles:
    """Return the quartiles of at least one time."""
    if len(times_ms) == 1:
        return Quartiles(times_ms[0], times_ms[0], times_ms[0])
    lower, median, upper = quantiles(times_ms, n=4, method="inclusive")
    return Quartiles(lower, median, upper)


@dataclass(frozen=True)
class Timing:
    """The laps of a candidate so far."""

    name: str
    laps: list[Lap] = field(default_factory=list)
    by_reference: bool = False

    @property
    def total(self) -> Quartiles:
        """Of the whole time."""
        return quartiles([lap.total_ms for lap in self.laps])

    @property
    def pooling(self) -> Quartiles:
        """Of the time in pooling layers."""
        return quartiles([lap.pooling_ms for lap in self.laps])


def measure(
    candidates: Sequence[Candidate],
    rounds: int,
    *,
    budget_s: float = float("inf"),
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    turn: AbstractContextManager[object] | None = None,
    device: torch.device = PROCESSOR,
) -> Iterator[list[Timing]]:
    """Yield the timings, in the order of the candidates: after each candidate's check, then after each round.

    Args:
        rounds: after which it ends.
        budget_s: seconds after which no further round begins; the first is run in any case.
        seed: of the order within the rounds.
        clock: gives the time in seconds.
        turn: held during each run.
        device: where the candidates run; a GPU is waited for before and after each lap.

    Raises:
        WrongResultError: before anything is timed, if a candidate's result is wrong.
    """
    turn = nullcontext() if turn is None else turn
    order, began = random.Random(seed), clock()
    timings = [Timing(candidate.name, by_reference=candidate.by_reference) for candidate in candidates]
    for candidate in candidates:
        with turn, torch.inference_mode():
            candidate.check()
            with candidate.implementation():
                candidate.run()
        yield timings
    for done in range(rounds):
        if done and clock() - began > budget_s:
            return
        for index in order.sample(range(len(candidates)), len(candidates)):
            candidate = candidates[index]
            with turn, torch.inference_mode(), candidate.implementation(), stopwatch(candidate.pooling) as watch:
                _wait_for(device)
                start = clock()
                candidate.run()
                _wait_for(device)
                total_ms = 1000 * (clock() - start)
            timings[index].laps.append(Lap(total_ms, watch.milliseconds if candidate.pooling else total_ms))
        yield timings


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _windows(x: Tensor, kernel_size: int, padding: int, beyond: float) -> Tensor:
    """Return each window of stride 2 in fp64, (N, C, H_out, W_out, kernel_size^2); outside the map is ``beyond``."""
    padded = F.pad(x.double(), (padding,) * 4, value=beyond)
    return padded.unfold(2, kernel_size, 2).unfold(3, kernel_size, 2).flatten(4)


def _weighted(x: Tensor, logit: Tensor, kernel_size: int, padding: int) -> Tensor:
    """Return the mean weighted by the softmax of the logit, as the formula says it, window by window in fp64."""
    weights = _windows(logit, kernel_size, padding, -torch.inf).softmax(-1)
    return (weights * _windows(x, kernel_size, padding, 0.0)).sum(-1)


def pooling_candidates(
    shape: tuple[int, int, int, int], device: torch.device = PROCESSOR, *, with_reference: bool = False
) -> list[Candidate]:
    """Return the single poolings of one map of noise, channels_last, each with the window that its network uses.

    LIP is timed without the convolutions that make its logits, LiftPool with its filters (as they begin: how long they
    take does not depend on their numbers).

    Args:
        with_reference: add each pooling that has a kernel a second time, by reference.
    """
    noise = torch.Generator().manual_seed(0)
    x, logit = (
        torch.randn(shape, generator=noise).to(device).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    down = LiftDownPool2d(shape[1], combine="mean").to(device)

    def exact_lift() -> Tensor:
        bands = copy.deepcopy(down).double().bands(x.double())
        return (bands.ll + bands.lh + bands.hl + bands.hh) / 4

    candidates = [
        Candidate("max", lambda: F.max_pool2d(x, 3, 2, 1), lambda: _windows(x, 3, 1, -torch.inf).amax(-1)),
        Candidate("avg", lambda: F.avg_pool2d(x, 2), lambda: _windows(x, 2, 0, 0.0).mean(-1)),
        Candidate("soft", lambda: soft_pool2d(x, 2), lambda: _weighted(x, x, 2, 0)),
        Candidate("lip", lambda: lip2d(x, logit, 3, 2, 1), lambda: _weighted(x, logit, 3, 1)),
        Candidate("lift", lambda: down(x), exact_lift),
    ]
    if with_reference:
        candidates += [replace(one, by_reference=True) for one in candidates if one.name in WITH_KERNEL]
    return candidates


def network_candidates(networks: Sequence[Loaded], photo: Image.Image) -> list[Candidate]:
    """Return the networks, each looking at one photo."""

    def candidate(loaded: Loaded) -> Candidate:
        network, x = loaded.network, loaded.preprocess(photo)
        return Candidate(
            network.variant,
            lambda: network(x),
            lambda: copy.deepcopy(network).double()(x.double()),
            NETWORK_TOLERANCE,
            network.pooling_modules(),
        )

    return [candidate(loaded) for loaded in networks]


def serving(device: torch.device) -> Backend:
    """Return which implementation of the poolings serves networks on a device, and why, in words for a page."""
    if device.type != "cuda" and torch.cuda.is_available():
        return Backend("reference", "the networks run on the processor, not on the GPU")
    name, reason = backend()
    # After a colon the system itself speaks, and may name folders of the server.
    return Backend(name, reason.partition(":")[0])


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Return what the times depend on: processor, cores and threads in use, device and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the processor's name as the system gives it, else its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
