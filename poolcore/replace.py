"""Put another pooling where a network's max or average pooling modules stand.

Only modules can be replaced: a call such as ``torch.nn.functional.max_pool2d`` in a ``forward`` is nobody's attribute.
All modules that match are replaced or none is, so that a network never ends up half changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from poolcore.lift import LiftDownPool1d, LiftDownPool2d
from poolcore.lip import LIP1d, LIP2d, LIP3d
from poolcore.soft import SoftPool1d, SoftPool2d, SoftPool3d
from poolcore.strided import StridedPool1d, StridedPool2d, StridedPool3d
from poolcore.window import Window, make_window

__all__ = ["LeftAlone", "Replacement", "Replacements", "replace_pooling"]

Kind = Literal["soft", "lip", "lift", "avg", "max"]
Where = Literal["max", "avg", "all"]

_MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
_AvgPool = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
_Pool = _MaxPool | _AvgPool

# By rank.
_CLASSES: dict[Kind, dict[int, type[nn.Module]]] = {
    "soft": {1: SoftPool1d, 2: SoftPool2d, 3: SoftPool3d},
    "lip": {1: LIP1d, 2: LIP2d, 3: LIP3d},
    "lift": {1: LiftDownPool1d, 2: LiftDownPool2d},
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
}

_NEVER_REPLACED: dict[str, tuple[type[nn.Module], ...]] = {
    "its windows follow from the size of its input": (
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    ),
    "its windows are drawn at random": (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
    "it takes the norm of a window, neither its maximum nor its mean": (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
    "it is a layer of poolcore": (
        *(layer for kind in ("soft", "lip", "lift") for layer in _CLASSES[kind].values()),
        *(StridedPool1d, StridedPool2d, StridedPool3d),
    ),
}


class Replacement(NamedTuple):
    """One module that was replaced: where it stands, what stood and what stands there, what that adds."""

    place: str
    before: str
    after: str
    parameters: int
    note: str = ""


class LeftAlone(NamedTuple):
    """One pooling module that stayed, and why."""

    place: str
    layer: str
    reason: str


@dataclass(frozen=True, repr=False)
class Replacements:
    """What `replace_pooling` did; prints as a table. A window reads as kernel_size/stride/padding."""

    replaced: tuple[Replacement, ...]
    left_alone: tuple[LeftAlone, ...]

    def __repr__(self) -> str:
        rows = [("place", "before", "after", "parameters", "note")]
        rows += [(row.place, row.before, row.after, f"+{row.parameters:,}", row.note) for row in self.replaced]
        place, before, after, parameters, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [f"{a:{place}}  {b:{before}}  {c:{after}}  {d:>{parameters}}  {e}".rstrip() for a, b, c, d, e in rows]
        return "\n".join([*lines, *(f"left alone: {_left(row)}" for row in self.left_alone)])


def _left(row: LeftAlone) -> str:
    return f"{row.place} ({row.layer}: {row.reason})"


def _kind_and_rank(pool: _Pool) -> tuple[Kind, int]:
    kind: Kind = "max" if isinstance(pool, _MaxPool) else "avg"
    return kind, next(rank for rank, layer in _CLASSES[kind].items() if isinstance(pool, layer))


def _window(pool: _Pool) -> Window:
    rank = _kind_and_rank(pool)[1]
    return make_window(pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode, rank=rank)


def _describe(layer: nn.Module, window: Window) -> str:
    if isinstance(layer, tuple(_CLASSES["lift"].values())):
        return type(layer).__name__
    sizes = (str(size[0]) if len(set(size)) == 1 else str(size).replace(" ", "") for size in window[:3])
    return f"{type(layer).__name__} {'/'.join(sizes)}{' ceil' if window.ceil_mode else ''}"


def _is_everywhere(value: int, sizes: int | Sequence[int]) -> bool:
    return set((sizes,) if isinstance(sizes, int) else sizes) == {value}


def _counts_padding(pool: _Pool) -> bool:
    return isinstance(pool, _AvgPool) and pool.count_include_pad and not _is_everywhere(0, pool.padding)


def _why_left_alone(module: nn.Module, kind: Kind, where: Where) -> str | None:
    """Return why a pooling module stays as it is; None of any other module."""
    for reason, layers in _NEVER_REPLACED.items():
        if isinstance(module, layers):
            return reason
    if not isinstance(module, _Pool):
        return None
    stands, rank = _kind_and_rank(module)
    if getattr(module.forward, "__func__", None) is not _CLASSES[stands][rank].forward:
        return "its forward is its own"
    if where not in (stands, "all"):
        return f'where is "{where}"'
    if stands == kind and getattr(module, "divisor_override", None) is None and not _counts_padding(module):
        return f'it is "{kind}" already'
    return None


class _Map(NamedTuple):
    """What one call of a pooling module reads."""

    channels: int
    size: tuple[int, ...]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _maps(model: nn.Module, example: object, pools: Mapping[_Pool, str]) -> dict[_Pool, list[_Map]]:
    """Run the model once and return what each call of each of ``pools`` reads."""
    maps: dict[_Pool, list[_Map]] = {pool: [] for pool in pools}

    def watch(pool: _Pool, handles: ExitStack) -> None:
        rank = _kind_and_rank(pool)[1]

        def note(_pool: nn.Module, args: tuple[Tensor, ...]) -> None:
            channels, *size = args[0].shape[-rank - 1 :]
            maps[pool].append(_Map(channels, tuple(size)))

        handles.callback(pool.register_forward_pre_hook(note).remove)

    with ExitStack() as handles:
        for pool in pools:
            watch(pool, handles)
        with _evaluating(model):
            model(*(example if isinstance(example, tuple) else (example,)))
    return maps


def _why_not(pool: _Pool, kind: Kind) -> str | None:
    """Return why a module cannot be replaced whatever it reads, and what is possible; None if it can."""
    try:
        window = _window(pool)
    except (TypeError, ValueError) as error:
        return str(error)
    if isinstance(pool, _MaxPool):
        if not _is_everywhere(1, pool.dilation):
            return f"dilation={pool.dilation} is max pooling's alone; possible is dilation=1"
        if pool.return_indices:
            return "an unpooling needs the indices of return_indices=True; possible is return_indices=False"
    elif getattr(pool, "divisor_override", None) is not None:
        return f"divisor_override={pool.divisor_override} is average pooling's alone; possible is divisor_override=None"
    if any((pool._forward_hooks, pool._forward_pre_hooks, pool._backward_hooks, pool._backward_pre_hooks)):
        return "the hooks on it would be lost; possible is to remove them first"
    if kind == "lift":
        if window.rank not in _CLASSES[kind]:
            return f'there is no LiftPool over {window.rank} axes; possible are "soft", "lip", "avg" and "max"'
        if not all(axis in ((2, 2, 0), (3, 2, 1)) for axis in zip(*window[:3], strict=True)):
            return "LiftPool halves its input; possible are the windows 2/2/0 and 3/2/1"
    return None


def _why_not_for(maps: list[_Map], kind: Kind, window: Window) -> str | None:
    """Return why a module cannot be replaced for what it reads, and what is possible; None if it can."""
    if not maps:
        return "the example does not reach it; possible is an example that does"
    channels = sorted({one.channels for one in maps})
    if len(channels) > 1:
        counts = " and ".join(map(str, channels))
        return f"it serves maps of {counts} channels; possible is a module for each of its calls"
    for _, size in maps:
        pixels = " x ".join(map(str, size))
        if kind == "lip" and set(size) == {1}:
            return f"LIP's logits need the variance of a map, which {pixels} has not; possible is a larger example"
        halves, outputs = tuple(-(-n // 2) for n in size), window.output_size(size)
        if kind == "lift" and halves != outputs:
            made, stood = (" x ".join(map(str, out)) for out in (halves, outputs))
            return (
                f"LiftPool makes {made} of {pixels} where {stood} came out; possible are "
                "2/2/0 with even sizes or ceil_mode=True, and 3/2/1 with ceil_mode=False"
            )
    return None


def _make(pool: _Pool, kind: Kind, maps: list[_Map]) -> nn.Module:
    """Return the layer that takes the place of ``pool``."""
    stands, rank = _kind_and_rank(pool)
    kernel_size, stride, padding, ceil_mode = _window(pool)
    layer = _CLASSES[kind][rank]
    match kind:
        case "lift":
            return layer(maps[0].channels, combine="mean")
        case "lip":
            logit = "simplified" if stands == "max" else "bottleneck"
            return layer(maps[0].channels, kernel_size, stride, padding, ceil_mode=ceil_mode, logit=logit)
        case "avg":
            return layer(kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=False)
    return layer(kernel_size, stride, padding, ceil_mode=ceil_mode)


def replace_pooling(model: nn.Module, kind: Kind, where: Where = "max", *, example: object = None) -> Replacements:
    """Replace the pooling modules of ``model`` in place, all that match or none, and return what was done.

    Windows are kept: kernel size, stride, padding and ceil mode. Padded pixels count in none of the new layers, so
    the note "padding no longer counts" stands where they did. New layers take device and dtype of the model's first
    floating-point parameter, and the training mode of what they replace. A module that stands at several places, or is
    called several times, becomes one new layer at all of them. Optimizers made before do not know the new parameters.

    "lift" is `LiftDownPool1d` or `LiftDownPool2d` with the mean of the bands, in place of a window that halves. "lip"
    takes its logits from where its authors do (Gao et al. 2019): from a 3x3 convolution in place of max pooling, as in
    the stems of their ResNets and DenseNets, from a bottleneck of width 128 in place of average pooling, as in their
    DenseNets' transitions; so "all" makes torchvision's DenseNet-121 their LIP-DenseNet-121. Each costs about as much
    as a convolution of the network itself. Untrained, "lip" and "lift" are average pooling.

    Args:
        model: any module with ``torch.nn``'s ``MaxPool1d``, ``2d``, ``3d``, ``AvgPool1d``, ``2d`` or ``3d`` in it.
            A subclass whose ``forward`` is its own, as well as adaptive, fractional and LP pooling, is left alone.
        kind: what to put there: "soft", "lip", "lift", "avg" (padding not counted) or "max".
        where: what to replace: "max" pooling, "avg" pooling or "all". What is of that kind already is left alone.
        example: an input of the model, or a tuple of its positional arguments; for "lip" and "lift", which need the
            number of channels, and not read otherwise. The model runs on it once, in eval mode without gradient. What
            is allowed is decided by the sizes seen there.

    Returns:
        The table of replacements and of the pooling modules left alone; print it.

    Raises:
        TypeError: if ``model`` is no module.
        ValueError: for an unknown kind or where, if no module would change, if an example is missing, and, with one
            sentence for each module, if any cannot be replaced; the model is then as it was.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))
        >>> replace_pooling(network, "soft")
        place  before           after             parameters  note
        1      MaxPool2d 2/2/0  SoftPool2d 2/2/0          +0
        left alone: 2 (AdaptiveAvgPool2d: its windows follow from the size of its input)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if kind not in get_args(Kind):
        raise ValueError(f'kind must be "soft", "lip", "lift", "avg" or "max", got {kind!r}')
    if where not in get_args(Where):
        raise ValueError(f'where must be "max", "avg" or "all", got {where!r}')
    if isinstance(model, _Pool):
        raise ValueError(
            f"model must be a module that holds pooling modules, got a {type(model).__name__} itself, which cannot be "
            "replaced in place: write the new layer where it is made"
        )

    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    reasons = {module: _why_left_alone(module, kind, where) for module in names}
    left_alone = tuple(
        LeftAlone(", ".join(names[module]) or "model", type(module).__name__, reason)
        for module, reason in reasons.items()
        if reason
    )
    pools = {
        module: ", ".join(places)
        for module, places in names.items()
        if isinstance(module, _Pool) and reasons[module] is None
    }
    if not pools:
        wanted = {"max": "a max", "avg": "an average", "all": "a max or average"}[where]
        raise ValueError(
            f'model must hold {wanted} pooling module that "{kind}" would change, '
            f"got {', '.join(map(_left, left_alone)) or 'no pooling module'}; "
            "calls of torch.nn.functional cannot be seen"
        )

    maps: dict[_Pool, list[_Map]] = {pool: [] for pool in pools}
    refusals = {pool: _why_not(pool, kind) for pool in pools}
    if kind in ("lip", "lift"):
        if example is None:
            raise ValueError(f'example must be an input of the model for "{kind}", to count its channels, got None')
        maps = _maps(model, example, pools)
        for pool in pools:
            refusals[pool] = refusals[pool] or _why_not_for(maps[pool], kind, _window(pool))
    if any(refusals.values()):
        raise ValueError(
            "\n".join(
                f'{pools[pool]} ({type(pool).__name__}) cannot become "{kind}": {why}'
                for pool, why in refusals.items()
                if why
            )
        )

    layers = {pool: _make(pool, kind, maps[pool]).train(pool.training) for pool in pools}
    like = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(0))
    for pool, layer in layers.items():
        layer.to(like)
        for name in names[pool]:
            model.set_submodule(name, layer)
    replaced = (
        Replacement(
            place,
            _describe(pool, _window(pool)),
            _describe(layers[pool], _window(pool)),
            sum(parameter.numel() for parameter in layers[pool].parameters()),
            "padding no longer counts" if _counts_padding(pool) else "",
        )
        for pool, place in pools.items()
    )
    return Replacements(tuple(replaced), left_alone)
