"""One ResNet skeleton (He et al. 2016, arXiv 1512.03385); the variant decides how its maps shrink.

`stock` is torchvision's ResNet, key for key. In every other variant a strided convolution of a block becomes the same
convolution with stride 1, and the variant's pooling follows: on the main path conv, BN, ReLU, pool, next conv; on the
shortcut pool, 1x1 conv, BN. The 7x7 stem convolution keeps its stride; the stem's max pooling becomes the variant's. So
the networks differ in their pooling alone. (LIP-ResNet-18 with basic blocks is our own design: the authors published
none.)
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolcore import LiftDownPool2d, LIP2d, LogitHead, LogitTrunk, SoftPool2d

__all__ = ["VARIANTS", "ResNet", "Stem", "Variant", "count_macs", "count_parameters", "resnet"]

Variant = Literal["stock", "max", "avg", "soft", "lip", "lift"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
Stem = Literal["imagenet", "small"]

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_EXPANSION = {18: 1, 34: 1, 50: 4}


def _conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)


def _pooling(variant: Variant, channels: int, logit: Literal["simplified"] | nn.Module = "simplified") -> nn.Module:
    """Return the variant's pooling to half the size, with the window of its paper."""
    match variant:
        case "stock" | "max":
            return nn.MaxPool2d(3, 2, 1)
        case "avg":
            return nn.AvgPool2d(2)
        case "soft":
            return SoftPool2d(2)
        case "lip":
            return LIP2d(channels, 3, 2, 1, logit=logit)
        case "lift":
            return LiftDownPool2d(channels, combine="mean")


