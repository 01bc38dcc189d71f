"""How large a tile a program of a kernel takes: a plain function of shape and dtype, or the table of a measured device.

Nothing is tried out at run time, so that a first call stays quick. ``blocks.json`` holds what
``python -m benchmarks.tune`` found best on the devices it was run on; other devices take the plain function's answer.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from torch import Tensor

__all__ = ["Block", "choose_block", "plain_block"]

TABLE = Path(__file__).with_name("blocks.json")


class Block(NamedTuple):
    """A program's tile: elements across rows, elements along the densest axis, and how many warps share them."""

    outer: int
    inner: int
    warps: int


def plain_block(elements: int, inner_size: int) -> Block:
    """Return a tile of ``elements`` (a power of two), as long as the densest axis has use for, of at most 4 warps."""
    inner = min(triton.next_power_of_2(inner_size), 128, elements)
    return Block(elements // inner, inner, max(1, min(4, elements // 64)))


@cache
def _table() -> dict[str, dict[str, list[int]]]:
    table: dict[str, dict[str, list[int]]] = json.loads(TABLE.read_text())
    return table


@cache
def _device_rows(index: int) -> dict[str, list[int]]:
    return _table().get(torch.cuda.get_device_name(index), {})


def choose_block(kernel: str, x: Tensor, inner_size: int, elements: int) -> Block:
    """Return the tile for a kernel on the device of ``x``.

    Args:
        kernel: its name in the table, with what it is compiled for: "soft_pool-k2-bfloat16-nhwc".
        inner_size: length of the densest axis.
        elements: of the plain function's tile.
    """
    row = _device_rows(x.device.index or 0).get(kernel) if x.is_cuda else None
    if row is None:
        return plain_block(elements, inner_size)
    elements, longest, warps = row
    inner = min(triton.next_power_of_2(inner_size), longest, elements)
    return Block(elements // inner, inner, warps)
