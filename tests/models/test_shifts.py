"""Shift consistency of classifiers whose answers to a shift are known."""

import pytest
import torch

from models.data import square
from models.shifts import crop, draw_positions, measure_consistency, roll, with_rim

SIZE, SIDE = 64, 72


def _photos(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def _one_pixel(images: torch.Tensor) -> torch.Tensor:
    return (images[:, 0, 20, 30] > 127).long()


def test_a_constant_answer_is_always_the_same():
    seen = measure_consistency(lambda images: torch.zeros(len(images)), _photos(20, SIZE), _photos(20, SIDE))
    assert seen == {"crops": 100, "circular": 100}


def test_an_answer_by_the_global_mean_survives_what_rolls_but_not_what_is_cropped():
    squares, rimmed = _photos(40, SIZE), _photos(40, SIDE)
    middle = squares.long().sum(dim=(1, 2, 3)).median()

    def brighter(images: torch.Tensor) -> torch.Tensor:
        return images.long().sum(dim=(1, 2, 3)) > middle  # integers: no order of additions plays a part

    seen = measure_consistency(brighter, squares, rimmed)
    assert seen["circular"] == 100
    assert seen["crops"] < 100


def test_an_answer_by_one_pixel_is_counted_as_by_hand():
    squares, rimmed = _photos(200, SIZE), _photos(200, SIDE)
    seen = measure_consistency(_one_pixel, squares, rimmed, seed=5)
    same = same_rolled = 0
    for index, ((y, x), (v, u)) in enumerate(draw_positions(200, 8, 5).tolist()):
        same += (rimmed[index, 0, 20 + y, 30 + x] > 127) == (rimmed[index, 0, 20 + v, 30 + u] > 127)
        same_rolled += (squares[index, 0, 20 + y, 30 + x] > 127) == (squares[index, 0, 20 + v, 30 + u] > 127)
    assert seen == {"crops": float(same) / 2, "circular": float(same_rolled) / 2}
    assert 35 < seen["crops"] < 65  # noise: a coin


def test_what_is_rolled_comes_in_at_the_far_side():
    image = torch.arange(2 * 9).view(2, 1, 3, 3).expand(2, 3, 3, 3)
    seen = roll(image, torch.tensor([[0, 1], [2, 0]]))
    assert seen[0, 0].tolist() == [[1, 2, 0], [4, 5, 3], [7, 8, 6]]
    assert seen[1, 2].tolist() == [[15, 16, 17], [9, 10, 11], [12, 13, 14]]


@pytest.mark.parametrize("shape", [(64, 64), (100, 64), (64, 90)])
@pytest.mark.parametrize(("size", "middle"), [(64, 4), (32, 2), (128, 8)])
def test_the_middle_crop_is_what_the_network_otherwise_sees(shape, size, middle):
    image = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    rimmed = with_rim(image, size)
    assert rimmed.shape == (3, size + 2 * middle, size + 2 * middle)
    assert torch.equal(crop(rimmed[None], torch.tensor([[middle, middle]]), size)[0], square(image, size))


def test_positions_reach_from_end_to_end_alike_and_follow_the_seed():
    drawn = draw_positions(2000, 8, 3)
    assert drawn.shape == (2000, 2, 2)
    counts = drawn.flatten().bincount()
    assert len(counts) == 9
    # 8000 draws: each of nine values 889 times, give or take five of its deviations of 28.
    assert (counts - 8000 / 9).abs().max() < 140
    assert torch.equal(drawn, draw_positions(2000, 8, 3))
    assert not torch.equal(drawn, draw_positions(2000, 8, 4))
