"""LiftPool's bands of a photo or of a network's map, as numbers and as pixels, and what is rebuilt from some of them.

Of a photo (pixels from 0 to 1) every detail picture has one scale: grey is 0, black -`DETAIL_END`, white +`DETAIL_END`.
Of a network's map the scale follows the numbers of what is shown, is the same for its three details, and is stated.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from models.zoo import Loaded
from poolcore import Bands, LiftDownPool2d, LiftUpPool2d, trace

__all__ = [
    "BANDS",
    "DETAIL_END",
    "Rebuilt",
    "Scale",
    "Split",
    "Wavelet",
    "draw",
    "mosaic",
    "split_photo",
    "split_place",
]

BANDS = ("LL", "LH", "HL", "HH")
DETAIL_END = 0.25
LONGEST = 448
"""Pixels of a photo's longer side when it is split."""

Wavelet = Literal["haar", "cdf53"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Rebuilt:
    """What `LiftUpPool2d` makes of some bands, the others taken as zero.

    Attributes:
        x: (1, C, H, W), of the size of what was split.
        largest_error: largest difference from what was split.
        psnr_db: ten times the decimal logarithm of peak squared over the mean square error; infinite without error.
    """

    x: Tensor
    largest_error: float
    psnr_db: float


@dataclass(frozen=True)
class Split:
    """Something split into bands.

    Attributes:
        x: what was split, (1, C, H, W).
        down: the layer that splits it.
        bands: of ``x``, each (1, C, ceil(H / 2), ceil(W / 2)).
        is_photo: whether x is a photo, in RGB from 0 to 1, and no map of a network.
    """

    x: Tensor
    down: LiftDownPool2d
    bands: Bands
    is_photo: bool

    @property
    def peak(self) -> float:
        """The range of x: 1 for a photo, else its largest number less its smallest."""
        return 1.0 if self.is_photo else float(self.x.max() - self.x.min())

    def energy(self) -> dict[str, float]:
        """Return each band's sum of squares in percent of that of all four bands; all zero of nothing but zeros."""
        squares = [float(band.double().square().sum()) for band in self.bands[:4]]
        total = sum(squares)
        return {name: 100 * square / total if total else 0.0 for name, square in zip(BANDS, squares, strict=True)}

    def rebuild(self, keep: Collection[str]) -> Rebuilt:
        """Undo the split with only the bands of `BANDS` that are named."""
        parts = [b if name in keep else torch.zeros_like(b) for name, b in zip(BANDS, self.bands[:4], strict=True)]
        with torch.inference_mode():
            x = LiftUpPool2d(self.down)(Bands(parts[0], parts[1], parts[2], parts[3], self.bands.size))
        error = (x - self.x).double()
        mean_square = float(error.square().mean())
        psnr_db = 10 * float(np.log10(self.peak**2 / mean_square)) if mean_square else float("inf")
        return Rebuilt(x, float(error.abs().max()), psnr_db)


def split_photo(photo: Image.Image, wavelet: Wavelet) -> Split:
    """Split an RGB photo, made at most `LONGEST` pixels long, by a fixed wavelet."""
    factor = min(1, LONGEST / max(photo.size))
    size = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
    small = photo if size == photo.size else photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    x = pil_to_tensor(small)[None].float() / 255
    down = LiftDownPool2d(3, filters=wavelet)
    return Split(x, down, down.bands(x), is_photo=True)


def split_place(loaded: Loaded, photo: Image.Image, place: str) -> Split:
    """Split what a LiftPool network pools at a place, by the filters that it learned there."""
    with torch.inference_mode(), trace(loaded.network) as seen:
        loaded.network(loaded.preprocess(photo))
    layer, bands = seen[place].layer, seen[place].bands
    assert isinstance(layer, LiftDownPool2d)
    assert isinstance(bands, Bands)
    return Split(seen[place].input, layer, bands, is_photo=False)


@dataclass(frozen=True)
class Scale:
    """What black and white mean.

    Attributes:
        low, high: of what was split, LL and what is rebuilt.
        detail: of LH, HL and HH; black is -detail, or 0 where only sizes are shown.
        signed: whether details have a sign; else every picture shows sizes, means over the channels.
    """

    low: float
    high: float
    detail: float
    signed: bool


def draw(split: Split, rebuilt: Rebuilt, channel: int | None) -> tuple[dict[str, Pixels], Scale]:
    """Return the pictures "split", "LL", "LH", "HL", "HH" and "rebuilt", (H, W) or (H, W, 3), and their scale.

    Args:
        channel: of a network's map, counted from 0; None shows the mean size of all. A photo is shown in colour.
    """
    tensors = {"split": split.x, **dict(zip(BANDS, split.bands[:4], strict=True)), "rebuilt": rebuilt.x}
    if split.is_photo:
        values = {name: x[0].permute(1, 2, 0).numpy() for name, x in tensors.items()}
        scale = Scale(0.0, 1.0, DETAIL_END, signed=True)
    else:
        maps = {name: x[0].abs().mean(0) if channel is None else x[0, channel] for name, x in tensors.items()}
        values = {name: x.cpu().numpy() for name, x in maps.items()}
        largest = float(np.quantile(np.abs([values[name] for name in BANDS[1:]]), 0.99))
        coarse = np.concatenate([values["split"].ravel(), values["LL"].ravel()])
        low = 0.0 if channel is None else float(coarse.min())
        scale = Scale(low, float(coarse.max()), float(f"{max(largest, 1e-6):.2g}"), signed=channel is not None)
    pictures = {}
    for name, numbers in values.items():
        if name in BANDS[1:]:
            position = 0.5 + 0.5 * numbers / scale.detail if scale.signed else numbers / scale.detail
        else:
            position = (numbers - scale.low) / max(scale.high - scale.low, 1e-12)
        pictures[name] = np.rint(255 * np.clip(position, 0, 1)).astype(np.uint8)
    return pictures, scale


def mosaic(pictures: Mapping[str, Pixels]) -> Image.Image:
    """Return the four bands as one picture in the order that is usual for wavelets: LL HL above LH HH."""
    rows = [np.concatenate([pictures[name] for name in pair], axis=1) for pair in (("LL", "HL"), ("LH", "HH"))]
    return Image.fromarray(np.concatenate(rows))
