import pytest
import torch
from torch import Tensor

import poolcore.blocks
from poolcore.blocks import in_blocks
from tests.poolcore.cases import random_map, same_bits


@pytest.fixture(autouse=True)
def two_images_to_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poolcore.blocks, "_BLOCK_ELEMENTS", 2 * 20)


def lengths(*images: Tensor) -> list[int]:
    return [len(block[0]) for block in in_blocks(*images)]


def test_every_image_is_in_one_block_beside_its_own_companions() -> None:
    x, y = random_map(1, 7, 4, 5), random_map(2, 7, 2, 3)
    blocks = list(in_blocks(x, y))
    assert [len(block[0]) for block in blocks] == [2, 2, 2, 1]
    for whole, parts in zip((x, y), zip(*blocks, strict=True), strict=True):
        assert same_bits(torch.cat(parts), whole)


def test_the_largest_tensor_decides() -> None:
    small, large = random_map(1, 6, 2, 3), random_map(2, 6, 4, 5)
    assert lengths(small, large) == lengths(large, small) == [2, 2, 2]
    assert lengths(small) == [6]


def test_few_images_are_one_block() -> None:
    x = random_map(1, 2, 4, 5)
    assert lengths(x) == [2]
    assert lengths(x[:0]) == [0]


def test_an_image_larger_than_a_block_is_a_block() -> None:
    assert lengths(random_map(1, 3, 9, 9)) == [1, 1, 1]


def test_what_is_written_into_a_block_is_written_into_the_tensor() -> None:
    x, y = random_map(1, 5, 4, 5), torch.zeros(5, 4, 5, dtype=torch.float64)
    for block, place in in_blocks(x, y):
        place.copy_(block)
    assert same_bits(x, y)
