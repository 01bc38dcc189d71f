"""Replacing pooling modules: what each place computes afterwards, what is refused, and that refusals change nothing."""

import copy
import doctest
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import vgg

from poolcore import (
    LiftDownPool1d,
    LiftDownPool2d,
    LIP1d,
    LIP2d,
    LIP3d,
    SoftPool1d,
    SoftPool2d,
    SoftPool3d,
    replace_pooling,
)
from poolcore.replace import Kind, LeftAlone, Replacement
from tests.poolcore import truth
from tests.poolcore.cases import near, random_map

PADDING_NOTE = "padding no longer counts"


def images(size: int = 64) -> Tensor:
    return random_map(1, 2, 3, size, size).float()


def clip() -> Tensor:
    return random_map(2, 2, 3, 8, 16, 16).float()


def sound() -> Tensor:
    return random_map(3, 2, 1, 64).float()


def audio_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv1d(1, 4, 5, padding=2), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2)),
        nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool1d(3, 2, 1)),
        nn.Sequential(nn.AvgPool1d(2, ceil_mode=True), nn.Flatten(), nn.Linear(64, 5)),
    )


def video_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
        nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2)),
        nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 5)),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "resnet18": (torchvision.models.resnet18, images),
    "vgg11_bn": (lambda: vgg.make_layers(vgg.cfgs["A"], batch_norm=True), images),
    "densenet121": (torchvision.models.densenet121, images),
    "googlenet": (lambda: torchvision.models.googlenet(aux_logits=False, init_weights=False), images),
    "audio": (audio_network, sound),
    "video": (video_network, clip),
}
PLACES = {"resnet18": 1, "vgg11_bn": 5, "densenet121": 4, "googlenet": 13, "audio": 3, "video": 2}
CASES = [
    (network, kind)
    for network, kind in itertools.product(NETWORKS, ("soft", "lip", "lift", "avg", "max"))
    # GoogLeNet has windows 3/2/0 and 3/1/1, which do not halve; there is no LiftPool over three axes.
    if (network, kind) not in {("googlenet", "lift"), ("video", "lift")}
    and (kind != "max" or network in ("densenet121", "audio", "video"))
]


