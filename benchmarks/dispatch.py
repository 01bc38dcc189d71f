"""What a call of an operator costs the host, by the way it is registered: ``python -m benchmarks.dispatch``.

The operators do nothing but allocate their result, so that what is left is the dispatch: ``define`` and ``impl`` with
``register_autograd`` (what poolcore does), ``custom_op``, and ``triton_op``. In every round each runs, in a new random
order; the clock is this process's own processor time, which other processes do not disturb.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rounds import Call, Spread, run_rounds, spread
from models.command import commit
from ui.timing import describe_machine

RESULTS = Path(__file__).parent / "results" / "dispatch.json"
ROUNDS, CALLS = 60, 100
_WINDOW = ([2, 2], [2, 2], [0, 0], False)


def _allocate(x: Tensor, k: list[int], s: list[int], p: list[int], ceil: bool) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _no_gradient(ctx: Any, grad: Tensor) -> tuple[None, ...]:
    return (None,) * 5


def ways() -> dict[str, Callable[..., Tensor]]:
    """Return one operator for each way to register it, and torch's own average pooling beside them."""
    library = torch.library.Library("poolcore_dispatch", "DEF")  # type: ignore[no-untyped-call]  # torch leaves it untyped
    schema = "(Tensor x, int[] k, int[] s, int[] p, bool ceil) -> Tensor"
    library.define(f"by_impl{schema}")  # type: ignore[no-untyped-call]
    library.impl("by_impl", _allocate, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_autograd("poolcore_dispatch::by_impl", _no_gradient, setup_context=_keep, lib=library)
    custom = torch.library.custom_op("poolcore_dispatch::by_custom_op", _allocate, mutates_args=())
    triton = torch.library.triton_op("poolcore_dispatch::by_triton_op", _allocate, mutates_args=())
    for name in ("by_custom_op", "by_triton_op"):
        torch.library.register_autograd(f"poolcore_dispatch::{name}", _no_gradient, setup_context=_keep)
    by_impl = torch.ops.poolcore_dispatch.by_impl.default
    ways.library = library  # type: ignore[attr-defined]  # a library that is let go takes its operators along
    return {
        "`avg_pool2d` of torch": lambda x, *_: F.avg_pool2d(x, 2),
        "`define` and `impl`": by_impl,
        "`custom_op`": custom,
        "`triton_op`": triton,
    }


def _clock(call: Call) -> float:
    begun = time.process_time()
    for _ in range(CALLS):
        call()
    return 1000 * (time.process_time() - begun) / CALLS


def measure(rounds: int = ROUNDS) -> dict[str, dict[str, Spread]]:
    """Return microseconds a call of each way: in inference mode, without and with a gradient."""
    plain, wanting = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, requires_grad=True)

    def call(operator: Callable[..., Tensor], mode: str) -> Call:
        def run() -> None:
            with torch.inference_mode(mode == "inference mode"):
                operator(wanting if mode == "with gradient" else plain, *_WINDOW)

        return run

    operators, modes = ways(), ("inference mode", "no gradient", "with gradient")
    laps = run_rounds(
        {f"{name}, {mode}": call(o, mode) for name, o in operators.items() for mode in modes}, _clock, rounds
    )
    return {
        name: {mode: Spread(*(round(1000 * v, 2) for v in spread(laps, f"{name}, {mode}"))) for mode in modes}
        for name in operators
    }


def main() -> None:
    """Measure, print, and write the JSON."""
    torch.set_num_threads(1)
    rows = {name: {mode: times._asdict() for mode, times in row.items()} for name, row in measure().items()}
    found = {
        "machine": describe_machine(torch.device("cpu")),
        "commit": commit(),
        "rounds": ROUNDS,
        "microseconds": rows,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for name, row in rows.items():
        print(name, {mode: round(times["median"], 1) for mode, times in row.items()})


if __name__ == "__main__":
    main()
