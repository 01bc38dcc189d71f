"""Fifteen corruptions of photos at five severities, and what they cost a network.

The corruptions are those of Hendrycks & Dietterich 2019 (arXiv 1903.12261), with the constants that their Tiny
ImageNet-C has for 64 px; lengths are in pixels, so pictures of another size are refused. They are made here from their
definitions, not taken from the published files, and `DIFFERENCES` says where they depart from these. Read numbers as
comparisons between networks under one set of corruptions, not against published ones. By those constants a picture
gets ever farther from the clean one, but for two: glass_blur begins without a blur and so with the sharpest
misplaced pixels, elastic_transform trades large affine moves for small local ones.

A corrupted picture is drawn from (seed, index of the photo, corruption, severity) alone: it is the same in whichever
batch, and for every network. The arithmetic is in fp64, so that no order of additions decides how a byte is rounded.
On one thread of a server's processor all 75 take some 45 ms a photo; a network's 75 answers come on top.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

__all__ = [
    "CORRUPTIONS",
    "DIFFERENCES",
    "SEVERITIES",
    "SIZE",
    "SOURCE",
    "corrupt",
    "count_errors",
    "mean_corruption_error",
]

SIZE = 64
SEVERITIES = (1, 2, 3, 4, 5)
BATCH_SIZE = 250

SOURCE = "Hendrycks & Dietterich 2019, arXiv 1903.12261, with the constants of Tiny ImageNet-C"
DIFFERENCES = {
    "all": "made from the 64 px squares that the networks see; not stored as JPEG of quality 85 before they are shown",
    "motion_blur": "a line of whole-pixel steps, its weights cut off at four standard deviations",
    "zoom_blur": "zooms about the exact middle",
    "snow": "flakes zoomed and blurred as in zoom_blur and motion_blur",
    "frost": "synthetic: ice drawn from a fractal, not photographs of ice",
    "elastic_transform": "one bilinear interpolation for both displacements, not one for each",
}

Generators = Sequence[np.random.Generator]
"""One for each picture of a batch."""


def _draw(generators: Generators, draw: Callable[[np.random.Generator], NDArray[Any] | float]) -> Tensor:
    """Return what every picture's generator draws, stacked, in fp64."""
    return torch.from_numpy(np.stack([np.asarray(draw(generator), dtype=np.float64) for generator in generators]))


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Blur (..., S, S) by a Gaussian; at the border the weights of the pixels that exist are brought to a sum of 1."""
    place = torch.arange(x.shape[-1], dtype=x.dtype)
    weight = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    weight /= weight.sum(dim=1, keepdim=True)
    return weight @ x @ weight.T


def _zoom(x: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of (N, C, S, S) to the whole, bilinearly."""
    scale = torch.eye(2, 3, dtype=x.dtype).div(factor).expand(len(x), 2, 3)
    grid = F.affine_grid(scale, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _smear(x: Tensor, degrees: Tensor, radius: int, sigma: float) -> Tensor:
    """Smear (N, C, S, S) along a line of each picture's own angle, (N,): half a Gaussian, from the pixel onwards."""
    count, channels, size, _ = x.shape
    angle = torch.deg2rad(degrees)
    each = torch.arange(count).view(-1, 1, 1, 1)
    channel = torch.arange(channels).view(1, -1, 1, 1)
    place = torch.arange(size)
    result, total = torch.zeros_like(x), 0.0
    for step in range(min(2 * radius, math.ceil(4 * sigma)) + 1):
        weight = math.exp(-(step**2) / (2 * sigma**2))
        down, right = (step * angle.sin()).round().long(), (step * angle.cos()).round().long()
        rows = (place + down[:, None]).clamp(0, size - 1).view(count, 1, size, 1)
        columns = (place + right[:, None]).clamp(0, size - 1).view(count, 1, 1, size)
        result += weight * x[each, channel, rows, columns]
        total += weight
    return result / total


def _plasma(generators: Generators, decay: float) -> Tensor:
    """Return a height map for each picture, (N, S, S) from 0 to 1: the diamond-square fractal on a torus.

    From the corners inwards every point becomes the mean of the four around it, moved by a random amount that falls
    by ``decay`` squared with every halving (Fournier, Fussell & Carpenter 1982).
    """
    noise = _draw(generators, lambda generator: generator.uniform(-1, 1, (SIZE, SIZE)))
    field = torch.zeros_like(noise)
    step, amplitude = SIZE, 1.0
    while step > 1:
        half = step // 2
        corner = field[:, ::step, ::step]
        pair = corner + corner.roll(-1, 1)
        middle = (pair + pair.roll(-1, 2)) / 4 + amplitude * noise[:, half::step, half::step]
        # An edge's point has the corners at its ends and the middles of the squares on both its sides around it.
        across = (corner + corner.roll(-1, 2) + middle + middle.roll(1, 1)) / 4
        along = (corner + corner.roll(-1, 1) + middle + middle.roll(1, 2)) / 4
        field[:, half::step, half::step] = middle
        field[:, ::step, half::step] = across + amplitude * noise[:, ::step, half::step]
        field[:, half::step, ::step] = along + amplitude * noise[:, half::step, ::step]
        step, amplitude = half, amplitude / decay**2
    field -= field.amin(dim=(1, 2), keepdim=True)
    return field / field.amax(dim=(1, 2), keepdim=True)


def _redraw(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Return each of the pictures (N, 3, S, S) as ``change`` leaves it."""
    pictures = (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).double() / 255


def _gaussian_noise(x: Tensor, generators: Generators, deviation: float) -> Tensor:
    return x + deviation * _draw(generators, lambda generator: generator.standard_normal(x.shape[1:]))


def _shot_noise(x: Tensor, generators: Generators, photons: float) -> Tensor:
    """Count photons where white sends ``photons`` on average."""
    pictures = iter((photons * x).numpy())
    return _draw(generators, lambda generator: generator.poisson(next(pictures))) / photons


def _impulse_noise(x: Tensor, generators: Generators, share: float) -> Tensor:
    """Turn a share of all values black or white, half of it each."""
    chance = _draw(generators, lambda generator: generator.random(x.shape[1:]))
    return x.masked_fill(chance < share, 1.0).masked_fill(chance < share / 2, 0.0)


def _defocus_blur(x: Tensor, _: Generators, radius: float, soften: float) -> Tensor:
    """Blur by a disc, its rim softened by a Gaussian of 3 x 3 pixels."""
    reach = math.floor(radius) + 1
    place = torch.arange(-reach, reach + 1, dtype=x.dtype)
    disc = (place[:, None] ** 2 + place**2 <= radius**2).to(x.dtype)
    tap = torch.exp(-torch.tensor([1.0, 0.0, 1.0], dtype=x.dtype) / (2 * soften**2))
    kernel = F.conv2d(disc[None, None], (tap[:, None] * tap)[None, None], padding=1)
    size, result = x.shape[-1], torch.zeros_like(x)
    padded = F.pad(x, [reach] * 4, mode="reflect")
    for row, column in (kernel[0, 0] > 0).nonzero().tolist():
        result += kernel[0, 0, row, column] * padded[:, :, row : row + size, column : column + size]
    return result / kernel.sum()


def _glass_blur(x: Tensor, generators: Generators, sigma: float, reach: int, rounds: int) -> Tensor:
    """Blur, put in place of every pixel one nearby, from the last row and column to the first, blur again.

    The published pictures were meant to exchange the two and hold copies, as these do.
    """
    count = len(x)
    places = range(SIZE - reach, reach, -1)
    shape = (rounds, len(places), len(places), 2)
    moves = _draw(generators, lambda generator: generator.integers(-reach, reach, shape)).long()
    steps = (moves[..., 1] * SIZE + moves[..., 0]).flatten(1).T.contiguous().numpy()  # (pixels, N)
    source = np.arange(SIZE * SIZE)[:, None].repeat(count, axis=1)  # which pixel each place shows, (S * S, N)
    each = np.arange(count)
    pixels = [row * SIZE + column for _ in range(rounds) for row in places for column in places]
    for pixel, step in zip(pixels, steps, strict=True):
        other = pixel + step
        source[pixel] = source[other, each]
    order = torch.from_numpy(source.T).view(count, 1, -1).expand(-1, x.shape[1], -1)
    return _blur(_blur(x, sigma).flatten(2).gather(2, order).view_as(x), sigma)


def _motion_blur(x: Tensor, generators: Generators, radius: int, sigma: float) -> Tensor:
    return _smear(x, _draw(generators, lambda generator: generator.uniform(-45, 45)), radius, sigma)


def _zoom_blur(x: Tensor, _: Generators, largest: float) -> Tensor:
    """Average the picture and its enlargements by 1, 1.01, 1.02 ... up to ``largest``."""
    factors = [1 + percent / 100 for percent in range(round(100 * (largest - 1)) + 1)]
    total = x.clone()
    for factor in factors:
        total += _zoom(x, factor)
    return total / (len(factors) + 1)


def _snow(
    x: Tensor,
    generators: Generators,
    mean: float,
    deviation: float,
    zoom: float,
    least: float,
    radius: int,
    sigma: float,
    kept: float,
) -> Tensor:
    """Whiten the picture and add flakes: noise above a threshold, smeared along its fall, once more upside down."""
    flakes = _draw(generators, lambda generator: generator.normal(mean, deviation, (1, SIZE, SIZE)))
    flakes = _zoom(flakes, zoom)
    flakes = flakes.masked_fill(flakes < least, 0.0).clamp(0, 1)
    flakes = _smear(flakes, _draw(generators, lambda generator: generator.uniform(-135, -45)), radius, sigma)
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype).view(3, 1, 1)  # ITU-R BT.601
    grey = (luma * x).sum(dim=1, keepdim=True)
    whitened = kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5)
    return whitened + flakes + flakes.flip(2, 3)


def _frost(x: Tensor, generators: Generators, kept: float, ice: float) -> Tensor:
    """Lay bluish veins of ice over the picture: a fractal is white where its height crosses one half."""
    veins = 1 - (2 * _plasma(generators, 1.5) - 1).abs()
    tint = torch.tensor([0.8, 0.9, 1.0], dtype=x.dtype).view(3, 1, 1)
    return kept * x + ice * tint * veins[:, None]


def _fog(x: Tensor, generators: Generators, amount: float, decay: float) -> Tensor:
    """Add a fractal's height, and darken so far that the picture's largest value can stay what it was."""
    largest = x.amax(dim=(1, 2, 3), keepdim=True)
    return (x + amount * _plasma(generators, decay)[:, None]) * largest / (largest + amount)


def _brightness(x: Tensor, _: Generators, amount: float) -> Tensor:
    """Raise the value of HSV, which is the largest of R, G and B; hue and saturation stay, so all three grow alike."""
    value = x.amax(dim=1, keepdim=True)
    raised = (value + amount).clamp(max=1)
    return torch.where(value > 0, x * (raised / value), raised)  # black has no hue and turns grey


def _contrast(x: Tensor, _: Generators, kept: float) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) * kept + mean


def _elastic_transform(x: Tensor, generators: Generators, height: float, sigma: float, pull: float) -> Tensor:
    """Move three corners of a square by up to ``pull``, and every pixel by smoothed noise of ``height``."""
    corners = _draw(generators, lambda generator: generator.uniform(-pull, pull, (3, 1, 1, 2)))
    right_low, right_top, left_top = corners.unbind(1)  # (N, 1, 1, 2) each
    # The affine displacement is the plane through those of the three corners, which lie S / 3 from the middle.
    place = (torch.arange(SIZE, dtype=x.dtype) - (SIZE // 2 - SIZE // 3)) / (2 * (SIZE // 3))
    across, down = place[None, :, None], place[:, None, None]
    shift = left_top + across * (right_top - left_top) + down * (right_low - right_top)  # (N, S, S, 2) as (x, y)
    if height > 0:
        noise = _draw(generators, lambda generator: generator.uniform(-1, 1, (2, SIZE, SIZE)))
        shift = shift + height * _blur(noise, sigma).permute(0, 2, 3, 1)
    pixel = torch.arange(SIZE, dtype=x.dtype)
    grid = torch.stack((pixel.expand(SIZE, SIZE), pixel[:, None].expand(SIZE, SIZE)), dim=-1) + shift
    return F.grid_sample(x, grid * 2 / (SIZE - 1) - 1, padding_mode="reflection", align_corners=True)


def _pixelate(x: Tensor, _: Generators, scale: float) -> Tensor:
    side = int(SIZE * scale)

    def change(picture: Image.Image) -> Image.Image:
        small = picture.resize((side, side), Image.Resampling.BOX)
        return small.resize(picture.size, Image.Resampling.BOX)

    return _redraw(x, change)


def _jpeg_compression(x: Tensor, _: Generators, quality: int) -> Tensor:
    def change(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _redraw(x, change)


class _Corruption(NamedTuple):
    effect: Callable[..., Tensor]  # of pictures (N, 3, S, S) in 0..1, their generators and a severity's constants
    constants: tuple[tuple[float, ...], ...]


def _single(*constants: float) -> tuple[tuple[float, ...], ...]:
    return tuple((constant,) for constant in constants)


_CORRUPTIONS = {
    "gaussian_noise": _Corruption(_gaussian_noise, _single(0.04, 0.08, 0.12, 0.15, 0.18)),
    "shot_noise": _Corruption(_shot_noise, _single(250, 100, 50, 30, 15)),
    "impulse_noise": _Corruption(_impulse_noise, _single(0.01, 0.02, 0.05, 0.08, 0.14)),
    "defocus_blur": _Corruption(_defocus_blur, ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1))),
    "glass_blur": _Corruption(_glass_blur, ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2))),
    "motion_blur": _Corruption(_motion_blur, ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3))),
    "zoom_blur": _Corruption(_zoom_blur, _single(1.05, 1.1, 1.15, 1.2, 1.25)),
    "snow": _Corruption(
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
    ),
    "frost": _Corruption(_frost, ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55))),
    "fog": _Corruption(_fog, ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75))),
    "brightness": _Corruption(_brightness, _single(0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": _Corruption(_contrast, _single(0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": _Corruption(
        _elastic_transform,
        ((0, 0, 5.12), (3.2, 19.2, 3.84), (6.4, 5.12, 3.84), (6.4, 1.92, 1.92), (10.24, 1.92, 1.28)),
    ),
    "pixelate": _Corruption(_pixelate, _single(0.9, 0.8, 0.7, 0.6, 0.5)),
    "jpeg_compression": _Corruption(_jpeg_compression, _single(65, 58, 50, 40, 25)),
}
CORRUPTIONS = tuple(_CORRUPTIONS)


def corrupt(images: Tensor, indices: Sequence[int], corruption: str, severity: int, seed: int = 0) -> Tensor:
    """Return corrupted pictures, uint8 like ``images``.

    Args:
        images: uint8, not changed.
        indices: of the photos in their image set, not negative: each has noise of its own.
        corruption: one of `CORRUPTIONS`.
        severity: from 1 to 5.
        seed: of everything that is drawn, not negative.

    Shape:
        images and result: (N, 3, 64, 64); indices: N.

    Raises:
        ValueError: for an unknown corruption or severity, or pictures of another size.

    Example:
        >>> grey = torch.full((1, 3, 64, 64), 100, dtype=torch.uint8)
        >>> corrupt(grey, [0], "brightness", 1).unique()  # 100 + 0.1 * 255, rounded
        tensor([126], dtype=torch.uint8)
    """
    if corruption not in _CORRUPTIONS:
        raise ValueError(f"corruption must be one of {CORRUPTIONS}, got {corruption!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be one of {SEVERITIES}, got {severity!r}")
    if images.dtype != torch.uint8 or images.shape != (len(indices), 3, SIZE, SIZE):
        raise ValueError(
            f"images must be uint8 of shape (N, 3, {SIZE}, {SIZE}) with N indices, "
            f"got {images.dtype} of {tuple(images.shape)} with {len(indices)}"
        )
    effect, constants = _CORRUPTIONS[corruption]
    rank = CORRUPTIONS.index(corruption)
    generators = [np.random.default_rng((seed, index, rank, severity)) for index in indices]
    changed = effect(images.double() / 255, generators, *constants[severity - 1])
    return (255 * changed.clamp(0, 1)).round().to(torch.uint8)


def count_errors(
    classifiers: Mapping[str, Callable[[Tensor], Tensor]],
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    seed: int = 0,
) -> dict[str, dict[str, list[float]]]:
    """Return each classifier's share of wrong answers, from 0 to 1, by corruption and severity.

    Every corrupted picture is made once and shown to all.

    Args:
        classifiers: by name; each gives the classes, (N,), of uint8 images (N, 3, 64, 64).
        images: uint8.
        labels: their classes.
        indices: of the photos in their image set.
        seed: of the corruptions.

    Shape:
        images: (N, 3, 64, 64); labels: (N,); indices: N.
    """
    wrong = {name: {corruption: [0.0] * len(SEVERITIES) for corruption in CORRUPTIONS} for name in classifiers}
    kinds = [(corruption, severity) for corruption in CORRUPTIONS for severity in SEVERITIES]
    for corruption, severity in tqdm(kinds, "corruptions", leave=False, disable=None):
        for start in range(0, len(images), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            corrupted = corrupt(images[batch], indices[batch], corruption, severity, seed)
            for name, classify in classifiers.items():
                missed = int((classify(corrupted) != labels[batch]).sum())
                wrong[name][corruption][severity - 1] += missed / len(images)
    return wrong


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]
) -> float | None:
    """Return mCE: the mean, over corruptions, of the errors' sum over the baseline's (arXiv 1903.12261).

    There the baseline is AlexNet and the mean is in percent; here whoever calls names the baseline, whose mCE is 1.

    Args:
        errors: of a network by corruption, one for each severity.
        baseline: the same of the network it is held against.

    Returns:
        None where the baseline made no error under some corruption: nothing can be said relative to that.
    """
    if not all(sum(baseline[corruption]) for corruption in errors):
        return None
    return float(np.mean([sum(own) / sum(baseline[corruption]) for corruption, own in errors.items()]))
