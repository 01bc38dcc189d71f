import torch
import torch.nn.functional as F

from poolcore import StridedPool2d, strided_pool2d
from tests.poolcore.cases import random_map, same_bits


def test_it_keeps_what_a_strided_convolution_of_one_pixel_keeps() -> None:
    x = random_map(1, 2, 3, 7, 8)
    for stride in (1, 2, 3, (2, 3)):
        want = F.conv2d(x, torch.eye(3, dtype=torch.float64)[..., None, None], stride=stride)
        assert torch.equal(strided_pool2d(x, stride), want)
        assert torch.equal(StridedPool2d(stride)(x[0]), want[0])
    assert repr(StridedPool2d(2)) == "StridedPool2d(stride=(2, 2))"


def test_writing_into_the_result_leaves_the_input() -> None:
    x = random_map(1, 2, 3, 7, 8)
    before = x.clone()
    F.relu_(strided_pool2d(x, 2))
    strided_pool2d(x, 1).zero_()
    assert same_bits(x, before)


def test_memory_format_is_kept() -> None:
    x = random_map(1, 2, 3, 7, 8).contiguous(memory_format=torch.channels_last)
    assert strided_pool2d(x, 2).is_contiguous(memory_format=torch.channels_last)
    assert strided_pool2d(x.contiguous(), 2).is_contiguous()


def test_gradients_go_to_the_kept_pixels() -> None:
    x = random_map(1, 1, 1, 5, 4).requires_grad_()
    grad = torch.autograd.grad(strided_pool2d(x, 2).sum(), x)[0]
    assert torch.equal(grad[0, 0, ::2, ::2], torch.ones(3, 2, dtype=torch.float64))
    assert grad.sum() == 6
