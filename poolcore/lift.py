"""LiftPool: a reversible change of basis by the lifting scheme (Zhao & Snoek 2021, arXiv 2104.00996).

An image becomes four bands at half the size: LL (coarse), LH (vertical detail), HL (horizontal detail), HH (diagonal
detail); a sequence two, low and high. Pooling combines them. `poolcore.lifting` has the arithmetic.

The filters P and U are either learned, depthwise with K taps along the split axis and shared by both axes, or one of
the fixed wavelets "haar" and "cdf53", which work on a photo without training (`poolcore.lift_filters`).

For the whole family: dtype and memory format are kept; half precision is computed in fp32, under autocast too; an odd
axis is extended by its last pixel and cropped again by the inverse; NaN spreads along its row and column as far as the
filters reach.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, overload

import torch
from torch import Tensor, nn

from poolcore.lift_filters import WAVELETS, Filter, FilterParts, FixedFilter, LiftFilter, PaddingMode
from poolcore.lift_ops import lift_down, lift_up
from poolcore.lifting import Combine, analyse, extended, halves, merge, split
from poolcore.window import check_input

__all__ = [
    "Bands",
    "Bands1d",
    "LiftDownPool",
    "LiftDownPool1d",
    "LiftDownPool2d",
    "LiftUpPool1d",
    "LiftUpPool2d",
    "lift_down_pool1d",
    "lift_down_pool2d",
    "lift_up_pool1d",
    "lift_up_pool2d",
]

Combine1d = Literal["sum", "mean", "low"]
Combine2d = Literal["sum", "mean", "ll"]
Fixed = Literal["haar", "cdf53"]
Filters = Fixed | tuple[Filter, Filter]


class Bands1d(NamedTuple):
    """LiftPool's two bands of a sequence, each (N, C, ceil(L / 2)), and the size (L,) they came from."""

    low: Tensor
    high: Tensor
    size: tuple[int]


class Bands(NamedTuple):
    """LiftPool's four bands, each (N, C, ceil(H / 2), ceil(W / 2)), and the size (H, W) they came from."""

    ll: Tensor
    lh: Tensor
    hl: Tensor
    hh: Tensor
    size: tuple[int, int]


def _check_combine(combine: str | None, rank: int) -> None:
    coarse = "low" if rank == 1 else "ll"
    if combine not in (None, "sum", "mean", coarse):
        raise ValueError(f'combine must be None, "sum", "mean" or "{coarse}", got {combine!r}')


def _wavelet(name: str) -> tuple[FixedFilter, FixedFilter]:
    predict, update = WAVELETS[name]
    return FixedFilter(predict), FixedFilter(update)


def _filters(filters: Filters, device: torch.device) -> tuple[Filter, Filter]:
    if isinstance(filters, str) and filters in WAVELETS:
        predict, update = _wavelet(filters)
        return predict.to(device), update.to(device)
    if not isinstance(filters, tuple) or len(filters) != 2 or not all(callable(part) for part in filters):
        raise ValueError(f'filters must be "haar", "cdf53" or a pair of callables (P, U), got {filters!r}')
    return filters


def _built_in(predict: Filter, update: Filter, channels: int) -> tuple[FilterParts, FilterParts, PaddingMode] | None:
    """Return the numbers of the two filters, or None where one is the caller's own or they are not of one kind."""
    ours = (LiftFilter, FixedFilter)
    if not isinstance(predict, ours) or not isinstance(update, ours):
        return None
    for part in (predict, update):
        if isinstance(part, LiftFilter) and len(part.weight) != channels:
            raise ValueError(f"x must have {len(part.weight)} channels, as many as LiftPool's filters, got {channels}")
    # Not by type(): torch.export puts a class of its own over each module.
    kinds = [(isinstance(part, LiftFilter), part.weight.shape[1], part.padding_mode) for part in (predict, update)]
    if kinds[0] != kinds[1]:
        return None
    return predict.parts, update.parts, predict.padding_mode


