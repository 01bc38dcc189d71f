import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from poolcore import StridedPool1d, StridedPool2d, StridedPool3d, strided_pool1d, strided_pool2d, strided_pool3d
from tests.poolcore.cases import LAYOUTS, keeps_format, random_map, same_bits

RANKS = {
    1: (strided_pool1d, StridedPool1d, F.conv1d),
    2: (strided_pool2d, StridedPool2d, F.conv2d),
    3: (strided_pool3d, StridedPool3d, F.conv3d),
}


def sample(rank: int) -> Tensor:
    return random_map(1, 2, 3, *(7, 8, 5)[:rank])


@pytest.mark.parametrize("rank", RANKS)
def test_it_keeps_what_a_strided_convolution_of_one_pixel_keeps(rank: int) -> None:
    function, layer, convolve = RANKS[rank]
    x, kernel = sample(rank), torch.eye(3, dtype=torch.float64).view(3, 3, *(1,) * rank)
    for stride in (1, 2, 3, (2, 3, 1)[:rank]):
        want = convolve(x, kernel, stride=stride)
        assert torch.equal(function(x, stride), want)
        assert torch.equal(layer(stride)(x[0]), want[0])
    assert repr(layer(2)) == f"{layer.__name__}(stride={(2,) * rank})"


@pytest.mark.parametrize("rank", RANKS)
def test_writing_into_the_result_leaves_the_input(rank: int) -> None:
    function, x = RANKS[rank][0], sample(rank)
    before = x.clone()
    F.relu_(function(x, 2))
    function(x, 1).zero_()
    assert same_bits(x, before)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("rank", [2, 3])
def test_memory_format_is_kept(rank: int, layout: str) -> None:
    assert keeps_format(RANKS[rank][0](LAYOUTS[layout](sample(rank)), 2), layout)


def test_gradients_go_to_the_kept_pixels() -> None:
    x = random_map(1, 1, 1, 5, 4).requires_grad_()
    grad = torch.autograd.grad(strided_pool2d(x, 2).sum(), x)[0]
    assert torch.equal(grad[0, 0, ::2, ::2], torch.ones(3, 2, dtype=torch.float64))
    assert grad.sum() == 6


@pytest.mark.parametrize(("rank", "shape"), [(1, (2, 3, 7, 8)), (2, (7, 8)), (3, (3, 7, 8))])
def test_an_input_of_another_rank_is_refused(rank: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {shape}")):
        RANKS[rank][0](random_map(1, *shape), 2)