def state(model: nn.Module) -> tuple[object, ...]:
    """Everything of a model that a refused replacement must leave alone."""
    modules = [(name, id(module), module.training) for name, module in model.named_modules(remove_duplicate=False)]
    tensors = {name: (id(value), value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    return modules, tensors, [hooks_on(module) for module in model.modules()]


def hooks_on(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return sum(len(getattr(module, kind)) for kind in kinds)


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    before = [state(model) for model in models]
    yield
    for model, (modules, tensors, hooks) in zip(models, before, strict=True):
        modules_now, tensors_now, hooks_now = state(model)
        assert modules_now == modules
        assert hooks_now == hooks
        assert tensors_now.keys() == tensors.keys()
        for name, (identity, value) in tensors.items():
            assert tensors_now[name][0] == identity
            assert torch.equal(tensors_now[name][1], value)


@contextmanager
def refused(sentence: str, *models: nn.Module, error: type[Exception] = ValueError) -> Iterator[None]:
    with untouched(*models), pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        yield


def output_shapes(model: nn.Module, x: Tensor) -> dict[str, torch.Size]:
    """The shape of what every module returns, by name, new modules' own parts left out."""
    shapes: dict[str, torch.Size] = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _a, output, name=name: shapes.__setitem__(name, getattr(output, "shape", None))
        )
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return shapes


@pytest.mark.parametrize(("network", "kind"), CASES)
def test_every_shape_stays_and_every_new_layer_learns(network: str, kind: Kind) -> None:
    torch.manual_seed(0)
    build, make_input = NETWORKS[network]
    model, x = build(), make_input()
    shapes = output_shapes(model, x)
    standing = {name for name, module in model.named_modules() if "Pool" in type(module).__name__}

    report = replace_pooling(model, kind, "all", example=x)

    already = [row.place for row in report.left_alone if row.reason == f'it is "{kind}" already']
    assert len(report.replaced) == PLACES[network] - len(already)
    assert {row.place for row in (*report.replaced, *report.left_alone)} == standing
    shapes_now = output_shapes(model, x)
    assert {name: shapes_now[name] for name in shapes} == shapes

    model(x).square().mean().backward()
    for row in report.replaced:
        layer = model.get_submodule(row.place)
        assert type(layer).__name__ == row.after.split()[0]
        assert row.parameters == sum(parameter.numel() for parameter in layer.parameters())
        gradients = [parameter.grad for parameter in layer.parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in gradients)
        assert any(grad.any() for grad in gradients) or kind in ("soft", "avg", "max")


@pytest.mark.parametrize(
    ("rank", "kind", "layer"),
    [
        *((1, "soft", SoftPool1d), (1, "lip", LIP1d), (1, "lift", LiftDownPool1d), (1, "avg", nn.AvgPool1d)),
        *((2, "soft", SoftPool2d), (2, "lip", LIP2d), (2, "lift", LiftDownPool2d), (2, "avg", nn.AvgPool2d)),
        *((3, "soft", SoftPool3d), (3, "lip", LIP3d), (3, "avg", nn.AvgPool3d)),
    ],
)
@pytest.mark.parametrize("window", [(2, 2, 0, True), (3, 2, 1, False)], ids=["k2s2p0-ceil", "k3s2p1"])
def test_each_layer_computes_its_formula(
    rank: int, kind: Kind, layer: type[nn.Module], window: tuple[int, int, int, bool]
) -> None:
    """Untrained, LIP and LiftPool are average pooling; LiftPool's window is always 2/2/0, its last pixel repeated."""
    size = (7, 5, 4)[:rank]
    x = random_map(4, 1, 1, *size)
    max_pools: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
    avg_pools: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
    for stands in (max_pools, avg_pools):
        kernel_size, stride, padding, ceil_mode = window
        old = stands[rank](kernel_size, stride, padding, ceil_mode=ceil_mode)
        if type(old) is layer and not padding:
            continue
        model = nn.Sequential(nn.Identity(), old).double()
        replace_pooling(model, kind, "all", example=x)
        model.double()
        assert type(model[1]) is layer
        k, s, p, ceil = (2, 2, 0, True) if kind == "lift" else window
        geometry = truth.Geometry((k,) * rank, (s,) * rank, (p,) * rank, ceil)
        values = x[0, 0].tolist()
        logits = values if kind == "soft" else truth.filled(size, lambda _: 0.0)
        want = torch.tensor(truth.weighted_pool(values, logits, geometry).y, dtype=torch.float64)
        assert model(x).shape == (1, 1, *want.shape)
        near(model(x), want.flatten().tolist(), 1e-12)


@pytest.mark.parametrize("padding", [0, 1])
def test_max_in_place_of_avg(padding: int) -> None:
    x = random_map(5, 1, 1, 7, 6)
    model = nn.Sequential(nn.AvgPool2d(3, 2, padding))
    report = replace_pooling(model, "max", "avg")
    values = x[0, 0].tolist()
    geometry = truth.Geometry((3, 3), (2, 2), (padding, padding))
    near(model(x), [max(truth.at(values, i) for i in pixels) for _, pixels in geometry.reads((7, 6))])
    window = f"3/2/{padding}"
    note = PADDING_NOTE if padding else ""
    assert report.replaced == (Replacement("0", f"AvgPool2d {window}", f"MaxPool2d {window}", 0, note),)


def test_windows_are_kept_on_each_axis() -> None:
    model = nn.Sequential(nn.MaxPool2d((2, 3), (1, 2), (0, 1), ceil_mode=True))
    report = replace_pooling(model, "soft")
    assert model[0].window == ((2, 3), (1, 2), (0, 1), True)
    assert report.replaced[0][1:3] == (
        "MaxPool2d (2,3)/(1,2)/(0,1) ceil",
        "SoftPool2d (2,3)/(1,2)/(0,1) ceil",
    )


def test_lip_densenet_has_the_parameters_that_its_authors_publish() -> None:
    model = torchvision.models.densenet121()
    replace_pooling(model, "lip", "all", example=images())
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_690_920


def test_lips_stem_is_the_authors_3x3_form() -> None:
    model = torchvision.models.resnet18()
    report = replace_pooling(model, "lip", example=images())
    assert report.replaced == (Replacement("maxpool", "MaxPool2d 3/2/1", "LIP2d 3/2/1", 36_992),)
    assert model.maxpool.logit[0].weight.shape == (64, 64, 3, 3)


def test_the_table() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)
    )
    assert str(replace_pooling(model, "lip", "all", example=images(16))) == (
        "place  before           after        parameters  note\n"
        "1      MaxPool2d 2/2/0  LIP2d 2/2/0     +36,992\n"
        "2      AvgPool2d 3/2/1  LIP2d 3/2/1    +164,480  padding no longer counts\n"
        "left alone: 3 (AdaptiveAvgPool2d: its windows follow from the size of its input)"
    )


