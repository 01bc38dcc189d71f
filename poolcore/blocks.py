"""Run a function of images block by block along the batch, so that its temporaries stay in the processor's cache.

Pooling computes little and moves much: on a CPU a batch's temporaries do not fit into any cache, and each elementwise
step goes through main memory. A block of images does fit. The backward pass computes the block's forward pass again
instead of keeping its temporaries, so only the inputs are saved.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from poolcore.precision import autocast_off

__all__ = ["by_blocks", "in_blocks"]

# Elements of one block: 2 MiB in fp32, the size of two cores' second-level caches.
_BLOCK_ELEMENTS = 2**19


class _ByBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, function: Callable[..., Tensor], length: int, n_images: int, *tensors: Tensor
    ) -> Tensor:
        ctx.function, ctx.length, ctx.n_images = function, length, n_images  # type: ignore[attr-defined]
        ctx.save_for_backward(*tensors)
        images, parameters = tensors[:n_images], tensors[n_images:]
        blocks = zip(*(torch.split(image, length) for image in images), strict=True)
        with autocast_off(images[0].device.type):
            return torch.cat([function(*block, *parameters) for block in blocks])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        images, parameters = tensors[: ctx.n_images], tensors[ctx.n_images :]
        grads = [torch.zeros_like(tensor) if need else None for tensor, need in zip(tensors, needed, strict=True)]
        for start, grad_block in zip(range(0, len(grad), ctx.length), torch.split(grad, ctx.length), strict=True):
            rows = slice(start, start + ctx.length)
            block = [image[rows].detach() for image in images] + [parameter.detach() for parameter in parameters]
            wanted = [tensor.requires_grad_() for tensor, need in zip(block, needed, strict=True) if need]
            with torch.enable_grad(), autocast_off(grad.device.type):
                out = ctx.function(*block)
            found = iter(torch.autograd.grad(out, wanted, grad_block))
            for index, total in enumerate(grads):
                if total is not None:
                    (total[rows] if index < ctx.n_images else total).add_(next(found))
        return None, None, None, *grads


def by_blocks(function: Callable[..., Tensor], images: Sequence[Tensor], parameters: Sequence[Tensor] = ()) -> Tensor:
    """Return ``function(*images, *parameters)``, computed for a few images at a time.

    Args:
        function: from tensors of shape (n, ...) and parameters to one tensor (n, ...), each image for itself.
        images: tensors of shape (N, ...) with one N.
        parameters: tensors that every block reads.

    Autocast is off in all of it, since the backward pass that computes a block again runs outside of it.
    Second derivatives through more than one block raise an error.
    """
    count = images[0].shape[0]
    length = max(1, _BLOCK_ELEMENTS * count // max(1, images[0].numel()))
    if count <= length:
        with autocast_off(images[0].device.type):
            return function(*images, *parameters)
    out: Tensor = _ByBlocks.apply(function, length, len(images), *images, *parameters)  # type: ignore[no-untyped-call]
    return out


def in_blocks(*images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of shape (N, ...) a few of their N images at a time, the same of each."""
    count = images[0].shape[0]
    length = max(1, _BLOCK_ELEMENTS * count // max(1, *(image.numel() for image in images)))
    return zip(*(torch.split(image, length) for image in images), strict=True)
