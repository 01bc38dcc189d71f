import pytest
import torch
from torch import Tensor

import poolcore.blocks
from poolcore.blocks import by_blocks
from tests.poolcore.cases import random_map, same_bits


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of `product` saw, with two images of 4 x 5 to a block."""
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", 2 * 20)
    return []


def product(calls: list[int]):
    def call(x: Tensor, y: Tensor, factor: Tensor) -> Tensor:
        calls.append(len(x))
        return factor * x * y

    return call


def test_every_image_is_in_one_block(calls: list[int]) -> None:
    x, y, factor = random_map(1, 7, 4, 5), random_map(2, 7, 4, 5), torch.tensor(3.0)
    assert same_bits(by_blocks(product(calls), (x, y), (factor,)), factor * x * y)
    assert calls == [2, 2, 2, 1]


def test_few_images_are_one_call(calls: list[int]) -> None:
    x = random_map(1, 2, 4, 5)
    by_blocks(product(calls), (x, x), (x[0],))
    by_blocks(product(calls), (x[:0], x[:0]), (x[0],))
    assert calls == [2, 0]


def test_an_image_larger_than_a_block_is_a_block(calls: list[int]) -> None:
    x = random_map(1, 3, 9, 9)
    by_blocks(product(calls), (x, x), (x[0],))
    assert calls == [1, 1, 1]


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_gradients_are_those_without_blocks(needed: tuple[int, ...], calls: list[int]) -> None:
    tensors = [random_map(1, 7, 4, 5), random_map(2, 7, 4, 5), random_map(3, 4, 1)]
    wanted = [tensors[index].requires_grad_() for index in needed]
    upstream = random_map(4, 7, 4, 5)
    got = torch.autograd.grad(by_blocks(product(calls), tensors[:2], tensors[2:]), wanted, upstream)
    want = torch.autograd.grad(tensors[2] * tensors[0] * tensors[1], wanted, upstream)
    assert calls == [2, 2, 2, 1] * 2
    for a, b in zip(got, want, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=0)


def test_gradcheck(calls: list[int]) -> None:
    tensors = [random_map(seed, *shape).requires_grad_() for seed, shape in ((1, (5, 4, 5)), (2, (5, 4, 5)), (3, (5,)))]
    assert torch.autograd.gradcheck(lambda *t: by_blocks(product(calls), t[:2], t[2:]), tensors)


def test_second_derivatives_through_several_blocks_are_refused(calls: list[int]) -> None:
    x = random_map(1, 7, 4, 5).requires_grad_()
    y = by_blocks(product(calls), (x, x.detach()), (torch.tensor(1.0),))
    grad = torch.autograd.grad(y.square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_block_is_computed_again_as_it_was_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", 1)
    x, weight = random_map(1, 2, 3, 3, dtype=torch.float32), torch.eye(3)
    seen = []

    def multiply(x: Tensor, weight: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return x @ weight

    with torch.autocast("cpu"):
        y = by_blocks(multiply, (x.requires_grad_(),), (weight,))
    assert y.dtype == torch.float32
    assert torch.equal(y, x)
    y.sum().backward()
    assert seen == [False] * 4
