"""The poolings that `gpu_ops` times, each with what it is held against: its formula in fp64, and its competitors.

A competitor is what somebody would write who knows PyTorch well and has no kernels: SoftPool and LIP as two average
poolings and a division, LiftPool with depthwise convolutions, all in the dtype of the input.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.roofline import OPERATIONS, Direction, Work
from poolcore import Bands, LiftDownPool2d, lift_up_pool2d, lip2d, soft_pool1d, soft_pool2d, soft_pool3d
from poolcore.lift_filters import Filter, LiftFilter
from poolcore.lifting import analyse, merge, split
from poolcore.weighted import weighted_pool_reference
from poolcore.window import Window, make_window

__all__ = ["CHANNELS_LAST", "Case", "Tensors", "make_case", "run_backward"]

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
TAPS = 5

Tensors = tuple[Tensor, ...]
Pooling = Callable[..., Tensors]


@dataclass(frozen=True)
class Case:
    """A pooling of given tensors.

    Attributes:
        operation: its name in `roofline.OPERATIONS`.
        shape: of the image, also where bands come in.
        inputs: x; x and its logits; or the bands.
        parameters: of LiftPool's filters, else none.
        ours, eager: from the inputs to the results.
        average, maximum: PyTorch's own poolings of an image with the same window.
        exact: from the inputs in fp64 to the results, by the formula.
    """

    operation: str
    shape: tuple[int, ...]
    inputs: Tensors
    parameters: Tensors
    ours: Pooling
    eager: Pooling
    average: Pooling
    maximum: Pooling
    exact: Callable[[Tensors, Tensors], Tensors]

    def work(self, direction: Direction) -> Work:
        """Return what it must do."""
        return OPERATIONS[self.operation](direction, self.shape, self.inputs[0].element_size())

    def image(self) -> Tensor:
        """Return x, or noise of its shape, dtype and layout: what PyTorch's own poolings are given."""
        first = self.inputs[0]
        if first.shape == self.shape:
            return first
        x = torch.randn(self.shape, dtype=first.dtype, device=first.device)
        if first.is_contiguous():
            return x.requires_grad_()
        return x.to(memory_format=CHANNELS_LAST[x.dim()]).requires_grad_()

    def check(self, pooling: Pooling, tolerance: float) -> str | None:
        """Return in what way a pooling, forward or backward, is not the formula's; None if it is right.

        The gradient comes from the first and the last image alone, so the formula need be followed for them only.

        Args:
            tolerance: largest error, relative to the formula's largest number.
        """
        N = len(self.inputs[0])
        some = [0, N - 1] if N > 1 else [0]
        y = pooling(*self.inputs)
        upstream = tuple(torch.zeros_like(one) for one in y)
        for one in upstream:
            one[some] = torch.randn_like(one[some])
        grads = run_backward(y, (*self.inputs, *self.parameters), upstream)
        found = tuple(one.detach() for one in (*y, *grads))
        inputs = tuple(value.detach()[some].double().requires_grad_() for value in self.inputs)
        parameters = tuple(value.detach().double().requires_grad_() for value in self.parameters)
        y = self.exact(inputs, parameters)
        grads = run_backward(y, (*inputs, *parameters), tuple(one[some].double() for one in upstream))
        truth = tuple(one.detach() for one in (*y, *grads))
        for index, (seen, exact) in enumerate(zip(found, truth, strict=True)):
            of_images = index < len(y) + len(inputs)
            difference = (seen[some] if of_images else seen) - exact
            error = float(difference.abs().max() / exact.abs().max().clamp_min(1e-30))
            name = f"result {index}" if index < len(y) else f"gradient {index - len(y)}"
            if not error <= tolerance:
                return f"{name} is off by {error:.1e} of its largest number, may be by {tolerance:.1e}"
            if index >= len(y) and of_images and N > 2 and bool(seen[1:-1].any()):
                return f"{name} is not zero where none arrived"
        return None


def run_backward(y: Tensors, wanted: Sequence[Tensor], upstream: Tensors) -> Tensors:
    """Return the gradients; the graph stays for another call."""
    return torch.autograd.grad(y, wanted, upstream, retain_graph=True)


def _noise(shape: Sequence[int], dtype: torch.dtype, channels_last: bool, device: torch.device) -> Tensor:
    x = torch.randn(tuple(shape), dtype=dtype, device=device)
    if channels_last:
        x = x.to(memory_format=CHANNELS_LAST[x.dim()])
    return x.requires_grad_()


def _native(window: Window) -> tuple[Pooling, Pooling]:
    average: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[window.rank - 1]
    maximum: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[window.rank - 1]
    arguments = window.kernel_size, window.stride, window.padding
    return (lambda x: (average(x, *arguments),)), (lambda x: (maximum(x, *arguments),))


