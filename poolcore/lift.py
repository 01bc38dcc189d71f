"""LiftPool: a reversible change of basis by the lifting scheme (Zhao & Snoek 2021, arXiv 2104.00996).

One step along an axis splits it into even and odd pixels and predicts one from the other:

    d = x_odd - P(x_even),    s = x_even + U(d)          undone by    x_even = s - U(d),    x_odd = d + P(x_even)

which is exact for any P and U. Width first, then height on both halves, gives four bands at half the size: LL
(coarse), LH (vertical detail), HL (horizontal detail), HH (diagonal detail). Pooling combines them.

P and U are either learned, tanh(scale * relu(conv(x) + bias) + shift), depthwise with K taps along the split axis and
shared by both axes, or one of the fixed wavelets "haar" and "cdf53", which work on a photo without training. Where the
paper leaves P and U open this is our choice: with depthwise convolutions the layer is a stencil per channel.

For the whole family: dtype and memory format are kept; half precision is computed in fp32, under autocast too; an odd
axis is extended by its last pixel and cropped again by the inverse; NaN spreads along its row and column as far as the
filters reach.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolcore.blocks import by_blocks
from poolcore.precision import autocast_off, compute_dtype
from poolcore.window import check_input

__all__ = ["Bands", "LiftDownPool2d", "LiftFilter", "LiftUpPool2d", "lift_down_pool2d", "lift_up_pool2d"]

WIDTH, HEIGHT = -1, -2

Combine = Literal["sum", "mean", "ll"]
Fixed = Literal["haar", "cdf53"]
PaddingMode = Literal["replicate", "zeros"]


class Bands(NamedTuple):
    """LiftPool's four bands, each (N, C, ceil(H / 2), ceil(W / 2)), and the size (H, W) they came from."""

    ll: Tensor
    lh: Tensor
    hl: Tensor
    hh: Tensor
    size: tuple[int, int]


class Filter(Protocol):
    """P or U: a map from one half of an axis to a guess of the other, of the same shape."""

    def __call__(self, x: Tensor, axis: int) -> Tensor: ...


def _pad(x: Tensor, axis: int, before: int, after: int, mode: PaddingMode) -> Tensor:
    amounts = (before, after, 0, 0) if axis == WIDTH else (0, 0, before, after)
    return F.pad(x, amounts, mode="replicate") if mode == "replicate" else F.pad(x, amounts)


# Taps of P and of U, centred, the ends replicated.
WAVELETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "haar": ((1.0,), (0.5,)),
    "cdf53": ((0.0, 0.5, 0.5), (0.25, 0.25, 0.0)),
}


