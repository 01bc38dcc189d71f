"""Random crops and flips for training: which they are, and what becomes of the pixels, for whole batches at once.

A crop's share of the picture's area is uniform, its ratio of width to height log-uniform, as in torchvision's
RandomResizedCrop (Szegedy et al. 2014, arXiv 1409.4842); half of the crops are mirrored. What is drawn follows from
(seed, epoch, index) alone: not from the other images of a batch, the device, the processes or where a run was resumed.

Crops are scaled bilinearly with antialiasing, as torchvision does: by a triangle filter, whose half-width is a pixel of
the crop or of the result, whichever is larger, and which sees nothing outside the crop. A batch of images of one size
is scaled by two batched matrix products, on any device, and not rounded; a photo by torchvision, to whole numbers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import horizontal_flip, resized_crop

__all__ = ["Augmentation", "crop_batch", "crop_photo"]

_LEAST_RATIO, _MOST_RATIO = 3 / 4, 4 / 3
_ATTEMPTS = 10

_STEP = 0x9E3779B97F4A7C15  # of SplitMix64 from state to state: 2**64 over the golden ratio


def _scramble(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's number for each state (Steele, Lea & Flood 2014, "Fast splittable ... generators")."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _uniform(keys: NDArray[np.uint64], number: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each key: that of the generator which starts there, counted from 0."""
    state = keys + np.uint64((number + 1) * _STEP % 2**64)
    return (_scramble(state) >> np.uint64(11)) * np.float64(2.0**-53)


@dataclass(frozen=True)
class Augmentation:
    """The crops and flips of one epoch; ``least_area`` is the smallest share of a picture that a crop takes."""

    seed: int
    epoch: int
    least_area: float

    def _keys(self, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
        # Each step is one to one in what it takes in, so that no two images of an epoch share a key.
        keys = np.zeros(len(indices), np.uint64)
        for part in (np.uint64(self.seed % 2**64), np.uint64(self.epoch), indices.astype(np.uint64)):
            keys = _scramble((keys ^ part) + np.uint64(_STEP))
        return keys

    def draw_crops(self, indices: NDArray[np.int64], height: int, width: int) -> Tensor:
        """Draw what is cut out of images of one size.

        A crop that reaches over the image is drawn again, ten times at most; then it is the largest in the middle
        whose ratio is allowed.

        Args:
            indices: of the images in their set, (N,).

        Returns:
            (N, 5) int64 on the processor: top, left, height and width in pixels, and 1 where it is mirrored.
        """
        keys = self._keys(indices)
        h, w = height, width
        if width < _LEAST_RATIO * height:
            h = round(width / _LEAST_RATIO)
        elif width > _MOST_RATIO * height:
            w = round(height * _MOST_RATIO)
        crops = np.tile(np.array([(height - h) // 2, (width - w) // 2, h, w, 0]), (len(indices), 1))
        crops[:, 4] = _uniform(keys, 0) < 0.5
        waiting = np.arange(len(indices))
        for attempt in range(_ATTEMPTS):
            area, log_ratio, down, across = (_uniform(keys[waiting], 1 + 4 * attempt + k) for k in range(4))
            area = height * width * (self.least_area + (1 - self.least_area) * area)
            ratio = _LEAST_RATIO * (_MOST_RATIO / _LEAST_RATIO) ** log_ratio
            heights, widths = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
            fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
            tops, lefts = np.floor(down * (height - heights + 1)), np.floor(across * (width - widths + 1))
            crops[waiting[fits], :4] = np.stack((tops, lefts, heights, widths), axis=1)[fits]
            waiting = waiting[~fits]
        return torch.from_numpy(crops)


def _weights(start: Tensor, length: Tensor, size: int, pixels: int) -> Tensor:
    """Return what each pixel along a side counts in each pixel of the result, (N, size, pixels); rows sum to 1.

    Args:
        start: of the crop along this side, (N,).
        length: of the crop along this side, (N,).
    """
    length = length[:, None, None]
    scale = length / size
    place = torch.arange(pixels, device=start.device) - start[:, None, None]  # in the crop, (N, 1, pixels)
    centre = scale * (torch.arange(size, device=start.device)[:, None] + 0.5)  # (N, size, 1)
    weights = (1 - (place + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((place >= 0) & (place < length))
    return weights / weights.sum(dim=2, keepdim=True)


def crop_batch(images: Tensor, crops: Tensor, size: int) -> Tensor:
    """Cut one crop out of each image of a batch, scale it to ``size`` and mirror it if it says so.

    Args:
        images: of any real dtype, on any device.
        crops: as `Augmentation.draw_crops` returns them, on the images' device.

    Shape:
        images (N, 3, H, W) and crops (N, 5) -> (N, 3, size, size) float32, in the images' range.
    """
    top, left, height, width, mirrored = crops.unbind(dim=1)
    rows = _weights(top, height, size, images.shape[2])  # (N, size, H)
    columns = _weights(left, width, size, images.shape[3])  # (N, size, W)
    x = images.to(torch.float32, memory_format=torch.contiguous_format)
    y = rows[:, None] @ (x @ columns.mT[:, None])
    return torch.where(mirrored.bool()[:, None, None, None], y.flip(3), y)


def crop_photo(image: Tensor, crop: Tensor, size: int) -> Tensor:
    """Cut one crop out of one image on the processor, as `crop_batch` does.

    Args:
        crop: one row of what `Augmentation.draw_crops` returns, (5,).

    Shape:
        (3, H, W) -> (3, size, size) of the same dtype; integers are rounded.
    """
    *box, mirrored = crop.tolist()
    cut: Tensor = resized_crop(image, *box, [size, size], antialias=True)
    return horizontal_flip(cut) if mirrored else cut