def _weighted_case(operation: str, window: Window, inputs: Tensors) -> Case:
    soft = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}[window.rank]
    arguments = window.kernel_size, window.stride, window.padding
    average, maximum = _native(window)

    def ours(x: Tensor, logit: Tensor | None = None) -> Tensors:
        return (soft(x, *arguments) if logit is None else lip2d(x, logit, *arguments),)

    def eager(x: Tensor, logit: Tensor | None = None) -> Tensors:
        weight = torch.exp(x if logit is None else logit)
        return (average(x * weight)[0] / average(weight)[0],)

    def exact(inputs: Tensors, parameters: Tensors) -> Tensors:
        return (weighted_pool_reference(inputs[0], inputs[-1], window),)

    return Case(operation, tuple(inputs[0].shape), inputs, (), ours, eager, average, maximum, exact)


def _guess(part: LiftFilter, x: Tensor, axis: int) -> Tensor:
    """Return the filter's guess, in the dtype of ``x`` throughout."""
    C, reach = x.shape[1], TAPS // 2
    across = axis == -1
    padded = F.pad(x, (reach, reach, 0, 0) if across else (0, 0, reach, reach), mode="replicate")
    kernel = part.weight.view(C, 1, 1, TAPS) if across else part.weight.view(C, 1, TAPS, 1)
    z = F.relu(F.conv2d(padded, kernel, part.bias, groups=C))
    return torch.tanh(z * part.scale.view(-1, 1, 1) + part.shift.view(-1, 1, 1))


def _join(s: Tensor, d: Tensor, axis: int, layer: LiftDownPool2d) -> Tensor:
    even = s - _guess(layer.update, d, axis)  # type: ignore[arg-type]  # it is learned
    odd = d + _guess(layer.predict, even, axis)  # type: ignore[arg-type]
    return torch.stack((even, odd), axis).flatten(axis - 1, axis)


def _lift_case(operation: str, inputs: Tensors, shape: tuple[int, ...], layer: LiftDownPool2d) -> Case:
    average, maximum = _native(make_window(2))
    upwards, combine = operation.startswith("lift_up"), layer.combine
    predict, update = (functools.partial(_guess, part) for part in layer.filters)  # type: ignore[arg-type]

    def ours(*inputs: Tensor) -> Tensors:
        if upwards:
            return (lift_up_pool2d(Bands(*inputs, size=shape[-2:]), layer.filters),)  # type: ignore[misc,arg-type]
        y = layer(*inputs)
        return y[:4] if combine is None else (y,)

    def eager(*inputs: Tensor) -> Tensors:
        if upwards:
            low, high = (_join(inputs[half], inputs[half + 1], -2, layer) for half in (0, 2))
            return (_join(low, high, -1, layer),)
        halves = analyse(inputs[0], -1, predict, update)
        bands = [band for half in halves for band in analyse(half, -2, predict, update)]
        return tuple(bands) if combine is None else (sum(bands[1:], bands[0]) / 4,)

    def exact(inputs: Tensors, parameters: Tensors) -> Tensors:
        predict, update = _fp64_filters(layer, parameters)
        return (merge(inputs, shape[-2:], predict, update),) if upwards else split(inputs[0], predict, update, combine)

    return Case(operation, shape, inputs, tuple(layer.parameters()), ours, eager, average, maximum, exact)


def _fp64_filters(layer: LiftDownPool2d, parameters: Tensors) -> tuple[Filter, Filter]:
    """Return P and U with these numbers for their own."""
    exact = copy.deepcopy(layer).double()
    named = dict(zip((name for name, _ in layer.named_parameters()), parameters, strict=True))

    def filter_of(kind: str) -> Filter:
        own = {name.removeprefix(f"{kind}."): number for name, number in named.items() if name.startswith(kind)}
        return lambda x, axis: torch.func.functional_call(getattr(exact, kind), own, (x, axis))

    return filter_of("predict"), filter_of("update")


def make_case(
    operation: str, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, device: torch.device
) -> Case:
    """Return an operation of `roofline.OPERATIONS` with tensors of noise.

    Args:
        shape: of the image, (N, C, *spatial), with axes of even length.
    """
    noise = functools.partial(_noise, dtype=dtype, channels_last=channels_last, device=device)
    name, _, detail = operation.partition(" ")
    if name.startswith("lift"):
        layer = LiftDownPool2d(shape[1], TAPS, combine="mean" if detail == "mean" else None).to(device, dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(std=0.3)
        halves = (*shape[:2], shape[2] // 2, shape[3] // 2)
        inputs = tuple(noise(halves) for _ in range(4)) if name == "lift_up_pool2d" else (noise(shape),)
        return _lift_case(operation, inputs, shape, layer)
    kernel, stride, padding = map(int, detail.split("/"))
    window = make_window(kernel, stride, padding, rank=len(shape) - 2)
    return _weighted_case(operation, window, tuple(noise(shape) for _ in range(2 if name == "lip2d" else 1)))
