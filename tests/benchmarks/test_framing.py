"""Framings bring photos of any shape to a square: what they keep, and what they put around it."""

import pytest
import torch
from torch import Tensor

from benchmarks.framing import FRAMINGS, TODAY, Look, pad_edge, pad_mean, pad_reflection, squeeze, summarise
from models.data import square

S = 12


def numbered(height: int, width: int) -> Tensor:
    """An image whose pixels are all different."""
    return torch.arange(3 * height * width, dtype=torch.int64).reshape(3, height, width).to(torch.uint8)


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=list(FRAMINGS))
@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 55), (55, 30), (20, 50), (31, 47)])
def test_a_framing_gives_a_square_of_bytes(framing, height, width):
    framed = framing(torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(0)).byte(), S)
    assert framed.shape == (3, S, S)
    assert framed.dtype == torch.uint8
    plain = framing(torch.full((3, 40, 40), 77, dtype=torch.uint8), S)
    assert torch.equal(plain, torch.full((3, S, S), 77, dtype=torch.uint8))


def test_todays_framing_is_the_networks_own():
    assert FRAMINGS[TODAY] is square


@pytest.mark.parametrize("framing", [pad_mean, pad_edge, pad_reflection])
def test_a_padded_photo_keeps_every_pixel(framing):
    wide, tall = numbered(7, S), numbered(S, 7)
    # Five rows are lacking: two go above, three below.
    assert torch.equal(framing(wide, S)[:, 2:9], wide)
    assert torch.equal(framing(tall, S)[:, :, 2:9], tall)
    assert torch.equal(framing(numbered(S, S), S), numbered(S, S))


def test_what_lies_around_a_padded_photo():
    wide = numbered(7, S)
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8)   # 255 times 0.485, 0.456, 0.406
    outside = [0, 1, 9, 10, 11]
    assert torch.equal(pad_mean(wide, S)[:, outside], mean[:, None, None].expand(3, 5, S))
    assert torch.equal(pad_edge(wide, S)[:, outside], wide[:, [0, 0, 6, 6, 6]])
    assert torch.equal(pad_reflection(wide, S)[:, outside], wide[:, [2, 1, 5, 4, 3]])


def test_a_photo_too_long_to_be_mirrored_is_refused():
    with pytest.raises(ValueError, match=r"at most 2.5 times as long as wide, got shape \(3, 12, 4\)"):
        pad_reflection(numbered(S, 4), S)


def test_a_squeezed_photo_keeps_the_corners_that_the_middle_squares_leave_out():
    wide = torch.zeros(3, S, 4 * S, dtype=torch.uint8)
    corners = torch.tensor([[50, 100], [150, 200]], dtype=torch.uint8)
    wide[:, :S // 2, :S], wide[:, :S // 2, -S:] = corners[0, 0], corners[0, 1]
    wide[:, S // 2:, :S], wide[:, S // 2:, -S:] = corners[1, 0], corners[1, 1]
    assert torch.equal(squeeze(wide, S)[0, ::S - 1, ::S - 1], corners)
    for name in (TODAY, "middle square"):
        assert not FRAMINGS[name](wide, S).any()


def test_the_middle_square_sees_a_rim_that_todays_leaves_out():
    rim = torch.zeros(3, 90, 150, dtype=torch.uint8)
    rim[:, :4], rim[:, -4:] = 255, 255   # 8/9 of the height begins 5 pixels from its end
    assert FRAMINGS["middle square"](rim, 90)[:, 0].min() == 255
    assert not FRAMINGS[TODAY](rim, 80).any()


def test_a_row_counts_first_places_and_gains_by_photo():
    today = [[Look(0, -1.0), Look(3, -3.0)], [Look(0, -1.0), Look(7, -4.0)]]
    new = [[Look(0, -0.5), Look(0, -2.0)], [Look(0, -0.5), Look(5, -3.0)]]
    assert summarise("new", new, today) == {
        "framing": "new", "top1": 75.0, "top5": 75.0, "log_probability": -1.5,
        "gain": 0.75, "gain_standard_error": 0.25, "photos": 2,
    }