def test_the_docstrings_example() -> None:
    found = doctest.testmod(sys.modules[replace_pooling.__module__])
    assert found.attempted >= 2
    assert not found.failed


class SamePool2d(nn.MaxPool2d):
    """Its own forward: replaced by a window alone it would lose its padding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class HalfPool2d(nn.MaxPool2d):
    """A constructor of its own, and no more."""

    def __init__(self) -> None:
        super().__init__(2)


def test_what_is_left_alone() -> None:
    patched = nn.MaxPool2d(2)
    patched.forward = lambda x: x
    model = nn.ModuleDict(
        {
            "plain": HalfPool2d(),
            "adaptive": nn.AdaptiveMaxPool2d(1),
            "random": nn.FractionalMaxPool2d(2, output_ratio=0.5),
            "norm": nn.LPPool2d(2, 2),
            "same": SamePool2d(2),
            "patched": patched,
            "average": nn.AvgPool2d(2),
            "soft": SoftPool2d(2),
            "other": nn.Linear(1, 1),
        }
    )
    modules = dict(model.items())
    report = replace_pooling(model, "soft")
    assert [row.place for row in report.replaced] == ["plain"]
    assert isinstance(model["plain"], SoftPool2d)
    assert report.left_alone == (
        LeftAlone("adaptive", "AdaptiveMaxPool2d", "its windows follow from the size of its input"),
        LeftAlone("random", "FractionalMaxPool2d", "its windows are drawn at random"),
        LeftAlone("norm", "LPPool2d", "it takes the norm of a window, neither its maximum nor its mean"),
        LeftAlone("same", "SamePool2d", "its forward is its own"),
        LeftAlone("patched", "MaxPool2d", "its forward is its own"),
        LeftAlone("average", "AvgPool2d", 'where is "max"'),
        LeftAlone("soft", "SoftPool2d", "it is a layer of poolcore"),
    )
    assert all(model[name] is modules[name] for name in modules if name != "plain")


def test_only_averages_that_count_padding_become_averages() -> None:
    same = [nn.AvgPool2d(2), nn.AvgPool2d(3, 2, (0, 0), ceil_mode=True), nn.AvgPool2d(3, 2, 1, count_include_pad=False)]
    model = nn.Sequential(*same, nn.AvgPool2d(3, 2, 1))
    assert [row[:1] + row[3:] for row in replace_pooling(model, "avg", "all").replaced] == [("3", 0, PADDING_NOTE)]
    assert list(model)[:3] == same
    assert not model[3].count_include_pad
    # What is left alone is average pooling over the pixels alone: ones stay ones.
    assert all((layer(torch.ones(1, 1, 8, 8)) == 1).all() for layer in model)


class Shared(nn.Module):
    """One pooling under several names, one of them in a block that is shared itself."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), self.pool)
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 1), self.pool), block, block])

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.pool(x)


@pytest.mark.parametrize("kind", ["soft", "lip"])
def test_a_shared_module_becomes_one_new_layer(kind: Kind) -> None:
    model = Shared()
    report = replace_pooling(model, kind, example=images())
    assert [row.place for row in report.replaced] == ["pool, stages.0.1, stages.1.1, stages.2.1"]
    assert all(stage[1] is model.pool for stage in model.stages)
    assert isinstance(model.pool, SoftPool2d | LIP2d)
    assert model(images()).shape == (2, 4, 4, 4)


class Twice(nn.Module):
    """One pooling, called on maps of two sizes and, at will, two numbers of channels."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.narrow, self.wide = nn.Conv2d(3, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.wide(self.pool(self.narrow(x))))


@pytest.mark.parametrize("kind", ["lip", "lift"])
def test_a_module_of_two_channel_counts_is_refused(kind: Kind) -> None:
    shared = Twice()
    replace_pooling(shared, kind, example=images())
    assert shared(images()).shape == (2, 4, 16, 16)
    model = Twice(6)
    sentence = "it serves maps of 4 and 6 channels; possible is a module for each of its calls"
    with refused(f'pool (MaxPool2d) cannot become "{kind}": {sentence}', model):
        replace_pooling(model, kind, example=images())
    replace_pooling(model, "soft")
    assert model(images()).shape == (2, 6, 16, 16)


def test_new_layers_take_device_dtype_and_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Dropout()).bfloat16()
    model[1].eval()
    replace_pooling(model, "lip", example=images(16).bfloat16())
    assert [module.training for module in model] == [True, False, True, True]
    assert [part.training for part in model[1].modules()] == [False] * len(list(model[1].modules()))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model(images(16).bfloat16()).dtype == torch.bfloat16

    with torch.device("meta"):
        model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2)), torch.empty(1, 3, 8, 8)
    replace_pooling(model, "lift", example=x)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("kind", ["soft", "lip", "lift"])
def test_copies_and_state_dicts(kind: Kind) -> None:
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)))
        replace_pooling(model, kind, example=images())
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        return model.eval()

    model, other, x = build(0), build(1), images()
    want = model(x)
    assert torch.equal(copy.deepcopy(model)(x), want)
    assert not torch.equal(other(x), want)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), want)


class Witness(nn.Module):
    """Writes down how it was called, holds two inputs, and fails on request."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.features = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 3, 1))
        self.fails = fails
        self.calls: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        self.calls.append((self.norm.training, torch.is_grad_enabled()))
        x = self.features(self.norm(x) * scale)
        if self.fails:
            raise RuntimeError("as asked")
        return x


