"""Watch a network's pooling places during a forward pass, and time them.

Both watchers are context managers that hang hooks on the layers and take them off again, also after an exception;
outside of them a network runs as if this module did not exist. They change neither training mode nor gradient mode.
They see only calls made by the thread that opened them, so several threads may watch one network, each its own passes.
"""

import inspect
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from poolcore.lift import Bands, Bands1d, LiftDownPool1d, LiftDownPool2d
from poolcore.share import POOLING_LAYERS, share, window_of
from poolcore.window import Window

__all__ = ["Seen", "Stopwatch", "stopwatch", "trace"]


Output = Tensor | Bands | Bands1d


def _detach(output: Output) -> Output:
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, Bands1d):
        return Bands1d(output.low.detach(), output.high.detach(), output.size)
    ll, lh, hl, hh = (band.detach() for band in output[:4])
    return Bands(ll, lh, hl, hh, output.size)


class Seen:
    """What one pooling place did in a forward pass.

    ``layer`` is the pooling; ``input``, ``output`` and, for LIP, ``logit_from`` are detached but not copied: what a
    later layer changes in place is changed here too. ``milliseconds`` is the time of the call. Share and bands are
    computed when first asked for, with the layer's parameters of that moment, and then kept.
    """

    def __init__(
        self, layer: nn.Module, x: Tensor, logit_from: Tensor | None, output: Output, milliseconds: float
    ) -> None:
        self.layer = layer
        self.input = x.detach()
        self.logit_from = None if logit_from is None else logit_from.detach()
        self.output = _detach(output)
        self.milliseconds = milliseconds

    @property
    def window(self) -> Window:
        """The layer's window."""
        return window_of(self.layer)

    @cached_property
    def share(self) -> Tensor:
        """The share of each input pixel, of the input's shape; see `poolcore.share`."""
        return share(self.layer, self.input, self.logit_from)

    @cached_property
    def bands(self) -> Bands | Bands1d | None:
        """The bands of the input, of a `LiftDownPool2d` or `LiftDownPool1d`; None of any other layer."""
        if not isinstance(self.layer, LiftDownPool1d | LiftDownPool2d):
            return None
        with torch.no_grad():
            return self.layer.bands(self.input)


def _now(tensor: object) -> float:
    """Return the clock in milliseconds, after the tensor's device has finished."""
    if isinstance(tensor, Tensor) and tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter() * 1000


def _places(network: nn.Module) -> Mapping[str, nn.Module]:
    named = getattr(network, "pooling_places", None)
    if named is not None:
        places: Mapping[str, nn.Module] = named()
        return places
    return {name: module for name, module in network.named_modules() if isinstance(module, POOLING_LAYERS)}


@contextmanager
def trace(network: nn.Module) -> Iterator[Mapping[str, Seen]]:
    """Record what each pooling place of ``network`` does in the forward passes within the ``with`` block.

    Args:
        network: its places are those of its ``pooling_places()``, name to layer, where it has that method; else all
            pooling layers that `share` knows, by their dotted names (convolutions are not among them).

    Yields:
        A mapping from place to `Seen`, in the order of the calls. Of a place that is called again, in a second pass or
        within one, the last call stays. It remains readable after the block.

    Example:
        >>> network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
        >>> with trace(network) as seen:
        ...     _ = network(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        >>> seen["1"].share
        tensor([[[[0., 0.],
                  [0., 4.]]]])
    """
    owner = threading.get_ident()
    seen: dict[str, Seen] = {}

    def watch(place: str, layer: nn.Module, handles: ExitStack) -> None:
        signature = inspect.signature(layer.forward)
        began = 0.0

        def before(_layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            nonlocal began
            if threading.get_ident() == owner:
                began = _now(next(iter(signature.bind(*args, **kwargs).arguments.values())))

        def after(
            _layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: Output
        ) -> None:
            if threading.get_ident() != owner:
                return
            milliseconds = _now(output if isinstance(output, Tensor) else output[0]) - began
            arguments = signature.bind(*args, **kwargs).arguments
            x, logit_from = next(iter(arguments.values())), arguments.get("logit_from")
            seen.pop(place, None)
            seen[place] = Seen(layer, x, logit_from, output, milliseconds)

        handles.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
        handles.callback(layer.register_forward_hook(after, with_kwargs=True).remove)

    with ExitStack() as handles:
        for place, layer in _places(network).items():
            watch(place, layer, handles)
        yield seen


class Stopwatch:
    """Adds up the time spent in some modules: ``milliseconds``, over all calls so far."""

    def __init__(self) -> None:
        self.milliseconds = 0.0
        self._owner = threading.get_ident()
        self._depth = 0
        self._began = 0.0

    def _start(self, _module: nn.Module, args: tuple[object, ...]) -> None:
        if threading.get_ident() == self._owner:
            if self._depth == 0:
                self._began = _now(args[0] if args else None)
            self._depth += 1

    def _stop(self, _module: nn.Module, _args: tuple[object, ...], output: object) -> None:
        if threading.get_ident() == self._owner:
            self._depth -= 1
            if self._depth == 0:
                self.milliseconds += _now(output) - self._began


@contextmanager
def stopwatch(modules: Iterable[nn.Module]) -> Iterator[Stopwatch]:
    """Measure the time that forward passes within the ``with`` block spend in ``modules``.

    A module inside another of them counts once. On a GPU each call waits for the device before and after.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2))
        >>> with stopwatch([network[1]]) as watch:
        ...     _ = network(torch.zeros(1, 3, 32, 32))
        >>> watch.milliseconds > 0
        True
    """
    watch = Stopwatch()
    with ExitStack() as handles:
        for module in dict.fromkeys(modules):
            handles.callback(module.register_forward_pre_hook(watch._start).remove)
            handles.callback(module.register_forward_hook(watch._stop, always_call=True).remove)
        yield watch
