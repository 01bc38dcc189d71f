"""Watching and timing: what is seen, and that nothing is left behind."""

import threading
import time

import pytest
import torch
from torch import Tensor, nn

from models.resnet import VARIANTS, ResNet, resnet
from poolcore import (
    Bands,
    Bands1d,
    LiftDownPool1d,
    LiftDownPool2d,
    LIP2d,
    LogitHead,
    Seen,
    SoftPool2d,
    SoftPool3d,
    StridedPool2d,
    share,
    stopwatch,
    trace,
)
from poolcore.window import Window
from tests.poolcore import truth
from tests.poolcore.cases import random_map, same_bits

PLACES = ["stem", "stage2", "stage2.shortcut", "stage3", "stage3.shortcut", "stage4", "stage4.shortcut"]


def hooks(network: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return sum(
        len(getattr(module, kind)) for module in network.modules() for kind in (*kinds, "_forward_hooks_always_called")
    )


class Small(nn.Module):
    """Some poolings, one of which fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), SoftPool2d(2))
        self.lip = LIP2d(4, 3, 2, 1, logit=LogitHead(6, 4))
        self.lift = LiftDownPool2d(4, combine="mean")
        self.strided = StridedPool2d(2)
        self.fails = False

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        x = self.first(x)
        x = self.lip(x, logit_from=features)
        if self.fails:
            raise RuntimeError("as asked")
        return self.strided(self.lift(x))


def inputs(seed: int = 1, count: int = 2) -> tuple[Tensor, Tensor]:
    return random_map(seed, count, 3, 32, 32).float(), random_map(seed + 1, count, 6, 16, 16).float()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_place_of_every_variant_is_seen(variant: str) -> None:
    torch.manual_seed(0)
    network = resnet(18, variant, width=8, stem="small", num_classes=5).eval()
    x = random_map(1, 2, 3, 64, 64).float()
    with torch.no_grad():
        want = network(x)
        with trace(network) as seen:
            got = network(x)
    assert same_bits(got, want)
    assert hooks(network) == 0
    assert list(seen) == PLACES
    for place, layer in network.pooling_places().items():
        one = seen[place]
        size = {"stem": 64, "stage2": 32, "stage3": 16, "stage4": 8}[place.split(".")[0]]
        assert one.input.shape[2:] == (size, size)
        assert one.output.shape[2:] == (size // 2, size // 2)
        assert one.share.shape == one.input.shape
        assert one.share is one.share
        assert one.milliseconds > 0
        assert (one.bands is not None) == (variant == "lift")
        assert not one.input.requires_grad
        is_conv = isinstance(layer, nn.Conv2d)
        window = one.window
        kernel = tuple(map(max, window.kernel_size, window.stride)) if is_conv else window.kernel_size
        a = truth.coverage(truth.Geometry(kernel, window.stride, window.padding), (size, size))
        a = torch.tensor(a)
        mean = (one.share * a).sum((2, 3)) / a.sum()
        assert (mean - 1).abs().max() < 1e-5, place
        if not is_conv:
            expected = layer(one.input) if one.logit_from is None else layer(one.input, one.logit_from)
            assert same_bits(one.output, expected.detach())


def test_a_traces_share_is_the_functions() -> None:
    network, (x, features) = Small(), inputs()
    nn.init.normal_(network.lip.logit[0].weight)
    with trace(network) as seen:
        network(x, features)
    assert list(seen) == ["first.1", "lip", "lift", "strided"]
    pooled = network.first(x)
    assert same_bits(seen["first.1"].share, share(network.first[1], network.first[0](x)))
    assert same_bits(seen["lip"].share, share(network.lip, pooled, features))
    assert not torch.allclose(seen["lip"].share, share(LIP2d(4, 3, 2, 1, logit=nn.Identity()), pooled))
    bands = seen["lift"].bands
    assert isinstance(bands, Bands)
    for got, want in zip(bands[:4], network.lift.bands(network.lip(pooled, features))[:4], strict=True):
        assert same_bits(got, want.detach())
    assert not bands.ll.requires_grad
    assert seen["strided"].bands is None
    assert seen["lip"].window == Window((3, 3), (2, 2), (1, 1))


def test_logits_are_seen_however_they_are_passed() -> None:
    x, features = random_map(1, 1, 4, 8, 8).float(), random_map(2, 1, 6, 8, 8).float()
    layer = LIP2d(4, 3, 2, 1, logit=LogitHead(6, 4))
    network = nn.Sequential(layer)
    for call in (
        lambda: layer(x, features),
        lambda: layer(x, logit_from=features),
        lambda: layer(logit_from=features, x=x),
    ):
        with trace(network) as seen:
            call()
        assert same_bits(seen["0"].input, x)
        assert same_bits(seen["0"].logit_from, features)


def test_torchs_own_layers_are_seen_and_convolutions_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.MaxPool2d(2), nn.AvgPool2d(2))
    with trace(network) as seen:
        network[2](input=network[1](input=network[0](inputs()[0])))
    assert list(seen) == ["1", "2"]


def test_bands_as_the_output_are_kept_detached() -> None:
    network = nn.Sequential(LiftDownPool2d(3))
    with trace(network) as seen:
        network(inputs()[0])
    output = seen["0"].output
    assert isinstance(output, Bands)
    assert output.size == (32, 32)
    assert not any(band.requires_grad for band in output[:4])


def test_sequences_and_volumes_are_seen() -> None:
    sequence = nn.Sequential(nn.Conv1d(3, 4, 3), nn.MaxPool1d(2), LiftDownPool1d(4, combine="low"), LiftDownPool1d(4))
    with trace(sequence) as seen:
        sequence(random_map(1, 2, 3, 32).float())
    assert list(seen) == ["1", "2", "3"]
    assert isinstance(seen["3"].output, Bands1d)
    assert not seen["3"].output.high.requires_grad
    assert isinstance(seen["2"].bands, Bands1d)
    assert same_bits(seen["2"].bands.low, seen["2"].output)
    assert all(one.share.shape == one.input.shape for one in seen.values())
    volume = nn.Sequential(SoftPool3d(2), nn.AvgPool3d(2))
    with trace(volume) as seen:
        volume(random_map(1, 1, 3, 4, 8, 8).float())
    assert list(seen) == ["0", "1"]
    assert seen["0"].window == Window((2, 2, 2), (2, 2, 2), (0, 0, 0))
    assert seen["0"].share.shape == (1, 3, 4, 8, 8)


def test_the_last_forward_pass_wins() -> None:
    network, first, second = Small(), inputs(1), inputs(7)
    with trace(network) as seen:
        network(*first)
        network(*second)
    assert same_bits(seen["lip"].logit_from, second[1])
    assert list(seen) == ["first.1", "lip", "lift", "strided"]


def test_an_exception_leaves_no_hook_and_no_changed_mode() -> None:
    network = Small().train()
    network.lift.eval()
    network.fails = True
    with pytest.raises(RuntimeError, match="as asked"), trace(network) as seen:
        network(*inputs())
    assert list(seen) == ["first.1", "lip"]
    assert hooks(network) == 0
    with pytest.raises(RuntimeError, match="as asked"), stopwatch([network, network.lip]) as watch:
        network(*inputs())
    assert watch.milliseconds > 0
    assert hooks(network) == 0
    assert network.training
    assert not network.lift.training
    assert torch.is_grad_enabled()


def test_a_place_without_hooks_leaves_none_on_the_others() -> None:
    class Broken(nn.Module):
        def pooling_places(self) -> dict[str, object]:
            return {"good": self.good, "bad": "no layer"}

    network = Broken()
    network.good = nn.MaxPool2d(2)
    with pytest.raises(AttributeError), trace(network):
        pass
    assert hooks(network) == 0


def test_modes_and_gradients_are_as_without_a_trace() -> None:
    network, (x, features) = Small().train(), inputs()
    x.requires_grad_()
    want = torch.autograd.grad(network(x, features).sum(), x)[0]
    with trace(network) as seen:
        y = network(x, features)
        assert network.training
        assert torch.is_grad_enabled()
        assert not any(t.requires_grad for t in (seen["lift"].share, seen["lift"].input, seen["lift"].output))
        assert y.requires_grad
    assert same_bits(torch.autograd.grad(y.sum(), x)[0], want)
    with torch.inference_mode(), trace(network) as seen:
        network(x, features)
    assert seen["lift"].share.shape == seen["lift"].input.shape
    assert seen["lift"].bands is not None


def test_another_threads_pass_is_neither_seen_nor_timed() -> None:
    network, mine, others = Small(), inputs(1), inputs(7)
    with trace(network) as seen, stopwatch([network]) as watch:
        network(*mine)
        before = watch.milliseconds
        thread = threading.Thread(target=lambda: network(*others))
        thread.start()
        thread.join()
    assert same_bits(seen["lip"].logit_from, mine[1])
    assert watch.milliseconds == before


def test_traces_in_one_another_see_the_same() -> None:
    network = Small()
    with trace(network) as outer:
        with trace(network) as inner:
            network(*inputs())
        assert hooks(network) > 0
    assert list(outer) == list(inner)
    assert hooks(network) == 0


class Sleeps(nn.Module):
    def __init__(self, seconds: float, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.seconds, self.inner = seconds, inner

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x if self.inner is None else self.inner(x)


def test_a_stopwatch_adds_up_and_counts_what_is_inside_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    inner = Sleeps(0.25)
    outer, other, unwatched = Sleeps(0.5, inner), Sleeps(1.0), Sleeps(64.0)
    network = nn.Sequential(outer, unwatched, other)
    with stopwatch([outer, inner, other, other]) as watch:
        network(torch.zeros(1))
        assert watch.milliseconds == 1750
        network(torch.zeros(1))
    assert watch.milliseconds == 3500
    network(torch.zeros(1))
    assert watch.milliseconds == 3500


def test_a_traces_milliseconds_are_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow(SoftPool2d):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal now
            now += 0.125
            return super().forward(x)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    network = nn.Sequential(Slow(2), nn.ReLU(), SoftPool2d(2))
    with trace(network) as seen:
        network(inputs()[0])
    assert (seen["0"].milliseconds, seen["2"].milliseconds) == (125, 0)


def test_pooling_time_of_a_network_is_that_of_its_pooling_modules() -> None:
    network: ResNet = resnet(18, "lip", width=8, stem="small", num_classes=5).eval()
    with torch.no_grad(), trace(network) as seen, stopwatch(network.pooling_modules()) as watch:
        network(random_map(1, 1, 3, 64, 64).float())
    # The trunks are in it too, which are no places.
    assert watch.milliseconds > max(one.milliseconds for one in seen.values())
    assert isinstance(seen["stem"], Seen)
