"""Weights in int8."""

import torch
from torch import nn

from models.storage import pack, unpack


def test_each_output_channel_keeps_its_own_precision():
    network = nn.Sequential(nn.Conv2d(3, 2, 3))
    weight = network[0].weight.detach()
    weight[0].mul_(1e-4)  # beside a channel ten thousand times as large
    restored = unpack(pack(network))
    for channel, again in zip(weight, restored["0.weight"], strict=True):
        assert 0 < (again - channel).abs().max() <= 0.5001 * channel.abs().max() / 127
    assert torch.equal(restored["0.bias"], network[0].bias)


def test_the_largest_of_a_channel_and_zero_are_kept():
    layer = nn.Sequential(nn.Linear(4, 2, bias=False))
    layer[0].weight.data = torch.tensor([[0.5, -1.0, 0.0, 0.25], [3.0, 0.0, 0.0, -3.0]])
    packed = pack(layer)
    assert packed["0.weight"].tolist() == [[64, -127, 0, 32], [127, 0, 0, -127]]
    torch.testing.assert_close(packed["0.weight_scale"], torch.tensor([1.0, 3.0]) / 127)
    restored = unpack(packed)["0.weight"]
    torch.testing.assert_close(restored, torch.tensor([[64 / 127, -1, 0, 32 / 127], [3, 0, 0, -3]]))


def test_a_channel_of_zeros_stays_so():
    network = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False))
    nn.init.zeros_(network[0].weight)
    assert torch.equal(unpack(pack(network))["0.weight"], torch.zeros(3, 2, 1, 1))


def test_what_is_no_weight_of_a_layer_is_left_as_it_is():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    restored = unpack(pack(network))
    assert restored.keys() == network.state_dict().keys()
    for key, value in network[1].state_dict().items():
        assert torch.equal(restored[f"1.{key}"], value)
