"""LIP: the worked examples, its logit modules, and the mistakes that public code made, one test each."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolcore import LIP1d, LIP2d, LIP3d, LogitHead, LogitTrunk, lip1d, lip2d, lip3d
from tests.poolcore import truth
from tests.poolcore.cases import assert_close, near, random_map, same_bits, tensor
from tests.poolcore.truth import L, X

FORMS = ["projection", "simplified", "bottleneck"]
LAYERS = {1: LIP1d, 2: LIP2d, 3: LIP3d}
LIP = {1: lip1d, 2: lip2d, 3: lip3d}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def sample(rank: int, channels: int = 4) -> torch.Tensor:
    return random_map(1, 2, channels, *(9, 8, 7)[:rank], dtype=torch.float32)


def gradients(window: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    x, logit = tensor(X).requires_grad_(), tensor(L).requires_grad_()
    grad_x, grad_logit = torch.autograd.grad(lip2d(x, logit, *window).sum(), (x, logit))
    return grad_x[0, 0], grad_logit[0, 0]


@pytest.mark.parametrize(
    ("window", "want"),
    [
        ((2, 2, 0), [2.46475616, 1.36290512, -1.27808649, -0.83144287]),
        ((3, 2, 1), [2.46475616, 1.54255498, -0.44976166, 1.30562649]),
    ],
)
def test_worked_values(window: tuple[int, int, int], want: list[float]) -> None:
    near(lip2d(tensor(X), tensor(L), *window), want)
    near(tensor(truth.weighted_pool(X, L, truth.Geometry(*((v, v) for v in window))).y), want)


def test_worked_limits() -> None:
    near(lip2d(tensor(X), torch.zeros(1, 1, 4, 4).double(), 2), [2.5, 0.5, -0.125, 1.25])
    near(lip2d(tensor(X), torch.ones(1, 1, 4, 4).double(), 3, 2, 1), [2.5, 1.33333333, 1.08333333, 1.5])
    near(lip2d(tensor(X), 20 * tensor(X), 2), [4.0, 2.0, 0.99997730, 4.0])
    near(lip2d(tensor(X), tensor(X), 2), [3.49265273, 1.49265273, 0.59465116, 3.58174749])


def test_worked_gradients() -> None:
    grad_x, grad_logit = gradients((2, 2, 0))
    near(grad_x[0], [0.17437149, 0.47399085, 0.25069239, 0.03392753])
    near(grad_x[1], [0.06414769, 0.28748998, 0.03392753, 0.68145256])
    near(grad_logit[0], [-0.25541171, -0.22029017, -0.34166994, -0.08016752])
    near(grad_logit[1], [0.03433465, 0.44136722, -0.01231247, 0.43414994])
    near(gradients((3, 2, 1))[1][1], [0.13663447, 1.28841632, -0.02538541, 0.69832270])


def test_a_windows_logit_gradients_sum_to_zero() -> None:
    near(F.avg_pool2d(gradients((2, 2, 0))[1][None, None], 2), [0.0] * 4, 1e-14)


@pytest.mark.parametrize(
    ("module", "parameters"),
    [
        (LIP2d(64, 2, logit="projection"), 64**2 + 2 * 64),
        (LIP2d(64, 2, logit="simplified"), 36_992),
        (LogitTrunk(64, 128), 128 * 64 + 9 * 128**2 + 4 * 128),
        (LogitHead(128, 64), 128 * 64 + 2 * 64),
        (LIP2d(64, 2), 128 * 64 + 9 * 128**2 + 4 * 128 + 128 * 64 + 2 * 64),
        (LIP2d(64, 2, logit_width=32), 32 * 64 + 9 * 32**2 + 4 * 32 + 32 * 64 + 2 * 64),
        (LIP1d(8, 2, logit="simplified"), 3 * 8**2 + 2 * 8),
        (LIP3d(8, 2, logit="simplified"), 27 * 8**2 + 2 * 8),
        (LogitTrunk(6, 4, rank=1), 4 * 6 + 3 * 4**2 + 4 * 4),
        (LogitTrunk(6, 4, rank=3), 4 * 6 + 27 * 4**2 + 4 * 4),
    ],
)
def test_parameters_are_those_of_the_paper(module: nn.Module, parameters: int) -> None:
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert not any(isinstance(m, tuple(CONVOLUTIONS.values())) and m.bias is not None for m in module.modules())


def test_parameters_keep_their_names() -> None:
    # Trained weights are kept by these names.
    assert {name: tuple(value.shape) for name, value in LIP2d(6, 2, logit_width=4).state_dict().items()} == {
        "logit.0.0.weight": (4, 6, 1, 1),
        "logit.0.1.weight": (4,),
        "logit.0.1.bias": (4,),
        "logit.0.3.weight": (4, 4, 3, 3),
        "logit.0.4.weight": (4,),
        "logit.0.4.bias": (4,),
        "logit.1.0.weight": (6, 4, 1, 1),
        "logit.1.1.weight": (6,),
        "logit.1.1.bias": (6,),
    }


@pytest.mark.parametrize("rank", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_logits_have_the_shape_of_x_and_the_layer_is_the_function(form: str, rank: int) -> None:
    x, layer = sample(rank), LAYERS[rank](4, 3, 2, 1, ceil_mode=True, logit=form, logit_width=5)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    logit = layer.logits(x)
    assert logit.shape == x.shape
    assert logit.std() > 0.1
    assert {type(m) for m in layer.modules() if isinstance(m, tuple(CONVOLUTIONS.values()))} == {CONVOLUTIONS[rank]}
    assert same_bits(layer(x).detach(), LIP[rank](x, logit, 3, 2, 1, ceil_mode=True).detach())
    # A map of its own, without a batch, is a batch of one.
    assert torch.allclose(layer(x[0]), layer(x[:1])[0], rtol=1e-5, atol=1e-6)
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])


def test_logits_are_conv_norm_gate() -> None:
    layer = LIP2d(2, 2, logit="projection").double()
    conv, norm, _ = layer.logit
    with torch.no_grad():
        conv.weight.copy_(random_map(1, 2, 2, 1, 1))
        norm.weight.copy_(torch.tensor([1.5, -0.5]))
        norm.bias.copy_(torch.tensor([0.25, 1.0]))
    x = random_map(2, 1, 2, 3, 4)
    got, kernel = layer.logits(x)[0], conv.weight[..., 0, 0].tolist()
    for c, (gain, shift) in enumerate(((1.5, 0.25), (-0.5, 1.0))):
        values = [
            kernel[c][0] * a + kernel[c][1] * b
            for a, b in zip(x[0, 0].flatten().tolist(), x[0, 1].flatten().tolist(), strict=True)
        ]
        mean = math.fsum(values) / 12
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / 12 + 1e-5)
        near(got[c], [12 / (1 + math.exp(-(gain * (v - mean) / deviation + shift))) for v in values], 1e-12)


def test_logits_may_come_from_another_tensor() -> None:
    x, features = random_map(1, 2, 6, 8, 8, dtype=torch.float32), random_map(2, 2, 4, 8, 8, dtype=torch.float32)
    head = LogitHead(4, 6)
    nn.init.normal_(head[0].weight)
    layer = LIP2d(6, 3, 2, 1, logit=head)
    assert same_bits(layer(x, features), lip2d(x, head(features), 3, 2, 1))
    assert same_bits(layer(x, logit_from=features), layer(x, features))


def test_a_head_keeps_the_dtype_and_format_of_x() -> None:
    x = random_map(1, 2, 4, 8, 8, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    assert LIP2d(4, 3, 2, 1)(x).is_contiguous(memory_format=torch.channels_last)
    half = LIP2d(4, 3, 2, 1).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu"):
        assert LIP2d(4, 3, 2, 1)(x).dtype == torch.float32


@pytest.mark.parametrize(("rank", "size"), [(1, "1"), (2, "1 x 1"), (3, "1 x 1 x 1")])
@pytest.mark.parametrize("form", FORMS)
def test_a_map_of_one_pixel_is_refused(form: str, rank: int, size: str) -> None:
    with pytest.raises(ValueError, match=rf"LIP's logits need a map of more than one pixel.* got {size}$"):
        LAYERS[rank](4, 1, logit=form)(torch.zeros(2, 4, *(1,) * rank))


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match='logit must be "projection", "simplified", "bottleneck" or a module, got 7'):
        LIP2d(4, 2, logit=7)


# Mistakes of public code.


def test_exp_does_not_overflow_in_half_precision() -> None:
    x = random_map(1, 1, 1, 4, 4, dtype=torch.float16)
    for logit in (12.0, 1000.0, 60000.0):
        y = lip2d(x, torch.full_like(x, logit), 2)
        assert torch.equal(y, F.avg_pool2d(x.double(), 2).half())


def test_the_maximum_does_not_start_at_zero() -> None:
    for logit in (-119.0, -200.0, -1e4):
        shifted = tensor(L).float() + logit
        want = truth.weighted_pool(X, shifted[0, 0].tolist(), truth.Geometry((2, 2), (2, 2)))
        assert_close(lip2d(tensor(X).float(), shifted, 2), want.y, want.y_scale, 8)


def test_padding_is_not_ignored() -> None:
    x, logit = random_map(1, 1, 1, 7, 7), random_map(2, 1, 1, 7, 7)
    assert lip2d(x, logit, 3, 2, 1).shape[2:] == (4, 4)
    assert lip2d(x, logit, 3, 2, 0).shape[2:] == (3, 3)
    # Without padding a window of two begins at its own corner, not half a window before it.
    near(lip2d(tensor(X), tensor(L), 2), [2.46475616, 1.36290512, -1.27808649, -0.83144287])


def test_sums_are_not_kept_in_half_precision() -> None:
    # Forty-nine weights near e^12: in fp16 their sum is inf, and a mean of values near 1000 is off by whole units.
    x = (1000 + random_map(1, 1, 1, 7, 7)).half()
    logit = (11.5 + 0.1 * random_map(2, 1, 1, 7, 7)).half()
    want = truth.weighted_pool(x[0, 0].tolist(), logit[0, 0].tolist(), truth.Geometry((7, 7), (7, 7)))
    assert_close(lip2d(x, logit, 7), want.y, want.y_scale, 8)


def test_the_callers_logits_are_not_overwritten() -> None:
    x, logit = random_map(1, 2, 3, 8, 8), random_map(2, 2, 3, 8, 8)
    before = x.clone(), logit.clone()
    lip2d(x, logit, 3, 2, 1)
    lip2d(x, 100 * logit, 3, 2, 1)
    assert same_bits(logit, before[1])
    assert same_bits(x, before[0])


@pytest.mark.parametrize("rank", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_an_untrained_layer_is_average_pooling(form: str, rank: int) -> None:
    x, layer = sample(rank), LAYERS[rank](4, 3, 2, 1, logit=form)
    near(layer.logits(x), [6.0] * x.numel(), 1e-6)
    average = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[rank]
    near(layer(x), average(x, 3, 2, 1, count_include_pad=False).flatten().tolist(), 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_gate_reaches_twelve(form: str) -> None:
    layer = LIP2d(2, 2, logit=form)
    head = layer.logit[1] if form == "bottleneck" else layer.logit
    nn.init.normal_(head[0].weight)
    nn.init.constant_(head[1].weight, 100.0)
    logits = layer.logits(random_map(1, 1, 2, 8, 8, dtype=torch.float32))
    assert logits.max() > 11.9
    assert logits.min() < 0.1
    assert logits.max() <= 12
    assert logits.min() >= 0


def test_one_logit_map_for_all_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logit must have the shape of x, got \(2, 1, 8, 8\) for x of \(2, 3, 8, 8\)"):
        lip2d(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8), 2)


def test_weights_sum_to_one_however_low_the_logits() -> None:
    for logit in (0.0, -25.0, -300.0):
        x = torch.full((1, 1, 4, 4), 5.0, dtype=torch.float64)
        near(lip2d(x, x + logit, 2), [5.0] * 4, 1e-14)
