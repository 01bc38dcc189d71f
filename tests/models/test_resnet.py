"""The networks against torchvision's, against hand counts, and against one another."""

import pytest
import torch
import torchvision
from torch import nn

from models.resnet import VARIANTS, count_macs, count_parameters, resnet


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_stock_takes_torchvisions_weights_and_gives_its_numbers(depth):
    torch.manual_seed(depth)
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None).double().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight, 1.0, 0.2)
    ours = resnet(depth, "stock").double().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 3, 75, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("depth", "parameters", "gmacs"), [(18, 11_689_512, 1.814), (34, 21_797_672, 3.664), (50, 25_557_032, 4.089)]
)
def test_stock_has_the_known_size_and_work(depth, parameters, gmacs):
    network = resnet(depth, "stock")
    assert count_parameters(network) == parameters
    assert round(count_macs(network, 224) / 1e9, 3) == gmacs


def _extra(variant: str, width: int, side: int) -> tuple[int, int]:
    """Return, by hand, the parameters and MACs of ResNet-18 beyond those of `stock`; ``side`` is the stem's map."""
    parameters = macs = 0
    places = [(width, side)]
    for stage, before in enumerate((side // 2, side // 4, side // 8)):  # the side of the map that a stage is given
        c = width << stage
        # The first convolution of the stage, 3x3 from c to 2c, now runs at four times as many pixels.
        macs += 9 * c * 2 * c * (before**2 - (before // 2) ** 2)
        places += [(2 * c, before), (c, before)]
        if variant == "lip":
            trunk, heads = width * c + 9 * width**2, width * 2 * c + width * c
            parameters += trunk + 4 * width + heads + 2 * (2 * c + c)  # two affine norms, then one for each head
            macs += (trunk + heads) * before**2
    if variant == "lip":
        parameters += 9 * width**2 + 2 * width
        macs += 9 * width**2 * side**2
    if variant == "lift":
        parameters += sum(2 * (5 + 3) * c for c, _ in places)  # P and U: five taps, bias, scale, shift
        macs += sum(2 * 5 * c * s**2 for c, s in places)
    return parameters, macs


@pytest.mark.parametrize("variant", VARIANTS[1:])
@pytest.mark.parametrize(("width", "stem", "size", "side"), [(64, "imagenet", 224, 112), (8, "small", 64, 64)])
def test_a_variants_size_and_work_are_those_counted_by_hand(variant, width, stem, size, side):
    stock, network = (resnet(18, v, width=width, stem=stem, num_classes=30) for v in ("stock", variant))
    parameters, macs = _extra(variant, width, side)
    assert count_parameters(network) - count_parameters(stock) == parameters
    assert count_macs(network, size) - count_macs(stock, size) == macs


def test_counting_leaves_the_network_as_it_was():
    network = resnet(18, "lift", width=4, stem="small", num_classes=3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_macs(network, 32)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_differ_in_their_pooling_alone(depth, variant):
    stock, network = (resnet(depth, v, width=8, num_classes=5) for v in ("stock", variant))
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    shared = {key: value.shape for key, value in stock.state_dict().items()}
    assert {key: shapes[key] for key in shared} == shared
    extra = shapes.keys() - shared.keys()
    assert bool(extra) == (variant in ("lip", "lift"))
    assert all({"pool", "shortcut_pool", "trunk"} & set(key.split(".")) for key in extra)
    strided = [name for name, module in network.named_modules() if getattr(module, "stride", 1) == (2, 2)]
    inner = [name for name in strided if name.startswith("layer") and "pool" not in name]
    middle = "conv2" if depth == 50 else "conv1"
    expected = [f"layer{s}.0.{name}" for s in (2, 3, 4) for name in (middle, "downsample.0")]
    assert inner == (expected if variant == "stock" else [])
    assert "conv1" in strided


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("stem", "size"), [("small", 64), ("imagenet", 128)])
def test_every_place_halves_the_same_maps(variant, stem, size):
    network = resnet(18, variant, width=4, stem=stem, num_classes=3).eval()
    seen = {}
    for name, module in network.pooling_places().items():
        module.register_forward_hook(
            lambda _, inputs, out, name=name: seen.update({name: (inputs[0].shape[1:], out.shape[2:])})
        )
    with torch.no_grad():
        assert network(torch.randn(2, 3, size, size)).shape == (2, 3)
    inputs = {
        "stem": (4, 64, 64),
        "stage2": (4 if variant == "stock" else 8, 32, 32),  # stock's place is the convolution itself
        "stage2.shortcut": (4, 32, 32),
        "stage3": (8 if variant == "stock" else 16, 16, 16),
        "stage3.shortcut": (8, 16, 16),
        "stage4": (16 if variant == "stock" else 32, 8, 8),
        "stage4.shortcut": (16, 8, 8),
    }
    assert seen == {name: (shape, (shape[1] // 2, shape[2] // 2)) for name, shape in inputs.items()}
    assert list(network.pooling_places()) == list(inputs)


def test_time_in_pooling_is_that_of_the_poolings_and_lips_trunks():
    stock, lip = resnet(18, "stock", width=4), resnet(18, "lip", width=4)
    assert stock.pooling_modules() == [stock.pool]
    trunks = [lip.layer2[0].trunk, lip.layer3[0].trunk, lip.layer4[0].trunk]
    assert lip.pooling_modules() == [*lip.pooling_places().values(), *trunks]


@pytest.mark.parametrize("depth", [18, 50])
def test_an_untrained_lift_network_is_the_avg_network(depth):
    torch.manual_seed(0)
    lift, avg = (resnet(depth, v, width=8, stem="small", num_classes=5).double().eval() for v in ("lift", "avg"))
    avg.load_state_dict({key: value for key, value in lift.state_dict().items() if "pool" not in key})
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(lift(x), avg(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [18, 50])
def test_an_untrained_lip_network_averages_over_its_windows(depth):
    torch.manual_seed(0)
    lip, avg = (resnet(depth, v, width=8, stem="small", num_classes=5).double().eval() for v in ("lip", "avg"))
    extra = ("pool", "trunk")
    avg.load_state_dict({k: v for k, v in lip.state_dict().items() if not any(part in k for part in extra)})
    avg.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    for stage in (avg.layer2, avg.layer3, avg.layer4):
        stage[0].pool = stage[0].shortcut_pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(lip(x), avg(x), rtol=1e-10, atol=1e-10)


def test_lips_two_poolings_of_a_block_share_one_trunk_on_the_blocks_input():
    torch.manual_seed(0)
    network = resnet(18, "lip", width=4, stem="small", num_classes=3).eval()
    block, calls = network.layer2[0], []
    block.trunk.register_forward_hook(lambda _, inputs, out: calls.append((inputs[0], out)))
    given = []
    for pool in (block.pool, block.shortcut_pool):
        pool.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    x = torch.randn(1, 4, 16, 16)
    with torch.no_grad():
        block(x)
    ((seen, features),) = calls
    assert seen is x
    assert [each is features for each in given] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"depth": 20}, r"depth must be one of \[18, 34, 50\], got 20"),
        ({"variant": "blur"}, r"variant must be one of .*'lift'.*, got 'blur'"),
        ({"stem": "tiny"}, r"stem must be one of \['imagenet', 'small'\], got 'tiny'"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        resnet(**arguments)
