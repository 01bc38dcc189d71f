"""SoftPool and LIP as operators registered with PyTorch, ``torch.ops.poolcore.*``; LiftPool is in `poolcore.lift_ops`.

Each has a schema, a rule for shapes (for meta tensors, `torch.compile` and `torch.export`), a backward operator that
needs nothing but the forward's inputs, and a rule for `torch.func.vmap`. Tensors on an NVIDIA GPU go to the Triton
kernels, on a processor to `poolcore.processor`, all others to the reference; `poolcore.backend` tells. Second
derivatives go through the reference, whatever serves the first. Autocast changes nothing: dtypes are kept.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from poolcore import processor
from poolcore.backend import kernels_serve
from poolcore.layout import format_of, new_empty
from poolcore.library import LIBRARY, differentiate, folded, is_second, register, unfolded
from poolcore.precision import autocast_off, compute_dtype
from poolcore.weighted import weighted_pool_reference, weighted_pool_reference_backward
from poolcore.window import Window

__all__ = ["lip", "soft_pool"]

_WINDOW = "int[] kernel_size, int[] stride, int[] padding, bool ceil_mode"
_WindowArgs = tuple[list[int], list[int], list[int], bool]


def _window(args: _WindowArgs) -> Window:
    kernel_size, stride, padding, ceil_mode = args
    return Window(tuple(kernel_size), tuple(stride), tuple(padding), ceil_mode)


# Implementations: forward and backward of the family, whatever its logit, on each kind of device.


def _pool(x: Tensor, logit: Tensor | None, window: Window) -> Tensor:
    if kernels_serve(x):
        from poolcore.kernels import weighted as kernels

        return kernels.weighted_pool(x, logit, window)
    if not x.numel():
        return new_empty(x, (*x.shape[:2], *window.output_size(x.shape[2:])))
    with autocast_off(x.device.type):
        if x.device.type == "cpu":
            return processor.weighted_pool(x, logit, window)
        return _plain_pool(x, logit, window).contiguous(memory_format=format_of(x))


def _pool_backward(
    grad: Tensor, x: Tensor, logit: Tensor | None, window: Window, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    if kernels_serve(x):
        from poolcore.kernels import weighted as kernels

        return kernels.weighted_pool_backward(grad, x, logit, window, needs)
    if not x.numel():
        return new_empty(x, x.shape), None if logit is None else new_empty(x, x.shape)
    with autocast_off(x.device.type):
        if x.device.type == "cpu":
            return processor.weighted_pool_backward(grad, x, logit, window)
        return _plain_pool_backward(grad, x, logit, window)


def _plain_pool(x: Tensor, logit: Tensor | None, window: Window) -> Tensor:
    wide = x.to(compute_dtype(x.dtype))
    return weighted_pool_reference(wide, wide if logit is None else logit.to(wide.dtype), window).to(x.dtype)


def _plain_pool_backward(
    grad: Tensor, x: Tensor, logit: Tensor | None, window: Window
) -> tuple[Tensor, Tensor | None]:
    wide = x.to(compute_dtype(x.dtype))
    wide_logit = wide if logit is None else logit.to(wide.dtype)
    grad_x, grad_logit = weighted_pool_reference_backward(grad.to(wide.dtype), wide, wide_logit, window)
    grads = (grad_x + grad_logit,) if logit is None else (grad_x, grad_logit)
    grad_x, *rest = (g.to(x.dtype).contiguous(memory_format=format_of(x)) for g in grads)
    return grad_x, rest[0] if rest else None


def _soft_pool(x: Tensor, *window: Any) -> Tensor:
    return _pool(x, None, _window(window))


def _soft_pool_backward(grad: Tensor, x: Tensor, *window: Any) -> Tensor:
    grad_x, _ = _pool_backward(grad, x, None, _window(window), (True, False))
    assert grad_x is not None
    return grad_x


def _lip(x: Tensor, logit: Tensor, *window: Any) -> Tensor:
    return _pool(x, logit, _window(window))


def _lip_backward(grad: Tensor, x: Tensor, logit: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *window, needed = rest
    grads = _pool_backward(grad, x, logit, _window(tuple(window)), tuple(needed))
    # An operator returns tensors alone, so a gradient that nobody asked for is an empty one.
    grad_x, grad_logit = (g if g is not None and n else x.new_empty(0) for g, n in zip(grads, needed, strict=True))
    return grad_x, grad_logit


# Shapes without values.


def _fake_pool(x: Tensor, window: _WindowArgs) -> Tensor:
    return new_empty(x, (*x.shape[:2], *_window(window).output_size(x.shape[2:])))


def _fake_lip_backward(grad: Tensor, x: Tensor, logit: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    grad_x, grad_logit = (new_empty(x, x.shape) if needed else x.new_empty(0) for needed in rest[-1])
    return grad_x, grad_logit


# Gradients.


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.window = inputs[len(tensors) :]
    ctx.save_for_backward(*tensors)


def _soft_pool_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors
    if is_second(grad, x):
        window = _window(ctx.window)
        return *differentiate(lambda x: _plain_pool(x, None, window), (x,), grad), None, None, None, None
    return torch.ops.poolcore.soft_pool_backward.default(grad, x, *ctx.window), None, None, None, None


def _lip_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, logit = ctx.saved_tensors
    if is_second(grad, x, logit):
        window = _window(ctx.window)
        grads = differentiate(lambda x, logit: _plain_pool(x, logit, window), (x, logit), grad)
        return *grads, None, None, None, None
    needed = list(ctx.needs_input_grad[:2])
    grads = torch.ops.poolcore.lip_backward.default(grad, x, logit, *ctx.window, needed)
    return *(g if n else None for g, n in zip(grads, needed, strict=True)), None, None, None, None


# A batch of batches is one larger batch: each image is pooled by itself.


def _batched(operator: Any, n_tensors: int) -> Callable[..., Any]:
    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        batches = [folded(arg, axis, size) for arg, axis in zip(args[:n_tensors], in_dims, strict=False)]
        out = operator(*batches, *args[n_tensors:])
        if isinstance(out, Tensor):
            return unfolded(out, size), 0
        # What is of one axis was not asked for.
        return tuple(unfolded(o, size) if o.dim() > 1 else o.expand(size, 0) for o in out), (0,) * len(out)

    return rule


for _schema, _implementation, _fake, _n_tensors in (
    (f"soft_pool(Tensor x, {_WINDOW}) -> Tensor", _soft_pool, lambda x, *window: _fake_pool(x, window), 1),
    (
        f"soft_pool_backward(Tensor grad, Tensor x, {_WINDOW}) -> Tensor",
        _soft_pool_backward,
        lambda grad, x, *window: new_empty(x, x.shape),
        2,
    ),
    (f"lip(Tensor x, Tensor logit, {_WINDOW}) -> Tensor", _lip, lambda x, logit, *window: _fake_pool(x, window), 2),
    (
        f"lip_backward(Tensor grad, Tensor x, Tensor logit, {_WINDOW}, bool[2] needed) -> (Tensor, Tensor)",
        _lip_backward,
        _fake_lip_backward,
        3,
    ),
):
    _operator = register(_schema, _implementation, _fake)
    torch.library.register_vmap(_operator, _batched(_operator, _n_tensors), lib=LIBRARY)
for _name, _gradient in (("soft_pool", _soft_pool_gradient), ("lip", _lip_gradient)):
    torch.library.register_autograd(f"poolcore::{_name}", _gradient, setup_context=_keep_for_backward, lib=LIBRARY)


def soft_pool(x: Tensor, window: Window) -> Tensor:
    """Return SoftPool of checked arguments: x (N, C, *spatial) -> (N, C, *outputs)."""
    y: Tensor = torch.ops.poolcore.soft_pool.default(x, *window)
    return y


def lip(x: Tensor, logit: Tensor, window: Window) -> Tensor:
    """Return LIP of checked arguments: x and logit (N, C, *spatial) -> (N, C, *outputs)."""
    y: Tensor = torch.ops.poolcore.lip.default(x, logit, *window)
    return y
