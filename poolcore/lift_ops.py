"""LiftPool as operators registered with PyTorch, ``torch.ops.poolcore.lift_*``: what `poolcore.ops` is to the others.

A filter pair travels as one list: P's numbers, then U's, four each if learned and the taps alone if linear. Tensors on
an NVIDIA GPU go to the Triton kernels, all others to the plain arithmetic, on a processor a few images at a time.
Backward operators return a list of what is needed: gradients of the maps, then of the filters' numbers. Second
derivatives go through the plain arithmetic, whatever serves the first. Autocast changes nothing: dtypes are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from poolcore import lift_forward, lifting, lifting_gradients
from poolcore.backend import kernels_serve
from poolcore.blocks import in_blocks
from poolcore.layout import new_empty
from poolcore.library import LIBRARY, differentiate, folded, is_second, register, unfolded
from poolcore.lift_filters import FilterParts, PaddingMode
from poolcore.lifting import Combine
from poolcore.precision import autocast_off

__all__ = ["lift_down", "lift_up"]


def _pair(filters: Sequence[Tensor]) -> tuple[FilterParts, FilterParts]:
    half = len(filters) // 2
    return FilterParts(*filters[:half]), FilterParts(*filters[half:])


def _needed(*grads: Sequence[Tensor] | None) -> list[Tensor]:
    return [grad for some in grads for grad in some or ()]


# Implementations on each kind of device.


def _empty_maps(x: Tensor, combine: str | None) -> Tensor:
    """Return what `_down` fills: each map in the memory format of ``x``."""
    N, C, *size = x.shape
    count, half_size = 1 if combine else 2 ** len(size), [(n + 1) // 2 for n in size]
    maps = new_empty(x, (count * N, C, *half_size))
    return maps if combine else maps.view(count, N, C, *half_size)


def _down(x: Tensor, filters: list[Tensor], padding_mode: PaddingMode, combine: Combine | None) -> Tensor:
    if kernels_serve(x):
        from poolcore.kernels import lift as kernels

        return kernels.lift_down(x, *_pair(filters), padding_mode, combine)
    y = _empty_maps(x, combine)
    if y.numel():
        maps = [y] if combine else list(y)
        with autocast_off(x.device.type):
            for block, *places in in_blocks(x, *maps):
                found = lift_forward.lift_down(block, *_pair(filters), padding_mode, combine)
                for place, one in zip(places, found, strict=True):
                    place.copy_(one)
    return y


def _down_backward(
    grad: Tensor,
    x: Tensor,
    filters: list[Tensor],
    padding_mode: PaddingMode,
    combine: Combine | None,
    needed: list[bool],
) -> list[Tensor]:
    implementation = lifting_gradients.lift_down_backward
    if kernels_serve(x):
        from poolcore.kernels import lift as kernels

        implementation = kernels.lift_down_backward
    with autocast_off(x.device.type):
        grad_x, grad_filters = implementation(grad, x, *_pair(filters), padding_mode, combine, needed[0], needed[1])
    return _needed(None if grad_x is None else [grad_x], grad_filters)


def _up(bands: list[Tensor], size: list[int], filters: list[Tensor], padding_mode: PaddingMode) -> Tensor:
    first = bands[0]
    if kernels_serve(first):
        from poolcore.kernels import lift as kernels

        return kernels.lift_up(bands, size, *_pair(filters), padding_mode)
    x = new_empty(first, (*first.shape[:2], *size))
    if x.numel():
        with autocast_off(x.device.type):
            for place, *block in in_blocks(x, *bands):
                place.copy_(lifting.lift_up(block, size, *_pair(filters), padding_mode))
    return x


def _up_backward(
    grad: Tensor,
    bands: list[Tensor],
    size: list[int],
    filters: list[Tensor],
    padding_mode: PaddingMode,
    needed: list[bool],
) -> list[Tensor]:
    implementation = lifting_gradients.lift_up_backward
    if kernels_serve(grad):
        from poolcore.kernels import lift as kernels

        implementation = kernels.lift_up_backward
    with autocast_off(grad.device.type):
        grads = implementation(grad, bands, size, *_pair(filters), padding_mode, needed[0], needed[1])
    return _needed(*grads)


# Shapes without values.


def _fake_down(x: Tensor, filters: list[Tensor], padding_mode: str, combine: str | None) -> Tensor:
    return _empty_maps(x, combine)


def _fake_up(bands: list[Tensor], size: list[int], filters: list[Tensor], padding_mode: str) -> Tensor:
    return new_empty(bands[0], (*bands[0].shape[:2], *size))


def _fake_gradients(images: Sequence[Tensor], filters: list[Tensor], needed: list[bool]) -> list[Tensor]:
    of_images = [new_empty(images[0], one.shape) for one in images] if needed[0] else None
    return _needed(of_images, [part.new_empty(part.shape) for part in filters] if needed[1] else None)


def _fake_down_backward(
    grad: Tensor, x: Tensor, filters: list[Tensor], padding_mode: str, combine: str | None, needed: list[bool]
) -> list[Tensor]:
    return _fake_gradients([x], filters, needed)


def _fake_up_backward(
    grad: Tensor, bands: list[Tensor], size: list[int], filters: list[Tensor], padding_mode: str, needed: list[bool]
) -> list[Tensor]:
    return _fake_gradients(bands, filters, needed)


_REST = "Tensor[] filters, str padding_mode"
_DOWN = register(f"lift_down(Tensor x, {_REST}, str? combine) -> Tensor", _down, _fake_down)
_DOWN_BACKWARD = register(
    f"lift_down_backward(Tensor grad, Tensor x, {_REST}, str? combine, bool[2] needed) -> Tensor[]",
    _down_backward,
    _fake_down_backward,
)
_UP = register(f"lift_up(Tensor[] bands, SymInt[] size, {_REST}) -> Tensor", _up, _fake_up)
_UP_BACKWARD = register(
    f"lift_up_backward(Tensor grad, Tensor[] bands, SymInt[] size, {_REST}, bool[2] needed) -> Tensor[]",
    _up_backward,
    _fake_up_backward,
)


# Gradients.


def _keep_down(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, filters, *ctx.rest = inputs
    ctx.save_for_backward(x, *filters)


def _down_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *filters = ctx.saved_tensors
    padding_mode, combine = ctx.rest
    if is_second(grad, x, *filters):

        def down(x: Tensor, *filters: Tensor) -> Tensor:
            maps = lifting.lift_down(x, *_pair(filters), padding_mode, combine)
            return maps[0] if combine else torch.stack(maps)

        grad_x, *grads = differentiate(down, (x, *filters), grad)
        return grad_x, grads, None, None
    needed = [ctx.needs_input_grad[0], any(ctx.needs_input_grad[1])]
    found = iter(_DOWN_BACKWARD(grad, x, filters, padding_mode, combine, needed))
    return next(found) if needed[0] else None, [next(found, None) for _ in filters], None, None


def _keep_up(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    bands, ctx.size, filters, ctx.padding_mode = inputs
    ctx.count = len(bands)
    ctx.save_for_backward(*bands, *filters)


def _up_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    count, size, padding_mode = ctx.count, ctx.size, ctx.padding_mode
    tensors = ctx.saved_tensors
    if is_second(grad, *tensors):

        def up(*tensors: Tensor) -> Tensor:
            return lifting.lift_up(tensors[:count], size, *_pair(tensors[count:]), padding_mode)

        grads = differentiate(up, tensors, grad)
        return list(grads[:count]), None, list(grads[count:]), None
    bands, filters = list(tensors[:count]), list(tensors[count:])
    needed = [any(ctx.needs_input_grad[0]), any(ctx.needs_input_grad[2])]
    found = iter(_UP_BACKWARD(grad, bands, size, filters, padding_mode, needed))
    grad_bands = [next(found) if needed[0] else None for _ in bands]
    return grad_bands, None, [next(found, None) for _ in filters], None


torch.library.register_autograd("poolcore::lift_down", _down_gradient, setup_context=_keep_down, lib=LIBRARY)
torch.library.register_autograd("poolcore::lift_up", _up_gradient, setup_context=_keep_up, lib=LIBRARY)


# A batch of batches is one larger batch: each image is lifted by itself. Filters' gradients are not, being sums over
# a batch, so that a batch of gradients is computed one by one.


def _refuse_batched_filters(axes: Sequence[int | None]) -> None:
    if any(axis is not None for axis in axes):
        raise ValueError(f"filters must be the same for a whole vmap, got some batched along axes {list(axes)}")


def _down_rule(
    info: Any,
    axes: tuple[Any, ...],
    x: Tensor,
    filters: list[Tensor],
    padding_mode: PaddingMode,
    combine: Combine | None,
) -> tuple[Tensor, int]:
    _refuse_batched_filters(axes[1])
    y = _DOWN(folded(x, axes[0], info.batch_size), filters, padding_mode, combine)
    axis = 0 if combine else 1
    return unfolded(y, info.batch_size, axis), axis


def _up_rule(
    info: Any,
    axes: tuple[Any, ...],
    bands: list[Tensor],
    size: list[int],
    filters: list[Tensor],
    padding_mode: PaddingMode,
) -> tuple[Tensor, int]:
    _refuse_batched_filters(axes[2])
    batches = [folded(band, axis, info.batch_size) for band, axis in zip(bands, axes[0], strict=True)]
    return unfolded(_UP(batches, size, filters, padding_mode), info.batch_size), 0


def _one_by_one(operator: Callable[..., list[Tensor]]) -> Callable[..., tuple[list[Tensor], list[int]]]:
    def at(index: int, value: Any, axis: Any) -> Any:
        if isinstance(value, list | tuple):
            return [at(index, *one) for one in zip(value, axis, strict=True)]
        return value if axis is None else value.select(axis, index)

    def rule(info: Any, axes: tuple[Any, ...], *args: Any) -> tuple[list[Tensor], list[int]]:
        results = [operator(*at(index, args, axes)) for index in range(info.batch_size)]
        grads = [torch.stack(every) for every in zip(*results, strict=True)]
        return grads, [0] * len(grads)

    return rule


for _name, _rule in (
    ("lift_down", _down_rule),
    ("lift_up", _up_rule),
    ("lift_down_backward", _one_by_one(_DOWN_BACKWARD)),
    ("lift_up_backward", _one_by_one(_UP_BACKWARD)),
):
    torch.library.register_vmap(f"poolcore::{_name}", _rule, lib=LIBRARY)


def lift_down(
    x: Tensor, predict: FilterParts, update: FilterParts, padding_mode: PaddingMode, combine: Combine | None
) -> tuple[Tensor, ...]:
    """Return the bands of checked arguments, or what they combine to as the only one, as `lifting.lift_down` does."""
    y: Tensor = _DOWN(x, _numbers(predict, update), padding_mode, combine)
    return (y,) if combine else y.unbind(0)


def lift_up(
    bands: Sequence[Tensor], size: Sequence[int], predict: FilterParts, update: FilterParts, padding_mode: PaddingMode
) -> Tensor:
    """Return the batch of ``size`` that checked bands make, as `lifting.lift_up` does."""
    x: Tensor = _UP(list(bands), list(size), _numbers(predict, update), padding_mode)
    return x


def _numbers(predict: FilterParts, update: FilterParts) -> list[Tensor]:
    return [part for part in (*predict, *update) if part is not None]
