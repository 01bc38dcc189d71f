"""Take a batch a few images at a time, so that what is made of them stays in the processor's cache.

Pooling computes little and moves much: on a CPU a batch's temporaries do not fit into any cache, and each elementwise
step goes through main memory. A block of images does fit.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["in_blocks"]

# Elements of one block: 2 MiB in fp32, the size of two cores' second-level caches.
_BLOCK_ELEMENTS = 2**19


def in_blocks(*images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of shape (N, ...) a few of their N images at a time, the same of each; on other devices whole."""
    count = images[0].shape[0]
    elements = max(1, *(image.numel() for image in images))
    length = max(1, _BLOCK_ELEMENTS * count // elements if images[0].device.type == "cpu" else count)
    return zip(*(torch.split(image, length) for image in images), strict=True)
