"""The six networks by hand: loops over windows and kernel cells in fp64, from a weights file's numbers alone.

This is the truth that the page's numbers are held against, so it shares no code with the page's rooms: none of their
layers, none of their preprocessing, no torch.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from models.zoo import OPENING

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "models" / "weights"
SET = OPENING
"""The set of networks with which the page opens."""
VARIANTS = ("stock", "max", "avg", "soft", "lip", "lift")
WINDOWS = {
    "stock": (3, 2, 1),
    "max": (3, 2, 1),
    "avg": (2, 2, 0),
    "soft": (2, 2, 0),
    "lip": (3, 2, 1),
    "lift": (2, 2, 0),
}
"""Kernel size, stride and padding of each variant's pooling."""
BANDS = ("LL", "LH", "HL", "HH")
PHOTO_SIDE, SEEN_SIDE = 72, 64
"""A photo of the first many pixels is not resized: the networks see the second many in its middle."""

Array = NDArray[np.float64]


def conv(x: Array, weight: Array, stride: int = 1) -> Array:
    """Convolve (C, H, W) with (C_out, C, K, K), padded with K // 2 zeros."""
    k = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    h, w = ((n + 2 * (k // 2) - k) // stride + 1 for n in x.shape[1:])
    total = np.zeros((len(weight), h, w))
    for i in range(k):
        for j in range(k):
            cell = padded[:, i : i + stride * h : stride, j : j + stride * w : stride]
            total += np.tensordot(weight[:, :, i, j], cell, axes=1)
    return total


def windows_of(x: Array, window: tuple[int, int, int]) -> Array:
    """Return what each window sees, (K * K, C, H_out, W_out), row by row; NaN beyond the rim."""
    k, s, p = window
    padded = np.pad(x, ((0, 0), (p, p), (p, p)), constant_values=np.nan)
    h, w = ((n + 2 * p - k) // s + 1 for n in x.shape[1:])
    return np.stack([padded[:, i : i + s * h : s, j : j + s * w : s] for i in range(k) for j in range(k)])


def softmax_weights(logits: Array) -> Array:
    """Return the weights of windows' pixels, (K * K, C, H_out, W_out); 0 beyond the rim."""
    raised = np.nan_to_num(np.exp(logits - np.nanmax(logits, axis=0)), nan=0.0)
    return raised / raised.sum(axis=0)


def max_weights(values: Array) -> Array:
    """Return 1 at each window's largest pixel, the first where several are equal, else 0."""
    first = np.nanargmax(values, axis=0)
    return np.stack([(first == cell).astype(float) for cell in range(len(values))])


def share_of(weights: Array, shape: tuple[int, ...], window: tuple[int, int, int]) -> Array:
    """Return each pixel's weights summed over all windows, over what averaging would give it; NaN where none reads."""
    k, s, p = window
    c, h, w = shape
    seen = windows_of(np.ones(shape), window)
    average = np.nan_to_num(seen, nan=0.0) / np.nansum(seen, axis=0)
    sums, coverage = np.zeros((c, h + 2 * p, w + 2 * p)), np.zeros((c, h + 2 * p, w + 2 * p))
    for cell in range(k * k):
        for row in range(weights.shape[2]):
            for column in range(weights.shape[3]):
                at = (slice(None), row * s + cell // k, column * s + cell % k)
                sums[at] += weights[cell, :, row, column]
                coverage[at] += average[cell, :, row, column]
    inside = (slice(None), slice(p, p + h), slice(p, p + w))
    with np.errstate(invalid="ignore"):
        return np.where(coverage[inside] > 0, sums[inside] / coverage[inside], np.nan)


def coverage_of(size: int, window: tuple[int, int, int]) -> Array:
    """Return what averaging gives each pixel of a square map, (size, size), one output after the other."""
    k, s, p = window
    coverage = np.zeros((size, size))
    for top in range(-p, size + p - k + 1, s):
        for left in range(-p, size + p - k + 1, s):
            rows = [r for r in range(top, top + k) if 0 <= r < size]
            columns = [c for c in range(left, left + k) if 0 <= c < size]
            for row in rows:
                for column in columns:
                    coverage[row, column] += 1 / (len(rows) * len(columns))
    return coverage


@dataclass
class ByHand:
    """One network's look at one photo.

    Attributes:
        probabilities: by label.
        known: whether the largest reaches the card's threshold.
        inputs: what is pooled at each place, (C, H, W).
        shares: of each input's pixels, for the poolings with weights (max, avg, soft, lip; of stock the stem's).
        energy: of LiftPool's bands at each place, in percent of all four.
    """

    probabilities: dict[str, float] = field(default_factory=dict)
    known: bool = False
    inputs: dict[str, Array] = field(default_factory=dict)
    shares: dict[str, Array] = field(default_factory=dict)
    energy: dict[str, dict[str, float]] = field(default_factory=dict)

    def dropped_and_kept(self, place: str) -> tuple[float, float]:
        """Return how many percent of all channels' pixels have a share below a quarter, and above two."""
        read = self.shares[place][~np.isnan(self.shares[place])]
        return 100 * float((read < 1 / 4).mean()), 100 * float((read > 2).mean())


def look(variant: str, photo: Image.Image) -> ByHand:
    """Let the network of a variant look at a photo of `PHOTO_SIDE` x `PHOTO_SIDE` pixels."""
    path = WEIGHTS / f"{SET}-{variant}.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    tensors = {name: values.astype(np.float64) for name, values in load_file(path).items()}
    for name in [name for name in tensors if name.endswith("_scale")]:  # of each output channel's integers
        own, scale = name.removesuffix("_scale"), tensors.pop(name)
        tensors[own] = np.stack([channel * step for channel, step in zip(tensors[own], scale, strict=True)])
    seen = ByHand()
    logits = _forward(variant, tensors, _normalised(photo), seen) / card["temperature"]
    raised = np.exp(logits - logits.max())
    labels = [label["words"].split(",")[0] for label in card["classes"]]
    seen.probabilities = dict(zip(labels, (raised / raised.sum()).tolist(), strict=True))
    seen.known = max(seen.probabilities.values()) >= card["threshold"]
    return seen


def count_parameters(variant: str) -> int:
    """Return how many numbers of a weights file are learned by descent: all but the norms' running statistics."""
    path = WEIGHTS / f"{SET}-{variant}.safetensors"
    not_learned = re.compile(r"running_|num_batches|_scale$")
    return sum(values.size for name, values in load_file(path).items() if not not_learned.search(name))


def _normalised(photo: Image.Image) -> Array:
    assert photo.mode == "RGB"
    assert photo.size == (PHOTO_SIDE, PHOTO_SIDE)
    rim = (PHOTO_SIDE - SEEN_SIDE) // 2
    pixels = np.asarray(photo, np.float64)[rim:-rim, rim:-rim].transpose(2, 0, 1) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / deviation[:, None, None]


def _forward(variant: str, tensors: dict[str, Array], x: Array, seen: ByHand) -> Array:
    """Return the logits, (classes,), of a normalised image (3, H, W)."""

    def norm(x: Array, name: str) -> Array:
        mean, var = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        factor = tensors[f"{name}.weight"] / np.sqrt(var + 1e-5)
        return (x - mean[:, None, None]) * factor[:, None, None] + tensors[f"{name}.bias"][:, None, None]

    def instance_norm(x: Array, name: str) -> Array:
        centred = x - x.mean((1, 2), keepdims=True)
        normed = centred / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
        return normed * tensors[f"{name}.weight"][:, None, None] + tensors[f"{name}.bias"][:, None, None]

    def gated(x: Array, name: str) -> Array:
        normed = instance_norm(conv(x, tensors[f"{name}.logit.0.weight"]), f"{name}.logit.1")
        return 12 / (1 + np.exp(-normed))

    def trunk(x: Array, name: str) -> Array:
        features = np.maximum(instance_norm(conv(x, tensors[f"{name}.0.weight"]), f"{name}.1"), 0)
        return np.maximum(instance_norm(conv(features, tensors[f"{name}.3.weight"]), f"{name}.4"), 0)

    def pool(x: Array, place: str, name: str, features: Array | None = None) -> Array:
        seen.inputs[place] = x
        if variant == "lift":
            bands = _bands(x, lambda half, axis, part: _filter(tensors, f"{name}.{part}", half, axis))
            seen.energy[place] = _in_percent({band: (x**2).sum() for band, x in zip(BANDS, bands, strict=True)})
            return np.mean(bands, axis=0)
        window = WINDOWS[variant]
        values = windows_of(x, window)
        if variant in ("stock", "max"):
            weights = max_weights(values)
        elif variant == "lip":
            weights = softmax_weights(windows_of(gated(x if features is None else features, name), window))
        else:
            weights = softmax_weights(values if variant == "soft" else 0 * values)
        seen.shares[place] = share_of(weights, x.shape, window)
        return (weights * np.nan_to_num(values, nan=0.0)).sum(0)

    def block(x: Array, name: str, place: str | None) -> Array:
        pools = place is not None and variant != "stock"
        stride = 2 if place is not None and variant == "stock" else 1
        features = trunk(x, f"{name}.trunk") if pools and variant == "lip" else None
        y = np.maximum(norm(conv(x, tensors[f"{name}.conv1.weight"], stride), f"{name}.bn1"), 0)
        if pools:
            y = pool(y, f"{place}", f"{name}.pool", features)
        y = norm(conv(y, tensors[f"{name}.conv2.weight"]), f"{name}.bn2")
        if place is not None:
            if pools:
                x = pool(x, f"{place}.shortcut", f"{name}.shortcut_pool", features)
            x = norm(conv(x, tensors[f"{name}.downsample.0.weight"], stride), f"{name}.downsample.1")
        return np.maximum(x + y, 0)

    x = pool(np.maximum(norm(conv(x, tensors["conv1.weight"]), "bn1"), 0), "stem", "pool")
    for stage in (1, 2, 3, 4):
        for index in (0, 1):
            x = block(x, f"layer{stage}.{index}", f"stage{stage}" if stage > 1 and index == 0 else None)
    return tensors["fc.weight"] @ x.mean((1, 2)) + tensors["fc.bias"]


def _filter(tensors: dict[str, Array], name: str, half: Array, axis: int) -> Array:
    """Return what LiftPool's learned P or U makes of one half of an axis."""
    weight = tensors[f"{name}.weight"]
    taps = weight.shape[1]
    padded = np.pad(half, [(taps // 2,) * 2 if a == axis else (0, 0) for a in range(3)], mode="edge")
    total = np.zeros_like(half)
    for tap in range(taps):
        total += weight[:, tap, None, None] * np.take(padded, range(tap, tap + half.shape[axis]), axis)
    bias, scale, shift = (tensors[f"{name}.{part}"][:, None, None] for part in ("bias", "scale", "shift"))
    return np.tanh(scale * np.maximum(total + bias, 0) + shift)


def _bands(x: Array, filters: Callable[[Array, int, str], Array]) -> tuple[Array, Array, Array, Array]:
    """Split (C, H, W), of even sizes, into LL, LH, HL, HH: width first, then height on both halves."""

    def step(x: Array, axis: int) -> tuple[Array, Array]:
        even, odd = (np.take(x, range(first, x.shape[axis], 2), axis) for first in (0, 1))
        detail = odd - filters(even, axis, "predict")
        return even + filters(detail, axis, "update"), detail

    smooth, detail = step(x, 2)
    return *step(smooth, 1), *step(detail, 1)


def haar_energy(photo: Image.Image) -> dict[str, float]:
    """Return each Haar band's share of an RGB photo's energy in percent, by 2 x 2 cells; the photo's sides are even."""
    pixels = np.asarray(photo, np.float64) / 255
    energy = dict.fromkeys(BANDS, 0.0)
    for row in range(0, pixels.shape[0], 2):
        for column in range(0, pixels.shape[1], 2):
            a, b = pixels[row, column], pixels[row, column + 1]
            c, d = pixels[row + 1, column], pixels[row + 1, column + 1]
            energy["LL"] += float((((a + b + c + d) / 4) ** 2).sum())
            energy["LH"] += float((((c + d) / 2 - (a + b) / 2) ** 2).sum())
            energy["HL"] += float((((b - a) + (d - c)) ** 2 / 4).sum())
            energy["HH"] += float((((d - c) - (b - a)) ** 2).sum())
    return _in_percent(energy)


def psnr_of_means_db(photo: Image.Image) -> float:
    """Return how near the 2 x 2 means of a photo of even sides, which Haar's LL alone rebuilds, come to it."""
    pixels = np.asarray(photo, np.float64) / 255
    errors = []
    for row in range(0, pixels.shape[0], 2):
        for column in range(0, pixels.shape[1], 2):
            cell = pixels[row : row + 2, column : column + 2]
            errors.append((cell - cell.mean((0, 1))) ** 2)
    return float(-10 * np.log10(np.mean(errors)))


def _in_percent(energy: dict[str, float]) -> dict[str, float]:
    total = sum(energy.values())
    return {name: 100 * float(value) / total for name, value in energy.items()}