def _fixed(taps: Sequence[float]) -> Filter:
    """Return the linear filter with these taps."""

    def apply(x: Tensor, axis: int) -> Tensor:
        padded = _pad(x, axis, len(taps) // 2, len(taps) // 2, "replicate")
        terms = [tap * padded.narrow(axis, k, x.shape[axis]) for k, tap in enumerate(taps) if tap]
        return sum(terms[1:], terms[0])

    return apply


def _learned(parameters: Sequence[Tensor], padding_mode: PaddingMode) -> Filter:
    weight, bias, scale, shift = parameters
    channels, taps = weight.shape

    def apply(x: Tensor, axis: int) -> Tensor:
        if x.shape[1] != channels:
            raise ValueError(f"x must have {channels} channels, as many as LiftPool's filters, got {x.shape[1]}")
        kernel = weight.view(channels, 1, 1, taps) if axis == WIDTH else weight.view(channels, 1, taps, 1)
        padded = _pad(x, axis, taps // 2, taps // 2, padding_mode)
        with autocast_off(x.device.type):
            conv = F.conv2d(padded, kernel.to(x.dtype), groups=channels)
        # The bias is added after the convolution: as a part of it, its gradient is ten times as slow on a CPU.
        hidden = F.relu(conv + _per_channel(bias, x))
        z = hidden * _per_channel(scale, x) + _per_channel(shift, x)
        return 2 * torch.sigmoid(2 * z) - 1  # tanh(z), at a sixth of its time on a CPU

    return apply


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.to(x.dtype).view(-1, 1, 1)


class LiftFilter(nn.Module):
    """P or U of a learned LiftPool: ``tanh(scale * relu(conv(x) + bias) + shift)``, depthwise, K taps along an axis.

    ``scale`` and ``shift`` begin at 0, so that an untrained layer's bands are the pixels themselves and their mean is
    average pooling. Parameters: ``channels * (K + 3)``.

    Args:
        channels: of the input.
        kernel_size: K, odd.
        padding_mode: what lies beyond the ends, "replicate" (the last pixel) or "zeros".
    """

    def __init__(self, channels: int, kernel_size: int = 5, padding_mode: PaddingMode = "replicate") -> None:
        super().__init__()
        if type(kernel_size) is not int or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size of LiftPool's filters must be an odd int of at least 1, got {kernel_size!r}")
        if padding_mode not in ("replicate", "zeros"):
            raise ValueError(f'padding_mode must be "replicate" or "zeros", got {padding_mode!r}')
        self.padding_mode: PaddingMode = padding_mode
        self.weight = nn.Parameter(torch.empty(channels, kernel_size))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four parameters in the order of the formula."""
        return self.weight, self.bias, self.scale, self.shift

    def forward(self, x: Tensor, axis: int) -> Tensor:
        return _learned(self.parts, self.padding_mode)(x, axis)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, kernel_size={self.weight.shape[1]}, padding_mode={self.padding_mode}"


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd pixels of an axis."""
    return (x[..., 0::2], x[..., 1::2]) if axis == WIDTH else (x[..., 0::2, :], x[..., 1::2, :])


def _analyse(x: Tensor, axis: int, predict: Filter, update: Filter) -> tuple[Tensor, Tensor]:
    """Return (s, d) of an axis of even length."""
    even, odd = _halves(x, axis)
    d = odd - predict(even, axis)
    return even + update(d, axis), d


def _synthesise(s: Tensor, d: Tensor, axis: int, predict: Filter, update: Filter) -> Tensor:
    even = s - update(d, axis)
    odd = d + predict(even, axis)
    stacked = torch.stack((even, odd), dim=even.dim() + axis + 1)
    return stacked.flatten(stacked.dim() + axis - 1, stacked.dim() + axis)


def _extended(x: Tensor) -> Tensor:
    """Return an image in the dtype that LiftPool computes in, with axes of even length: the last pixel repeated."""
    h, w = x.shape[-2:]
    x = x.to(compute_dtype(x.dtype))
    return F.pad(x, (0, w % 2, 0, h % 2), mode="replicate") if h % 2 or w % 2 else x


def _bands(x: Tensor, predict: Filter, update: Filter) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    s, d = _analyse(_extended(x), WIDTH, predict, update)
    return *_analyse(s, HEIGHT, predict, update), *_analyse(d, HEIGHT, predict, update)


def _combine(bands: tuple[Tensor, Tensor, Tensor, Tensor], combine: Combine) -> Tensor:
    if combine == "ll":
        return bands[0]
    total = bands[0] + bands[1] + bands[2] + bands[3]
    return total / 4 if combine == "mean" else total


def _check_combine(combine: Combine | None) -> None:
    if combine not in (None, "sum", "mean", "ll"):
        raise ValueError(f'combine must be None, "sum", "mean" or "ll", got {combine!r}')


def _filters(filters: Fixed | tuple[Filter, Filter]) -> tuple[Filter, Filter]:
    if isinstance(filters, str) and filters in WAVELETS:
        predict, update = WAVELETS[filters]
        return _fixed(predict), _fixed(update)
    if not isinstance(filters, tuple) or len(filters) != 2 or not all(callable(part) for part in filters):
        raise ValueError(f'filters must be "haar", "cdf53" or a pair of callables (P, U), got {filters!r}')
    return filters


@overload
def lift_down_pool2d(x: Tensor, filters: Fixed | tuple[Filter, Filter] = "haar", *, combine: None = None) -> Bands: ...


@overload
def lift_down_pool2d(x: Tensor, filters: Fixed | tuple[Filter, Filter] = "haar", *, combine: Combine) -> Tensor: ...


def lift_down_pool2d(
    x: Tensor, filters: Fixed | tuple[Filter, Filter] = "haar", *, combine: Combine | None = None
) -> Bands | Tensor:
    """Split an image into four bands of half its size, or pool it by combining them.

    Args:
        filters: "haar", "cdf53", or a pair of callables (P, U), each from (tensor, axis) to a tensor of the same shape.
        combine: None returns the bands; "sum" of the four is the paper's pooling; "mean" is a quarter of it, with
            average pooling's gain; "ll" keeps the coarse band alone.

    Shape:
        (N, C, H, W) or (C, H, W) -> the same with ``ceil(H / 2)``, ``ceil(W / 2)``.

    Raises:
        TypeError: for an input that is no floating-point tensor.
        ValueError: for a shape, filters or a combination that is not allowed.

    Example:
        >>> lift_down_pool2d(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), "haar").ll
        tensor([[[2.5000]]])
    """
    _check_combine(combine)
    check_input(x)
    predict, update = _filters(filters)
    bands = _bands(x if x.dim() == 4 else x[None], predict, update)
    if combine is not None:
        y = _combine(bands, combine).to(x.dtype)
        return y if x.dim() == 4 else y[0]
    ll, lh, hl, hh = (band.to(x.dtype) if x.dim() == 4 else band[0].to(x.dtype) for band in bands)
    return Bands(ll, lh, hl, hh, (x.shape[-2], x.shape[-1]))


def lift_up_pool2d(bands: Bands | Tensor, filters: Fixed | tuple[Filter, Filter] = "haar") -> Tensor:
    """Undo `lift_down_pool2d`: the image whose bands these are, exact up to rounding.

    Args:
        bands: the four bands; or LL alone as a tensor, whose details are then taken as zero (with Haar this is
            nearest-neighbour upsampling, with CDF 5/3 linear interpolation).
        filters: those of the analysis.

    Shape:
        Bands of (N, C, h, w) or (C, h, w) -> (..., H, W) of ``bands.size``; LL alone -> (..., 2 h, 2 w).

    Raises:
        TypeError, ValueError: as `lift_down_pool2d`; ValueError also for bands of different shapes.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]]])
        >>> lift_up_pool2d(lift_down_pool2d(x))
        tensor([[[1., 2., 5.],
                 [3., 4., 6.]]])
    """
    predict, update = _filters(filters)
    if isinstance(bands, Tensor):
        zero = torch.zeros_like(bands)
        bands = Bands(bands, zero, zero, zero, (2 * bands.shape[-2], 2 * bands.shape[-1]))
    parts = bands[:4]
    for name, part in zip(Bands._fields, parts, strict=False):
        check_input(part, name=name)
    if len({part.shape for part in parts}) != 1:
        raise ValueError(f"the four bands must have one shape, got {[tuple(part.shape) for part in parts]}")
    dtype = compute_dtype(parts[0].dtype)
    ll, lh, hl, hh = (part.to(dtype) if part.dim() == 4 else part.to(dtype)[None] for part in parts)
    s = _synthesise(ll, lh, HEIGHT, predict, update)
    d = _synthesise(hl, hh, HEIGHT, predict, update)
    x = _synthesise(s, d, WIDTH, predict, update)[..., : bands.size[0], : bands.size[1]]
    x = x.to(parts[0].dtype)
    return x if parts[0].dim() == 4 else x[0]


class LiftDownPool2d(nn.Module):
    """Pool by lifting, or split into bands, as `lift_down_pool2d` does with this layer's P and U.

    Args:
        channels: of the input.
        kernel_size: taps K of the learned filters, odd.
        filters: "learned", or a fixed wavelet "haar" or "cdf53".
        combine: None for the bands, "sum", "mean" or "ll".
        padding_mode: of the learned filters, "replicate" or "zeros".

    Shape:
        (N, C, H, W) or (C, H, W) -> the same with ``ceil(H / 2)``, ``ceil(W / 2)``.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 5,
        *,
        filters: Literal["learned", "haar", "cdf53"] = "learned",
        combine: Combine | None = None,
        padding_mode: PaddingMode = "replicate",
    ) -> None:
        super().__init__()
        _check_combine(combine)
        if filters not in ("learned", *WAVELETS):
            raise ValueError(f'filters must be "learned", "haar" or "cdf53", got {filters!r}')
        self.combine = combine
        self.filter_name = filters
        if filters == "learned":
            self.predict = LiftFilter(channels, kernel_size, padding_mode)
            self.update = LiftFilter(channels, kernel_size, padding_mode)

    @property
    def filters(self) -> tuple[Filter, Filter]:
        """P and U."""
        return (self.predict, self.update) if self.filter_name == "learned" else _filters(self.filter_name)

    def bands(self, x: Tensor) -> Bands:
        """Return the four bands of ``x``, whatever ``combine`` says."""
        return lift_down_pool2d(x, self.filters)

    def forward(self, x: Tensor) -> Bands | Tensor:
        check_input(x)
        if self.combine is None:
            return self.bands(x)
        blocked = x.dim() == 4 and x.device.type == "cpu" and not torch.compiler.is_compiling()
        if self.filter_name == "learned" and blocked:
            return by_blocks(self._pool, (x,), (*self.predict.parts, *self.update.parts))
        return lift_down_pool2d(x, self.filters, combine=self.combine)

    def _pool(self, x: Tensor, *parameters: Tensor) -> Tensor:
        assert self.combine is not None
        mode = self.predict.padding_mode
        filters = _learned(parameters[:4], mode), _learned(parameters[4:], mode)
        return lift_down_pool2d(x, filters, combine=self.combine)

    def lift_losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_u, c_p), LiftPool's two regularisers, as mean squares over the three 1D steps.

        c_u keeps s near the odd pixels, c_p keeps the detail d small (Zhao & Snoek 2021 by norms; means do not grow
        with the batch).
        """
        check_input(x)
        x = _extended(x if x.dim() == 4 else x[None])
        s, d = _analyse(x, WIDTH, *self.filters)
        update_losses, predict_losses = [], []
        for source, axis in ((x, WIDTH), (s, HEIGHT), (d, HEIGHT)):
            coarse, detail = _analyse(source, axis, *self.filters)
            update_losses.append((coarse - _halves(source, axis)[1]).square().mean())
            predict_losses.append(detail.square().mean())
        return torch.stack(update_losses).mean(), torch.stack(predict_losses).mean()

    def extra_repr(self) -> str:
        return f"filters={self.filter_name}, combine={self.combine}"


class LiftUpPool2d(nn.Module):
    """Undo a `LiftDownPool2d` with its own P and U: ``LiftUpPool2d(down)(down.bands(x))`` is x.

    Shape:
        Bands, or LL alone, as in `lift_up_pool2d`.
    """

    def __init__(self, down: LiftDownPool2d) -> None:
        super().__init__()
        self.down = down

    def forward(self, bands: Bands | Tensor) -> Tensor:
        return lift_up_pool2d(bands, self.down.filters)