def test_the_example_runs_once_in_eval_mode_without_gradient() -> None:
    model = Witness()
    model.features.eval()
    modes = {name: module.training for name, module in model.named_modules() if "features.0" not in name}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    replace_pooling(model, "lip", example=(images(), torch.ones(1)))
    assert model.calls == [(False, False)]
    assert {name: module.training for name, module in model.named_modules() if "features.0" not in name} == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert sum(map(hooks_on, model.modules())) == 0


def test_a_model_that_fails_on_the_example_is_as_it_was() -> None:
    model = Witness(fails=True)
    model.norm.eval()
    with refused("as asked", model, error=RuntimeError):
        replace_pooling(model, "lift", example=(images(), torch.ones(1)))
    with untouched(model), pytest.raises(TypeError, match="scale"):
        replace_pooling(model, "lift", example=images())


def test_without_need_the_example_is_not_run() -> None:
    model = Witness(fails=True)
    replace_pooling(model, "soft", example=(images(), torch.ones(1)))
    assert model.calls == []


def hooked() -> nn.MaxPool2d:
    pool = nn.MaxPool2d(2)
    pool.register_forward_hook(lambda *_: None)
    return pool


LIFT_WINDOWS = "LiftPool halves its input; possible are the windows 2/2/0 and 3/2/1"
LIFT_SIZES = "possible are 2/2/0 with even sizes or ceil_mode=True, and 3/2/1 with ceil_mode=False"
REFUSALS: dict[str, tuple[nn.Module, Kind, int, str]] = {
    "dilation": (
        nn.MaxPool2d(2, dilation=2),
        "soft",
        16,
        "dilation=2 is max pooling's alone; possible is dilation=1",
    ),
    "indices": (
        nn.MaxPool2d(2, return_indices=True),
        "avg",
        16,
        "an unpooling needs the indices of return_indices=True; possible is return_indices=False",
    ),
    "divisor": (
        nn.AvgPool2d(2, divisor_override=1),
        "max",
        16,
        "divisor_override=1 is average pooling's alone; possible is divisor_override=None",
    ),
    "divisor-avg": (
        nn.AvgPool2d(2, divisor_override=1),
        "avg",
        16,
        "divisor_override=1 is average pooling's alone; possible is divisor_override=None",
    ),
    "hooks": (hooked(), "soft", 16, "the hooks on it would be lost; possible is to remove them first"),
    "window": (
        nn.MaxPool2d((2,)),
        "soft",
        16,
        "kernel_size must be an int or a pair of ints (height, width), got (2,)",
    ),
    "lift-k3s2p0": (nn.MaxPool2d(3, 2), "lift", 16, LIFT_WINDOWS),
    "lift-k3s1p1": (nn.MaxPool2d(3, 1, 1), "lift", 16, LIFT_WINDOWS),
    "lift-k2s2-k3s3": (nn.MaxPool2d((2, 3)), "lift", 16, LIFT_WINDOWS),
    "lift-odd": (nn.MaxPool2d(2), "lift", 15, f"LiftPool makes 8 x 8 of 15 x 15 where 7 x 7 came out; {LIFT_SIZES}"),
    "lift-ceil": (
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        "lift",
        16,
        f"LiftPool makes 8 x 8 of 16 x 16 where 9 x 9 came out; {LIFT_SIZES}",
    ),
    "lip-pixel": (
        nn.AvgPool2d(3, 2, 1),
        "lip",
        1,
        "LIP's logits need the variance of a map, which 1 x 1 has not; possible is a larger example",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_replaced(case: str) -> None:
    pool, kind, size, why = REFUSALS[case]
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU(), pool))
    sentence = f'1.1 ({type(pool).__name__}) cannot become "{kind}": {why}'
    with refused(sentence, model):
        replace_pooling(model, kind, "all", example=images(size))