def _down(x: Tensor, filters: Filters, combine: Combine | None, rank: int) -> tuple[Tensor, ...]:
    _check_combine(combine, rank)
    check_input(x, rank)
    if 0 in x.shape[-rank:]:
        raise ValueError(f"x must have at least one pixel along each axis, got {tuple(x.shape)}")
    predict, update = _filters(filters, x.device)
    batch = x if x.dim() == rank + 2 else x[None]
    parts = _built_in(predict, update, batch.shape[1])
    maps = split(batch, predict, update, combine) if parts is None else lift_down(batch, *parts, combine)
    return maps if x.dim() == rank + 2 else tuple(one[0] for one in maps)


def _up(bands: Sequence[Tensor], names: Sequence[str], size: Sequence[int], filters: Filters) -> Tensor:
    rank = len(size)
    for name, band in zip(names, bands, strict=True):
        check_input(band, rank, name)
    shape = bands[0].shape
    if any(band.shape != shape for band in bands):
        raise ValueError(f"the bands must have one shape, got {[tuple(band.shape) for band in bands]}")
    if any((n + 1) // 2 != half for n, half in zip(size, shape[-rank:], strict=True)):
        raise ValueError(f"size must be twice the bands' or one less, got size={tuple(size)} for {tuple(shape)}")
    predict, update = _filters(filters, bands[0].device)
    batch = [band if band.dim() == rank + 2 else band[None] for band in bands]
    parts = _built_in(predict, update, batch[0].shape[1])
    x = merge(batch, size, predict, update) if parts is None else lift_up(batch, size, *parts)
    return x if len(shape) == rank + 2 else x[0]


@overload
def lift_down_pool1d(x: Tensor, filters: Filters = "haar", *, combine: None = None) -> Bands1d: ...


@overload
def lift_down_pool1d(x: Tensor, filters: Filters = "haar", *, combine: Combine1d) -> Tensor: ...


def lift_down_pool1d(x: Tensor, filters: Filters = "haar", *, combine: Combine1d | None = None) -> Bands1d | Tensor:
    """Split a sequence into two bands of half its length, or pool it by combining them: `lift_down_pool2d` in 1D.

    Args:
        filters: as in `lift_down_pool2d`.
        combine: None returns the bands; "sum" of the two, "mean" half of it, "low" the coarse band alone.

    Shape:
        (N, C, L) or (C, L) -> the same with ``ceil(L / 2)``.

    Example:
        >>> low, high, size = lift_down_pool1d(torch.tensor([[1.0, 2.0, 0.0, -1.0]]))
        >>> low, high, size
        (tensor([[ 1.5000, -0.5000]]), tensor([[ 1., -1.]]), (4,))
    """
    maps = _down(x, filters, combine, 1)
    return Bands1d(maps[0], maps[1], (x.shape[-1],)) if combine is None else maps[0]


@overload
def lift_down_pool2d(x: Tensor, filters: Filters = "haar", *, combine: None = None) -> Bands: ...


@overload
def lift_down_pool2d(x: Tensor, filters: Filters = "haar", *, combine: Combine2d) -> Tensor: ...


def lift_down_pool2d(x: Tensor, filters: Filters = "haar", *, combine: Combine2d | None = None) -> Bands | Tensor:
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
    maps = _down(x, filters, combine, 2)
    return Bands(maps[0], maps[1], maps[2], maps[3], (x.shape[-2], x.shape[-1])) if combine is None else maps[0]


def lift_up_pool1d(bands: Bands1d | Tensor, filters: Filters = "haar") -> Tensor:
    """Undo `lift_down_pool1d`: the sequence whose bands these are, exact up to rounding.

    Args:
        bands: the two bands; or the coarse one alone as a tensor, whose detail is then taken as zero.
        filters: those of the analysis.

    Shape:
        Bands of (N, C, l) or (C, l) -> (..., L) of ``bands.size``; the coarse band alone -> (..., 2 l).

    Example:
        >>> lift_up_pool1d(torch.tensor([[1.5, -0.5]]))
        tensor([[ 1.5000,  1.5000, -0.5000, -0.5000]])
    """
    if isinstance(bands, Tensor):
        check_input(bands, 1, "low")
        bands = Bands1d(bands, torch.zeros_like(bands), (2 * bands.shape[-1],))
    if not isinstance(bands, Bands1d):
        raise TypeError(f"bands must be Bands1d or the coarse band as a tensor, got {type(bands).__name__}")
    return _up(bands[:2], Bands1d._fields[:2], bands.size, filters)


def lift_up_pool2d(bands: Bands | Tensor, filters: Filters = "haar") -> Tensor:
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
    if isinstance(bands, Tensor):
        check_input(bands, 2, "ll")
        zero = torch.zeros_like(bands)
        bands = Bands(bands, zero, zero, zero, (2 * bands.shape[-2], 2 * bands.shape[-1]))
    if not isinstance(bands, Bands):
        raise TypeError(f"bands must be Bands or LL alone as a tensor, got {type(bands).__name__}")
    return _up(bands[:4], Bands._fields[:4], bands.size, filters)


class LiftDownPool(nn.Module):
    """What `LiftDownPool1d` and `LiftDownPool2d` have in common: P and U, and what they are used for."""

    rank: ClassVar[int]
    combine: Combine | None

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
        _check_combine(combine, self.rank)
        if filters not in ("learned", *WAVELETS):
            raise ValueError(f'filters must be "learned", "haar" or "cdf53", got {filters!r}')
        self.combine = combine
        self.filter_name = filters
        self.predict: LiftFilter | FixedFilter
        self.update: LiftFilter | FixedFilter
        if filters == "learned":
            self.predict = LiftFilter(channels, kernel_size, padding_mode)
            self.update = LiftFilter(channels, kernel_size, padding_mode)
        else:
            self.predict, self.update = _wavelet(filters)

    @property
    def filters(self) -> tuple[Filter, Filter]:
        """P and U."""
        return self.predict, self.update

    def lift_losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_u, c_p), LiftPool's two regularisers, as mean squares over all steps along one axis.

        c_u keeps s near the odd pixels, c_p keeps the detail d small (Zhao & Snoek 2021 by norms; means do not grow
        with the batch). An image takes three steps, a sequence one.
        """
        check_input(x, self.rank)
        sources = [extended(x if x.dim() == self.rank + 2 else x[None])]
        update_losses, predict_losses = [], []
        for axis in range(-1, -1 - self.rank, -1):
            steps = [(source, *analyse(source, axis, *self.filters)) for source in sources]
            update_losses += [(coarse - halves(source, axis)[1]).square().mean() for source, coarse, _ in steps]
            predict_losses += [detail.square().mean() for _, _, detail in steps]
            sources = [half for _, *both in steps for half in both]
        return torch.stack(update_losses).mean(), torch.stack(predict_losses).mean()

    def extra_repr(self) -> str:
        return f"filters={self.filter_name}, combine={self.combine}"


class LiftDownPool1d(LiftDownPool):
    """Pool a sequence by lifting, or split it into bands: `LiftDownPool2d` in 1D.

    Args:
        channels, kernel_size, filters, padding_mode: as in `LiftDownPool2d`.
        combine: None for the bands, "sum", "mean" or "low".

    Shape:
        (N, C, L) or (C, L) -> the same with ``ceil(L / 2)``.
    """

    rank = 1

    def bands(self, x: Tensor) -> Bands1d:
        """Return the two bands of ``x``, whatever ``combine`` says."""
        return lift_down_pool1d(x, self.filters)

    def forward(self, x: Tensor) -> Bands1d | Tensor:
        return self.bands(x) if self.combine is None else _down(x, self.filters, self.combine, 1)[0]


class LiftDownPool2d(LiftDownPool):
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

    rank = 2

    def bands(self, x: Tensor) -> Bands:
        """Return the four bands of ``x``, whatever ``combine`` says."""
        return lift_down_pool2d(x, self.filters)

    def forward(self, x: Tensor) -> Bands | Tensor:
        return self.bands(x) if self.combine is None else _down(x, self.filters, self.combine, 2)[0]


class LiftUpPool1d(nn.Module):
    """Undo a `LiftDownPool1d` with its own P and U: ``LiftUpPool1d(down)(down.bands(x))`` is x.

    Shape:
        Bands, or the coarse band alone, as in `lift_up_pool1d`.
    """

    def __init__(self, down: LiftDownPool1d) -> None:
        super().__init__()
        self.down = down

    def forward(self, bands: Bands1d | Tensor) -> Tensor:
        return lift_up_pool1d(bands, self.down.filters)


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
