"""How poolcore's operators are registered with PyTorch: one library, and the rules that all of them share.

Registered by ``define`` and ``impl``: through ``triton_op`` a call costs the host 6 to 9 microseconds more
(benchmarks/README.md), and its gain, that the compiler sees into the operator, is none here, for there
is nothing left to fuse.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["LIBRARY", "differentiate", "folded", "is_second", "register", "unfolded"]

# torch leaves these calls untyped.
LIBRARY = torch.library.Library("poolcore", "DEF")  # type: ignore[no-untyped-call]


def register(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Return the new operator ``torch.ops.poolcore.*`` of a schema, for all devices, with its rule for shapes."""
    name = schema.split("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"poolcore::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.poolcore, name).default


def differentiate(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of a function of plain operations, themselves differentiable."""
    wanted = [value for value in inputs if value.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if value.requires_grad else None for value in inputs)  # type: ignore[misc]


def is_second(*tensors: Tensor) -> bool:
    """Return whether a backward pass through these tensors must be differentiable itself."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def folded(value: Tensor, axis: int | None, size: int) -> Tensor:
    """Return a batch of batches, of ``size`` along ``axis`` (None: the same batch each time), as one larger batch."""
    value = value.unsqueeze(0).expand(size, *value.shape) if axis is None else value.movedim(axis, 0)
    return value.flatten(0, 1)


def unfolded(value: Tensor, size: int, axis: int = 0) -> Tensor:
    """Undo `folded`: the axis of images becomes two, ``size`` batches of them."""
    return value.reshape(*value.shape[:axis], size, value.shape[axis] // size, *value.shape[axis + 1 :])
