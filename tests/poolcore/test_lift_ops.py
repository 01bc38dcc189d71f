"""LiftPool as operators registered with PyTorch: gradients, compile, export, vmap, meta tensors, what is kept."""

import copy
import math
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

import poolcore.blocks
import poolcore.lifting_gradients
from poolcore import LiftDownPool1d, LiftDownPool2d, LiftUpPool1d, LiftUpPool2d, lift_down_pool2d, lift_up_pool2d
from poolcore.lift_filters import WAVELETS, FilterParts, PaddingMode, apply_filter
from poolcore.lifting import lift_down, lift_up, merge, split
from poolcore.lifting_gradients import lift_down_backward, lift_up_backward
from tests.poolcore import truth
from tests.poolcore.cases import DTYPES, LAYOUTS, assert_close, keeps_format, pairs, random_map, same_bits
from tests.poolcore.test_lift import random_layer

DOWN, UP = torch.ops.poolcore.lift_down, torch.ops.poolcore.lift_up
DOWN_BACKWARD, UP_BACKWARD = torch.ops.poolcore.lift_down_backward, torch.ops.poolcore.lift_up_backward
FILTERS = ("k1", "k3", "k5", "haar", "cdf53")
COMBINES = {"bands": None, "sum": "sum", "mean": "mean", "coarse": "low"}
SIZES = {
    "1": (1,), "2": (2,), "7": (7,), "8": (8,),
    "1x1": (1, 1), "2x7": (2, 7), "7x6": (7, 6), "3x1": (3, 1), "8x8": (8, 8), "5x13": (5, 13),
}  # fmt: skip
Function = Callable[[list[Tensor], list[Tensor]], Tensor]
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile builds C++ code for a processor"
)