@pytest.mark.parametrize(("pool", "size"), [(nn.MaxPool2d(2, ceil_mode=True), 15), (nn.MaxPool2d(3, 2, 1), 15)])
def test_odd_sizes_that_lift_halves_alike(pool: nn.Module, size: int) -> None:
    model = nn.Sequential(pool)
    shape = model(images(size)).shape
    replace_pooling(model, "lift", example=images(size))
    assert model(images(size)).shape == shape


def test_a_map_of_one_row_has_a_variance() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d((1, 2)))
    replace_pooling(model, "lip", example=images()[:, :, :1])
    assert model(images()[:, :, :1]).shape == (2, 4, 1, 32)


def test_lift_is_refused_in_3d() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 1), nn.MaxPool3d(2))
    why = 'there is no LiftPool over 3 axes; possible are "soft", "lip", "avg" and "max"'
    with refused(f'1 (MaxPool3d) cannot become "lift": {why}', model):
        replace_pooling(model, "lift", example=clip())


def test_each_module_that_cannot_gets_its_sentence_and_the_rest_stays() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reached, self.unreached = nn.MaxPool2d(2), nn.MaxPool2d(2)
            self.dilated, self.wide = nn.MaxPool2d(2, 2, dilation=3), nn.MaxPool2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.wide(self.dilated(self.reached(x)))

    model = nn.Sequential(nn.BatchNorm2d(3), Part())
    lines = (
        '1.unreached (MaxPool2d) cannot become "lift": the example does not reach it; '
        "possible is an example that does",
        '1.dilated (MaxPool2d) cannot become "lift": dilation=3 is max pooling\'s alone; possible is dilation=1',
        f'1.wide (MaxPool2d) cannot become "lift": {LIFT_WINDOWS}',
    )
    with refused("\n".join(lines), model):
        replace_pooling(model, "lift", example=images())


@pytest.mark.parametrize(
    ("model", "kind", "where", "sentence"),
    [
        (
            nn.Sequential(nn.Linear(1, 1)),
            "soft",
            "max",
            'model must hold a max pooling module that "soft" would change, got no pooling module',
        ),
        (
            nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)),
            "lip",
            "max",
            'model must hold a max pooling module that "lip" would change, got 0 (AvgPool2d: where is "max"), '
            "1 (AdaptiveAvgPool2d: its windows follow from the size of its input)",
        ),
        (
            nn.Sequential(nn.MaxPool2d(2, dilation=2)),
            "max",
            "max",
            'model must hold a max pooling module that "max" would change, got 0 (MaxPool2d: it is "max" already)',
        ),
        (
            nn.Sequential(SoftPool2d(2), nn.AvgPool2d(2)),
            "avg",
            "all",
            'model must hold a max or average pooling module that "avg" would change, '
            'got 0 (SoftPool2d: it is a layer of poolcore), 1 (AvgPool2d: it is "avg" already)',
        ),
        (
            nn.AdaptiveAvgPool2d(1),
            "soft",
            "avg",
            'model must hold an average pooling module that "soft" would change, '
            "got model (AdaptiveAvgPool2d: its windows follow from the size of its input)",
        ),
    ],
)
def test_nothing_to_change(model: nn.Module, kind: Kind, where: Any, sentence: str) -> None:
    with refused(f"{sentence}; calls of torch.nn.functional cannot be seen", model):
        replace_pooling(model, kind, where)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool1d(2)])
def test_a_pooling_itself_is_not_replaced_in_place(pool: nn.Module) -> None:
    with refused(
        f"model must be a module that holds pooling modules, got a {type(pool).__name__} itself, which cannot be "
        "replaced in place: write the new layer where it is made",
        pool,
    ):
        replace_pooling(pool, "soft", "all")


def test_wrong_arguments() -> None:
    model: Any = nn.Sequential(nn.MaxPool2d(2))
    with refused('kind must be "soft", "lip", "lift", "avg" or "max", got \'mean\'', model):
        replace_pooling(model, "mean")
    with refused('where must be "max", "avg" or "all", got \'stem\'', model):
        replace_pooling(model, "soft", "stem")
    for kind in ("lip", "lift"):
        with refused(f'example must be an input of the model for "{kind}", to count its channels, got None', model):
            replace_pooling(model, kind)
    with pytest.raises(TypeError, match=r"^model must be a torch\.nn\.Module, got str$"):
        replace_pooling("resnet18", "soft")
