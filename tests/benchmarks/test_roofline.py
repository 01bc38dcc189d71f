"""The bytes and operations of the roofline against counts by plain loops over every window."""

import pytest

from benchmarks.roofline import OPERATIONS, Direction, lift_work, weighted_work
from poolcore.window import make_window
from tests.poolcore.truth import Geometry

WINDOWS = {"k2s2": (2, 2, 0), "k3s2p1": (3, 2, 1), "k3s1p1": (3, 1, 1), "k2s3": (2, 3, 0), "k7s2p3": (7, 2, 3)}
SIZES = {"8x8": (8, 8), "13x17": (13, 17), "7": (7,), "14": (14,), "4x5x6": (4, 5, 6)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("tensors", [1, 2])
def test_a_window_moves_what_it_reads_and_writes(size, window, ceil_mode, tensors):
    rank, maps, itemsize = len(size), 2 * 3, 2
    windows = list(Geometry(*((value,) * rank for value in window), ceil_mode).reads(size))
    read = len({pixel for _, pixels in windows for pixel in pixels})
    pixels = 1
    for n in size:
        pixels *= n

    def work(direction: Direction):
        checked = make_window(*window, ceil_mode=ceil_mode, rank=rank)
        return weighted_work(direction, (2, 3, *size), itemsize, window=checked, has_logit=tensors == 2)

    assert work("forward").moved_bytes == itemsize * maps * (tensors * read + len(windows))
    assert work("backward").moved_bytes == itemsize * maps * (tensors * read + len(windows) + tensors * pixels)

    additions = sum(5 * len(cells) - 1 for _, cells in windows)
    specials = sum(len(cells) + 1 for _, cells in windows)
    assert (work("forward").fp32, work("forward").special) == (maps * additions, maps * specials)
    each = sum(1 + 4 * len(cells) for _, cells in windows)
    assert (work("backward").fp32, work("backward").special) == (maps * (additions + each), maps * specials)


def test_gathering_sums_a_window_for_each_cell_of_pixels_that_reads_it():
    window, shape = make_window(3, 2, 1), (1, 1, 8, 8)
    once = weighted_work("backward", shape, 4, window=window, has_logit=False)
    gathered = weighted_work("backward", shape, 4, window=window, has_logit=False, gathers=True)
    # Cells begin where windows do: at -1, 1, 3, 5, 7. Each is reached by two windows an axis, 9 exponentials each.
    assert gathered.special == (5 * 2) ** 2 * (9 + 1)
    assert gathered.moved_bytes == once.moved_bytes
    without_overlap = {
        gathers: weighted_work("backward", shape, 4, window=make_window(2), has_logit=False, gathers=gathers)
        for gathers in (False, True)
    }
    assert without_overlap[True].special == without_overlap[False].special


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (9,)], ids=["6x8", "5x7", "9"])
def test_lifting_moves_the_image_and_its_bands(size):
    maps, itemsize = 2 * 3, 4
    halves = [(n + 1) // 2 for n in size]
    band, pixels = maps, maps
    for n, half in zip(size, halves, strict=True):
        band, pixels = band * half, pixels * n
    bands = 2 ** len(size)

    def moved(direction: Direction, **options) -> float:
        return lift_work(direction, (2, 3, *size), itemsize, taps=5, **options).moved_bytes / itemsize

    assert moved("forward") == moved("forward", upwards=True) == pixels + bands * band
    assert moved("forward", combine="mean") == pixels + band
    assert moved("backward") == 2 * pixels + bands * band
    assert moved("backward", combine="mean") == 2 * pixels + band
    assert moved("backward", upwards=True) == pixels + 2 * bands * band


def test_lifting_counts_a_pair_for_two_pixels_of_each_step():
    # A 4 x 4 image: 4 rows of 2 pairs, then 2 halves of 2 columns of 2 pairs; 4 special functions a pair.
    assert lift_work("forward", (1, 1, 4, 4), 4, taps=3).special == 4 * (4 * 2 + 2 * 2 * 2)
    assert lift_work("forward", (1, 1, 4, 4), 4, taps=3, combine="ll").special == 4 * (4 * 2 + 2 * 2)
    assert lift_work("forward", (1, 1, 6), 4, taps=3).special == 4 * 3


def test_a_floor_is_bytes_over_speed():
    work = OPERATIONS["soft_pool2d 2/2/0"]("forward", (1, 1, 1000, 1000), 4)
    assert work.moved_bytes == 5_000_000
    assert work.floor_ms(1000) == pytest.approx(0.005)


def test_arithmetic_is_the_floor_where_memory_brings_more_bytes_than_lanes_can_use():
    work = OPERATIONS["soft_pool2d 2/2/0"]("forward", (1, 1, 64, 64), 2)
    # Four pixels in, one out, 2 bytes each; 5 special functions on 16 lanes, 19 others on 128.
    assert work.break_even == pytest.approx(10 / max(5 / 16, 19 / 128))
