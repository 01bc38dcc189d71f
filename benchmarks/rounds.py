"""Time calls against each other: in every round each runs once, in a new random order, so ratios can be trusted."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

__all__ = ["Clock", "CudaClock", "HostClock", "ProcessorClock", "Spread", "median_ratio", "run_rounds", "spread"]

Call = Callable[[], object]
Clock = Callable[[Call], float]
"""Runs a call and returns its milliseconds."""

WARM_UP_S = 0.03


class CudaClock:
    """Milliseconds that a call takes on the GPU, its caches cold.

    Before the call a GiB is read. That leaves nothing of the call's tensors in the cache, and nothing that would have
    to be written back while it runs; and meanwhile the host prepares the call, so that the GPU does not wait for it.
    """

    def __init__(self, numel: int = 2**28) -> None:
        self._other = torch.zeros(numel, device="cuda")

    def __call__(self, call: Call) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._other.amax()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))


class ProcessorClock:
    """Milliseconds from a call until its result is there, whatever computes it."""

    def __call__(self, call: Call) -> float:
        _synchronise()
        begun = time.perf_counter()
        call()
        _synchronise()
        return 1000 * (time.perf_counter() - begun)


class HostClock:
    """Milliseconds until a call returns, though the GPU works on: the mean of a few, too few to fill its queue."""

    def __init__(self, repeats: int = 20) -> None:
        self._repeats = repeats

    def __call__(self, call: Call) -> float:
        _synchronise()
        begun = time.perf_counter()
        for _ in range(self._repeats):
            call()
        return 1000 * (time.perf_counter() - begun) / self._repeats


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_rounds(
    calls: Mapping[str, Call],
    clock: Clock,
    rounds: int,
    *,
    at_least: int = 0,
    budget_s: float = float("inf"),
    seed: int = 0,
) -> list[dict[str, float]]:
    """Return the milliseconds of each call in each round; warm-up rounds, by time, come before and are not counted.

    Args:
        rounds: after which it ends.
        at_least: rounds that are run however long they take; beyond, none begins after ``budget_s`` seconds.
        seed: of the order within the rounds.
    """
    names, order, seen = list(calls), random.Random(seed), []
    for name in names:
        begun = time.perf_counter()
        clock(calls[name])
        while time.perf_counter() - begun < WARM_UP_S:
            clock(calls[name])
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= at_least and time.perf_counter() - begun > budget_s:
            break
        seen.append({name: clock(calls[name]) for name in order.sample(names, len(names))})
    return seen


class Spread(NamedTuple):
    """A quarter of the rounds took at most ``lower``, half ``median``, three quarters ``upper``."""

    lower: float
    median: float
    upper: float


def spread(rounds: Sequence[Mapping[str, float]], name: str) -> Spread:
    """Return the quartiles of a call, rounded to four digits."""
    times = [times[name] for times in rounds]
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return Spread(*(float(f"{value:.4g}") for value in quartiles))


def median_ratio(rounds: Sequence[Mapping[str, float]], name: str, to: str) -> float:
    """Return the median over rounds of what a call took over what another took in the same round."""
    return float(f"{statistics.median(times[name] / times[to] for times in rounds):.4g}")
