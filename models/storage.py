"""How weights lie in a file: convolutions and linear layers as int8 with a scale an output channel, the rest in fp32.

A weight is ``scale * integer``, the scale a channel's largest size over 127 (Krishnamoorthi 2018, arXiv 1806.08342,
symmetric and per channel). That is a quarter of fp32 and loses next to nothing; networks compute with the rounded
weights in fp32 as ever, so nothing else of them changes. LiftPool's few filters stay as they are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["STORAGE", "pack", "unpack"]

STORAGE = "int8 convolutions and linear layers with a scale an output channel, the rest fp32"
_LARGEST = 127
_SCALE = "_scale"  # a key with this ending belongs to the one without


def pack(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state dict as a weights file holds it: to a weight (C_out, ...) in int8 a scale (C_out,)."""
    rounded = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    packed = {}
    for key, value in network.state_dict().items():
        if key not in rounded:
            packed[key] = value.contiguous()
            continue
        scale = value.flatten(1).abs().amax(1) / _LARGEST
        steps = value / torch.where(scale > 0, scale, 1).view(-1, *[1] * (value.dim() - 1))
        packed[key], packed[key + _SCALE] = steps.round().to(torch.int8).contiguous(), scale
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict, in fp32, that a weights file holds."""
    state = {key: value for key, value in packed.items() if not key.endswith(_SCALE)}
    for key, scale in packed.items():
        if key.endswith(_SCALE):
            own = key.removesuffix(_SCALE)
            state[own] = state[own] * scale.view(-1, *[1] * (state[own].dim() - 1))
    return state