def make_filters(name: str, channels: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """P's numbers, then U's."""
    if name in WAVELETS:
        return [torch.tensor([taps], dtype=dtype) for taps in WAVELETS[name]]
    taps = int(name[1:])
    shapes = [(channels, taps), (channels,), (channels,), (channels,)] * 2
    return [random_map(seed, *shape, dtype=dtype) for seed, shape in enumerate(shapes, 10)]


def parts(filters: Sequence[Tensor]) -> tuple[FilterParts, FilterParts]:
    half = len(filters) // 2
    return FilterParts(*filters[:half]), FilterParts(*filters[half:])


def make_bands(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """What the synthesis takes to get an image of this shape, though no image's."""
    half = shape[0], shape[1], *((n + 1) // 2 for n in shape[2:])
    return [random_map(seed, *half, dtype=dtype) for seed in range(2 ** (len(shape) - 2))]


def leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [one.detach().requires_grad_() for one in tensors]


class Bound:
    """What bounds the sums in P or U: all numbers positive, the rectifier and the tanh passed over."""

    def __init__(self, filter_parts: FilterParts, mode: PaddingMode, sign: float) -> None:
        self.parts, self.mode, self.sign = filter_parts, mode, sign

    def __call__(self, x: Tensor, axis: int) -> Tensor:
        y = apply_filter(FilterParts(self.parts.weight), self.mode, x, axis)
        if self.parts.bias is not None:
            bias, scale, shift = (part.view(-1, *[1] * (x.dim() - 2)) for part in self.parts[1:] if part is not None)
            y = (y + bias) * scale + shift + 1  # a tanh is rounded to an ulp of 1
        return self.sign * y


def bounds(filters: Sequence[Tensor], mode: PaddingMode, sign: float) -> tuple[Bound, Bound]:
    p, u = parts(filters)
    return Bound(p, mode, -sign), Bound(u, mode, sign)


def cases() -> list[str]:
    modes, batches = ("replicate", "zeros"), ("n3c3", "n1c1", "n0c3")
    axes = (SIZES, FILTERS, modes, batches, COMBINES, DTYPES, LAYOUTS, ("ones", "any"))
    return ["-".join(case) for case in pairs([list(axis) for axis in axes], lambda _: True)]


@pytest.mark.parametrize("case", cases())
def test_values_and_gradients_are_those_of_the_plain_arithmetic(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size_name, name, mode, batch, combine_name, dtype_name, layout, upstream = case.split("-")
    size, dtype, combine = SIZES[size_name], DTYPES[dtype_name], COMBINES[combine_name]
    shape = int(batch[1]), int(batch[3]), *size
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", 2 * shape[1] * math.prod(size))
    filters = make_filters(name, shape[1], torch.promote_types(dtype, torch.float32))

    def check(images: list[Tensor], ours: Function, plain: Function, bound: Function) -> None:
        """Hold what operators give for images and filters to plain operations in fp64; each takes (images, filters)."""
        y_shape, count, ones = plain(images, filters).shape, len(images), torch.ones((), dtype=dtype)
        grad = random_map(9, *y_shape, dtype=dtype) if upstream == "any" else ones.expand(y_shape)

        def run(function: Function, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
            """The value, then the gradients."""
            for one in inputs:
                one.requires_grad_()
            y = function(inputs[:count], inputs[count:])
            return [y.detach(), *torch.autograd.grad(y, inputs, grad)]

        own = [one.detach() for one in (*images, *filters)]
        got = run(ours, own, grad)
        assert [one.dtype for one in got] == [dtype, *(one.dtype for one in own)]
        if not shape[0]:
            assert not any(one.any() for one in got)
            return
        wants = run(plain, [one.detach().double() for one in own], grad.double())
        scales = run(bound, [one.detach().double().abs() for one in own], grad.double().abs())
        for index, (one, want, scale) in enumerate(zip(got, wants, scales, strict=True)):
            assert_close(one, want, scale, 32 if index else 8, f"{index} of {case}")

    def stacked(maps: Sequence[Tensor]) -> Tensor:
        return maps[0] if combine else torch.stack(list(maps))

    check(
        [LAYOUTS[layout](random_map(1, *shape, dtype=dtype))],
        lambda images, filters: DOWN(images[0], filters, mode, combine),
        lambda images, filters: stacked(lift_down(images[0], *parts(filters), mode, combine)),
        lambda images, filters: stacked(split(images[0], *bounds(filters, mode, 1), combine)),
    )
    check(
        [LAYOUTS[layout](band) for band in make_bands(*shape, dtype=dtype)],
        lambda bands, filters: UP(bands, size, filters, mode),
        lambda bands, filters: lift_up(bands, size, *parts(filters), mode),
        lambda bands, filters: merge(bands, size, *bounds(filters, mode, -1)),
    )


@pytest.mark.parametrize("mode", ["replicate", "zeros"])
@pytest.mark.parametrize("size", [(5,), (4,), (3, 4), (4, 5)])
def test_gradients_are_the_slopes_of_the_loops(size: tuple[int, ...], mode: Literal["replicate", "zeros"]) -> None:
    """Of every pixel and every number of the filters, by central differences in plain Python."""
    x, filters = random_map(1, *size), make_filters("k3", 1)
    grad = random_map(2, 2 ** len(size), *((n + 1) // 2 for n in size))

    def loops(x: Tensor, *filters: Tensor) -> float:
        numbers = [one[0].tolist() for one in filters]
        p, u = (truth.learned(*half, replicate=mode == "replicate") for half in (numbers[:4], numbers[4:]))
        bands = (truth.lift1d if len(size) == 1 else truth.lift)(x.tolist(), p, u)
        return (torch.tensor(list(bands.values()), dtype=torch.float64) * grad).sum().item()

    inputs = [x, *filters]
    grad_x, grads = lift_down_backward(grad[:, None, None], x[None, None], *parts(filters), mode, None, True, True)
    assert grad_x is not None
    assert grads is not None
    step = 1e-6
    for index, found in enumerate([grad_x[0, 0], *grads]):
        for place in range(found.numel()):
            ends = []
            for change in (step, -step):
                moved = [one.clone() for one in inputs]
                moved[index].view(-1)[place] += change
                ends.append(loops(*moved))
            assert found.reshape(-1)[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("mode", ["replicate", "zeros"])
@pytest.mark.parametrize(
    ("name", "size"), [("k3", (3,)), ("k5", (2,)), ("cdf53", (4,)), ("k3", (3, 2)), ("haar", (2, 3))]
)
def test_first_and_second_derivatives(name: str, size: tuple[int, ...], mode: str) -> None:
    filters, count = leaves(make_filters(name, 1)), 2 ** len(size)
    x = random_map(1, 2, 1, *size).requires_grad_()
    bands = [band.requires_grad_() for band in make_bands(1, 1, *size)]
    for combine in (None, "mean", "low"):
        inputs = (x, *filters)
        assert torch.autograd.gradcheck(lambda x, *f, combine=combine: DOWN(x, f, mode, combine), inputs)
        assert torch.autograd.gradgradcheck(lambda x, *f, combine=combine: DOWN(x, f, mode, combine), inputs)
    inputs = (*bands, *filters)
    assert torch.autograd.gradcheck(lambda *t: UP(t[:count], size, t[count:], mode), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: UP(t[:count], size, t[count:], mode), inputs)


@pytest.mark.parametrize("chosen", [(0,), (1,), (0, 3, 8), (2, 5)])
def test_second_derivatives_by_some_inputs_alone(chosen: tuple[int, ...]) -> None:
    inputs = [random_map(1, 1, 1, 3, 3), *make_filters("k3", 1)]
    for index in chosen:
        inputs[index].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, *f: DOWN(x, f, "replicate", "mean"), inputs)


def test_what_is_not_needed_is_not_returned() -> None:
    x, filters, bands = random_map(1, 2, 3, 5, 4), make_filters("k3", 3), make_bands(2, 3, 5, 4)
    grad = random_map(2, 2, 3, 3, 2)
    for run in (
        lambda *needs: lift_down_backward(grad, x, *parts(filters), "zeros", "mean", *needs),
        lambda *needs: lift_up_backward(x, bands, (5, 4), *parts(filters), "zeros", *needs),
    ):
        images, numbers = run(True, True)
        only_images, none = run(True, False)
        assert none is None
        none, only_numbers = run(False, True)
        assert none is None
        assert run(False, False) == (None, None)
        both = [images, only_images] if isinstance(images, Tensor) else [*images, *only_images]
        half = len(both) // 2
        for one, other in zip([*both[:half], *numbers], [*both[half:], *only_numbers], strict=True):
            assert same_bits(one, other)


def test_what_nobody_asked_for_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, bool]] = []

    def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (asked.append(args[-2:]), function(*args))[1]

    for function in (lift_down_backward, lift_up_backward):
        monkeypatch.setattr(poolcore.lifting_gradients, function.__name__, recorded(function))
    x, layer = random_map(1, 1, 2, 4, 4), random_layer(2)
    for needs_x, needs_filters in ((True, False), (False, True), (True, True)):
        layer.requires_grad_(needs_filters)
        bands = layer(x.detach().requires_grad_(needs_x))
        LiftUpPool2d(layer)(bands).sum().backward()
    lift_down_pool2d(x.requires_grad_(), "haar", combine="mean").sum().backward()
    # An image's filters are asked for beside its bands, which depend on them.
    assert asked == [(True, False)] * 2 + [(True, True), (False, True)] + [(True, True)] * 2 + [(True, False)]


@pytest.mark.parametrize("count", [1, 4])
def test_each_gradient_alone_equals_all_together(count: int) -> None:
    """Of an image taken apart, and of four bands put together."""
    images = [random_map(1, 2, 3, 6, 5)] if count == 1 else make_bands(2, 3, 6, 5)
    inputs = leaves([*images, *make_filters("k3", 3)])

    def square(*inputs: Tensor) -> Tensor:
        filters = inputs[count:]
        y = DOWN(inputs[0], filters, "zeros", "sum") if count == 1 else UP(inputs[:count], [6, 5], filters, "zeros")
        return y.square().sum()

    together = torch.autograd.grad(square(*inputs), inputs)
    for index, grad in enumerate(together):
        some = [one if i == index else one.detach() for i, one in enumerate(inputs)]
        assert same_bits(torch.autograd.grad(square(*some), some[index])[0], grad)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_results_and_gradients_lie_as_the_input_does(layout: str) -> None:
    x = LAYOUTS[layout](random_map(1, 2, 3, 6, 5)).requires_grad_()
    layer = LiftDownPool2d(3).double()
    bands = layer(x)
    again = LiftUpPool2d(layer)(bands)
    grads = torch.autograd.grad(again.square().sum(), [*bands[:4], x])
    assert all(keeps_format(one, layout) for one in (*bands[:4], again, *grads))


OPCHECKS = [
    (name, size, layout, combine)
    for index, (name, size) in enumerate((("k3", (5,)), ("haar", (4,)), ("k3", (5, 4)), ("cdf53", (3, 6))))
    for layout in ("nchw", "nhwc")[: len(size)]
    for combine in list(COMBINES)[index % 2 :: 2]
]


@pytest.mark.parametrize(("name", "size", "layout", "combine"), OPCHECKS)
def test_opcheck(name: str, size: tuple[int, ...], layout: str, combine: str) -> None:
    x = LAYOUTS[layout](random_map(1, 2, 3, *size))
    bands = [LAYOUTS[layout](band) for band in make_bands(2, 3, *size)]
    filters, rest = make_filters(name, 3), ("replicate", COMBINES[combine])
    for needs in (False, True):
        ours = [one.detach().requires_grad_(needs) for one in filters]
        torch.library.opcheck(DOWN.default, (x.detach().requires_grad_(needs), ours, *rest))
        torch.library.opcheck(
            UP.default, ([band.detach().requires_grad_(needs) for band in bands], list(size), ours, "zeros")
        )
    grad = torch.randn_like(DOWN(x, filters, *rest))
    for needed in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(DOWN_BACKWARD.default, (grad, x, filters, *rest, needed))
        torch.library.opcheck(UP_BACKWARD.default, (x, bands, list(size), filters, "replicate", needed))


def test_backward_keeps_the_inputs_and_nothing_else() -> None:
    layer = LiftDownPool2d(3).double()
    x = random_map(1, 2, 3, 8, 9).requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        bands = layer(x)
        LiftUpPool2d(layer)(bands)
    allowed = [x, *layer.parameters(), *bands[:4]]
    assert kept
    assert set(kept) <= {one.data_ptr() for one in allowed}


class Network(nn.Module):
    """A convolution, LiftPool down and up again, and LiftPool as pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.down = random_layer(4, 3)
        self.up = LiftUpPool2d(self.down)
        self.pool = LiftDownPool2d(4, filters="cdf53", combine="mean")

    def forward(self, x: Tensor) -> Tensor:
        bands = self.down(self.conv(x))
        return self.pool(self.up(bands._replace(hh=bands.hh / 2)))


def test_compiles_whole_and_once_for_all_batch_sizes() -> None:
    """A second batch size makes the compiled code dynamic; no third one compiles again."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    network = Network().double()
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    for n, most in ((2, 1), (3, 2), (5, 2), (8, 2)):
        x = random_map(n, n, 3, 13, 12)
        y = compiled(x)
        y.sum().backward()
        torch.testing.assert_close(y, network(x))
        assert counter.frame_count <= most
    torch._dynamo.reset()


@pytest.mark.long
@needs_compiler
def test_compiled_code_gives_the_same() -> None:
    torch._dynamo.reset()
    network = Network().double()
    x = random_map(1, 2, 3, 13, 12).requires_grad_()
    results = []
    for function in (network, torch.compile(network, fullgraph=True)):
        y = function(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, *network.parameters()))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)
    torch._dynamo.reset()


def test_exports_and_runs_again() -> None:
    network = Network().double().eval()
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(network, (random_map(1, 2, 3, 8, 9),), dynamic_shapes=({0: batch},))
    targets = [node.target for node in exported.graph.nodes]
    assert (targets.count(DOWN.default), targets.count(UP.default)) == (2, 1)
    x = random_map(2, 5, 3, 8, 9)
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("rank", [1, 2])
def test_meta_tensors_have_the_results_shape(rank: int, layout: str) -> None:
    down, up = ((LiftDownPool1d, LiftUpPool1d), (LiftDownPool2d, LiftUpPool2d))[rank - 1]
    x = LAYOUTS[layout](random_map(1, 2, 3, *(9, 8)[:rank], dtype=torch.bfloat16))
    for combine in (None, "mean"):
        results = []
        for device in ("cpu", "meta"):
            layer = down(3, combine=combine).to(device)
            y = layer(x.to(device))
            results.append([y] if combine else [*y[:-1], up(layer)(y)])
        for want, got in zip(*results, strict=True):
            assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_meta_tensors_have_the_gradients_shape(layout: str) -> None:
    x, bands = LAYOUTS[layout](random_map(1, 2, 3, 9, 8)), [LAYOUTS[layout](one) for one in make_bands(2, 3, 9, 8)]
    results = []
    for device in ("cpu", "meta"):
        image, filters = x.to(device), [one.to(device) for one in make_filters("k3", 3)]
        quarters = [band.to(device) for band in bands]
        grads = DOWN_BACKWARD(quarters[0], image, filters, "zeros", "mean", [True, True])
        grads += UP_BACKWARD(image, quarters, [9, 8], filters, "zeros", [True, True])
        results.append([(one.shape, one.dtype, one.stride()) for one in grads])
    assert results[0] == results[1]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_lifts_each_of_a_batch_of_batches(axis: int) -> None:
    x, layer = random_map(1, 4, 2, 3, 6, 5), random_layer(3)
    up = LiftUpPool2d(layer)

    def lift(x: Tensor) -> tuple[Tensor, ...]:
        bands = layer(x)
        same_for_all = torch.ones(2, 3, 3, 3, dtype=x.dtype)
        return *bands[:4], up(bands._replace(lh=same_for_all)), lift_down_pool2d(x, combine="mean")

    for one, *wants in zip(torch.func.vmap(lift, in_dims=axis)(x.movedim(0, axis)), *map(lift, x), strict=True):
        torch.testing.assert_close(one, torch.stack(wants))


def test_gradients_pass_through_vmap() -> None:
    x, layer = random_map(1, 4, 2, 3, 6, 5), random_layer(3, combine="sum")
    weight, inputs = random_map(2, 4, 2, 3, 3, 3), [x.requires_grad_(), *layer.parameters()]
    got = torch.autograd.grad((torch.func.vmap(layer)(x) * weight).sum(), inputs)
    want = torch.autograd.grad((torch.stack([layer(part) for part in x]) * weight).sum(), inputs)
    torch.testing.assert_close(got, want)


def test_a_batch_of_gradients_is_that_of_each() -> None:
    """As a Jacobian is computed: gradients are batched, all else is not."""
    layer, x = random_layer(2, 3), random_map(1, 1, 2, 4, 3).requires_grad_()
    bands = layer(x)
    y = LiftUpPool2d(layer)(bands._replace(hh=bands.hh * bands.ll))
    grads, inputs = random_map(2, 5, *y.shape), [x, *layer.parameters()]

    def gradients(grad: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(y, inputs, grad, retain_graph=True)

    for one, *wants in zip(torch.func.vmap(gradients)(grads), *map(gradients, grads), strict=True):
        torch.testing.assert_close(one, torch.stack(wants))


def test_filters_of_a_vmap_are_the_same_for_all() -> None:
    x, filters = random_map(1, 2, 3, 4, 4), make_filters("k3", 3)
    many = torch.stack([filters[0], filters[0]])
    with pytest.raises(ValueError, match="filters must be the same for a whole vmap, got some batched along axes"):
        torch.func.vmap(lambda w: DOWN(x, [w, *filters[1:]], "zeros", "mean"))(many)
    with pytest.raises(ValueError, match="filters must be the same for a whole vmap, got some batched along axes"):
        torch.func.vmap(lambda w: UP([x] * 4, [8, 8], [w, *filters[1:]], "zeros"))(many)


def test_torch_func_grad_is_refused_by_pytorch() -> None:
    """PyTorch has no such transform for registered operators; torch.autograd.grad is the way."""
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda x: lift_down_pool2d(x, combine="mean").sum())(random_map(1, 1, 1, 4, 4))


@pytest.mark.parametrize("shape", [(0, 3, 5, 4), (2, 0, 5, 4)])
def test_empty_batches(shape: tuple[int, ...]) -> None:
    layer, x = LiftDownPool2d(shape[1]), torch.zeros(shape, requires_grad=True)
    bands = layer(x)
    assert all(band.shape == (*shape[:2], 3, 2) for band in bands[:4])
    y = LiftUpPool2d(layer)(bands)
    assert y.shape == shape
    y.sum().backward()
    for one in (x, *layer.parameters()):
        assert one.grad is not None
        assert one.grad.shape == one.shape
        assert not one.grad.any()


def test_autocast_changes_no_dtype() -> None:
    x = random_map(1, 1, 2, 4, 4, dtype=torch.float32)
    layer = random_layer(2).float()
    plain = [*layer(x)[:4], LiftUpPool2d(layer)(layer(x))]
    with torch.autocast("cpu", torch.bfloat16):
        cast = [*layer(x)[:4], LiftUpPool2d(layer)(layer(x))]
        assert layer(x.bfloat16()).ll.dtype == torch.bfloat16
        assert lift_up_pool2d(layer(x.bfloat16()).ll).dtype == torch.bfloat16
    for one, other in zip(cast, plain, strict=True):
        assert same_bits(one.detach(), other.detach())


def test_modules_copy_and_keep_their_state() -> None:
    layer, x = random_layer(3, combine="sum"), random_map(1, 2, 3, 4, 4)
    twin = copy.deepcopy(layer)
    assert same_bits(layer(x).detach(), twin(x).detach())
    with torch.no_grad():
        twin.predict.shift.fill_(1.0)
    assert not torch.equal(layer(x), twin(x))
    layer.load_state_dict(twin.state_dict())
    assert same_bits(layer(x).detach(), twin(x).detach())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("combine", COMBINES.values())
def test_a_gpu_gives_what_a_processor_gives(combine: Any) -> None:
    x, filters = random_map(1, 2, 3, 7, 6), make_filters("k3", 3)
    bands = make_bands(2, 3, 7, 6)
    results = []
    for device in ("cpu", "cuda"):
        inputs = [one.to(device).requires_grad_() for one in (x, *bands, *filters)]
        down = DOWN(inputs[0], inputs[5:], "replicate", combine)
        up = UP(inputs[1:5], [7, 6], inputs[5:], "replicate")
        grads = torch.autograd.grad(down.square().sum() + up.square().sum(), inputs)
        results.append([one.cpu() for one in (down, up, *grads)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)