class _Block(nn.Module):
    """A residual block; with ``pool`` it halves its map, in the variant's way.

    ``conv1``, ``conv2`` (and ``conv3`` of a bottleneck) with their norms, ``downsample`` on the shortcut, as
    torchvision names them; ``pool`` after the convolution that is strided in `stock`, ``shortcut_pool`` before the
    shortcut's.
    """

    def __init__(self, c_in: int, width: int, depth: int, variant: Variant, pool: bool, trunk_width: int) -> None:
        super().__init__()
        c_out = width * _EXPANSION[depth]
        stride = 2 if pool and variant == "stock" else 1
        self.bottleneck = _EXPANSION[depth] > 1
        if self.bottleneck:
            self.conv1, self.bn1 = _conv(c_in, width, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = _conv(width, c_out, 1), nn.BatchNorm2d(c_out)
        else:
            self.conv1, self.bn1 = _conv(c_in, width, 3, stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _conv(width, c_out, 3), nn.BatchNorm2d(c_out)
        self.downsample: nn.Sequential | None = None
        if pool or c_in != c_out:
            self.downsample = nn.Sequential(_conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
        self.trunk: LogitTrunk | None = None
        self.pool: nn.Module | None = None
        self.shortcut_pool: nn.Module | None = None
        if pool and variant == "lip":
            self.trunk = LogitTrunk(c_in, trunk_width)
            self.pool = _pooling(variant, width, LogitHead(trunk_width, width))
            self.shortcut_pool = _pooling(variant, c_in, LogitHead(trunk_width, c_in))
        elif pool and variant != "stock":
            self.pool, self.shortcut_pool = _pooling(variant, width), _pooling(variant, c_in)

    def _shrink(self, pool: nn.Module | None, x: Tensor, features: Tensor | None) -> Tensor:
        if pool is None:
            return x
        pooled: Tensor = pool(x) if features is None else pool(x, features)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        features = None if self.trunk is None else self.trunk(x)
        y = F.relu(self.bn1(self.conv1(x)))
        if self.bottleneck:
            y = self._shrink(self.pool, F.relu(self.bn2(self.conv2(y))), features)
            y = self.bn3(self.conv3(y))
        else:
            y = self.bn2(self.conv2(self._shrink(self.pool, y, features)))
        if self.downsample is not None:
            x = self.downsample(self._shrink(self.shortcut_pool, x, features))
        return F.relu(y + x)


class ResNet(nn.Module):
    """See `resnet`."""

    def __init__(self, depth: int, variant: Variant, width: int, stem: Stem, num_classes: int) -> None:
        super().__init__()
        self.variant = variant
        self.conv1 = _conv(3, width, 7, 2) if stem == "imagenet" else _conv(3, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = _pooling(variant, width)
        c_in, layers = width, []
        for stage, count in enumerate(_BLOCKS[depth]):
            blocks = []
            for index in range(count):
                pool = stage > 0 and index == 0
                blocks.append(_Block(c_in, width << stage, depth, variant, pool, trunk_width=width))
                c_in = (width << stage) * _EXPANSION[depth]
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc = nn.Linear(c_in, num_classes)
        for module in self.modules():
            # LIP's last logit convolutions stay at zero: they start as average pooling.
            if isinstance(module, nn.Conv2d) and bool(module.weight.any()):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, num_classes), of normalised images (N, 3, H, W)."""
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits

    def pooling_places(self) -> dict[str, nn.Module]:
        """Return the layer that shrinks at each place: ``stem``, ``stage2``, ``stage2.shortcut`` ...

        For `stock` these are, after the stem's max pooling, the strided convolutions.
        """
        places: dict[str, nn.Module] = {"stem": self.pool}
        for stage in (2, 3, 4):
            block: _Block = getattr(self, f"layer{stage}")[0]
            if self.variant == "stock":
                assert block.downsample is not None
                main: nn.Module | None = block.conv2 if block.bottleneck else block.conv1
                shortcut: nn.Module | None = block.downsample[0]
            else:
                main, shortcut = block.pool, block.shortcut_pool
            assert main is not None
            assert shortcut is not None
            places[f"stage{stage}"] = main
            places[f"stage{stage}.shortcut"] = shortcut
        return places

    def pooling_modules(self) -> list[nn.Module]:
        """Return everything whose time counts as pooling: the pooling layers with LIP's shared trunks.

        For `stock` that is the stem's max pooling alone: its other places are convolutions.
        """
        if self.variant == "stock":
            return [self.pool]
        trunks = [getattr(self, f"layer{stage}")[0].trunk for stage in (2, 3, 4)]
        return list(self.pooling_places().values()) + [trunk for trunk in trunks if trunk is not None]


def resnet(
    depth: int = 18, variant: Variant = "stock", *, width: int = 64, stem: Stem = "imagenet", num_classes: int = 1000
) -> ResNet:
    """Build a ResNet whose maps shrink as ``variant`` says.

    Args:
        depth: 18, 34 or 50.
        variant: "stock", "max", "avg", "soft", "lip" or "lift".
        width: channels of the stem; the stages have 1, 2, 4 and 8 times as many (4 times that again for depth 50).
        stem: "imagenet" (7x7 conv of stride 2, then pooling) or "small" (3x3 conv of stride 1, then pooling).
        num_classes: length of the answer.

    Shape:
        (N, 3, H, W) -> (N, num_classes).

    Raises:
        ValueError: for a depth, variant or stem that does not exist, naming those that do.
    """
    if depth not in _BLOCKS:
        raise ValueError(f"depth must be one of {sorted(_BLOCKS)}, got {depth!r}")
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
    if stem not in get_args(Stem):
        raise ValueError(f"stem must be one of {list(get_args(Stem))}, got {stem!r}")
    return ResNet(depth, variant, width, stem, num_classes)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, size: int) -> int:
    """Return the multiply-accumulates of all convolutions and linear layers for one ``size`` x ``size`` RGB image.

    LiftPool's filters are counted as the depthwise convolutions that they are; poolings without weights count nothing.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += out.numel() * module.in_features
        else:
            # P and U each work on one half of every pixel pair, along both axes: in sum, every tap meets every pixel of
            # the input, brought to even sizes, once.
            h, w = inputs[0].shape[-2:]
            taps = sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 2)
            total += taps * (h + h % 2) * (w + w % 2)

    was_training = network.training
    counted = (nn.Conv2d, nn.Linear, LiftDownPool2d)
    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, counted)]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
