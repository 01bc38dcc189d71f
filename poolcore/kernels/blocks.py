"""How large a tile a program of a kernel takes: a row of numbers, plain or measured.

A family of kernels has a plain row for each kernel, a function of shape and dtype, and fits a row to a tensor's shape.
``blocks.json`` holds the rows that ``python -m benchmarks.tune`` found best on the devices it was run on; other devices
take the plain ones. Nothing is tried out at run time, so that a first call stays quick.

A row is the elements of a tile, the most of them along the densest axis (of LiftPool's tiles the most channels, which
count only where they lie densest) and the warps that share them; of a kernel that goes along an axis, as LiftPool's
image and backward do, also the most places that it goes. It decides how long a kernel takes, and of its results nothing
but in which order the gradients of a filter's numbers, which are sums over all pixels, are added up and rounded.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Row", "channels_are_inner", "check_row", "choose_block", "find_row", "name_in_table"]

TABLE = Path(__file__).with_name("blocks.json")

Row = tuple[int, ...]
Block = TypeVar("Block")

# A block on a GPU has at most 1024 threads.
MOST_WARPS = 32


@cache
def _table() -> dict[str, dict[str, object]]:
    table: dict[str, dict[str, object]] = json.loads(TABLE.read_text())
    return table


def check_row(kernel: str, row: object, plain: Row) -> Row:
    """Return a row of a table, if it can stand in the place of the plain one.

    Raises:
        ValueError: if it is not as many powers of two.
    """
    numbers = tuple(row) if isinstance(row, list | tuple) else ()
    are_powers = all(type(number) is int and number > 0 and number & (number - 1) == 0 for number in numbers)
    if len(numbers) != len(plain) or not are_powers or numbers[2] > MOST_WARPS:
        raise ValueError(
            f"the tile of {kernel} must be {len(plain)} powers of two, the third at most {MOST_WARPS}, got {row!r}"
        )
    return numbers


@cache
def find_row(kernel: str, device: torch.device, plain: Row) -> Row:
    """Return the row of a kernel by its name in the table; the plain one for a device that was not measured."""
    rows = _table().get(torch.cuda.get_device_name(device), {}) if device.type == "cuda" else {}
    return check_row(kernel, rows[kernel], plain) if kernel in rows else plain


def channels_are_inner(x: Tensor) -> bool:
    """Return whether channels lie densest in memory, as in channels_last."""
    return x.shape[1] > 1 and x.stride(1) < x.stride(-1)


def name_in_table(kernel: str, x: Tensor) -> str:
    """Return a kernel's name with what it is compiled for: "forward4-bfloat16-nhwc", "lift_image5-float32-nchw"."""
    return f"{kernel}-{str(x.dtype).removeprefix('torch.')}-{'nhwc' if channels_are_inner(x) else 'nchw'}"


def choose_block(kernel: str, x: Tensor, plain: Row, fit: Callable[[Row], Block]) -> Block:
    """Return the tile of a kernel on the device of ``x``.

    Args:
        kernel: what it does, and to how many values: "forward4".
        plain: its row where no other was measured.
        fit: makes a row a tile, no larger than there is use for.
    """
    return fit(find_row(name_in_table(kernel, x), x.device, plain))
