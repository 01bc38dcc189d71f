"""Augmentation: boxes and flips as RandomResizedCrop draws them, from (seed, epoch, index) alone; pixels as resized."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop

from models.augment import Augmentation, crop_batch, crop_photo

# What is drawn.

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


def _scramble(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _split_mix(state):
    while True:
        state = (state + _STEP) & _MASK
        yield _scramble(state)


def _one_crop(seed, epoch, index, height, width, least_area):
    """One image's crop in Python's own numbers, one after the other."""
    key = 0
    for part in (seed & _MASK, epoch, index):
        key = _scramble(((key ^ part) + _STEP) & _MASK)
    numbers = (number / 2**64 for number in _split_mix(key))
    mirrored = int(next(numbers) < 0.5)
    for _ in range(10):
        area = height * width * (least_area + (1 - least_area) * next(numbers))
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * next(numbers))
        down, across = next(numbers), next(numbers)
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return [int(down * (height - h + 1)), int(across * (width - w + 1)), h, w, mirrored]
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return [(height - h) // 2, (width - w) // 2, h, w, mirrored]


def test_the_plain_generator_is_split_mix():
    numbers = _split_mix(1234567)
    assert [next(numbers) for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(
    ("height", "width", "least_area"), [(64, 64, 0.35), (64, 64, 1.0), (20, 90, 0.3), (90, 20, 0.5), (1, 1, 0.1)]
)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (-3, 7), (2**63, 200)])
def test_crops_are_those_of_a_plain_loop(height, width, least_area, seed, epoch):
    indices = np.array([0, 1, 2, 99_999, 1_281_166, *range(40, 80)])
    crops = Augmentation(seed, epoch, least_area).draw_crops(indices, height, width)
    assert crops.dtype == torch.int64
    assert crops.tolist() == [_one_crop(seed, epoch, int(i), height, width, least_area) for i in indices]


def test_a_crop_is_the_same_alone_and_in_any_batch():
    augmentation = Augmentation(5, 3, 0.35)
    whole = augmentation.draw_crops(np.arange(100), 64, 64)
    some = np.array([70, 3, 3, 41])
    assert torch.equal(augmentation.draw_crops(some, 64, 64), whole[some])
    assert torch.equal(augmentation.draw_crops(np.array([99]), 64, 64), whole[[99]])
    assert augmentation.draw_crops(np.arange(0), 64, 64).shape == (0, 5)


def test_seed_epoch_and_index_each_decide():
    indices = np.arange(500)
    drawn = [
        Augmentation(seed, epoch, 0.1).draw_crops(indices, 500, 500) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    boxes = torch.cat(drawn)[:, :4]
    assert len(boxes.unique(dim=0)) == len(boxes)
    flips = torch.stack([crops[:, 4] for crops in drawn]).double()  # (4, 500)
    # Neither between epochs or seeds nor from an image to the next is there a correlation: 4.5 standard errors.
    between = torch.corrcoef(flips) - torch.eye(4)
    assert between.abs().max() < 4.5 / math.sqrt(500)
    following = torch.corrcoef(torch.stack((flips[:, :-1].flatten(), flips[:, 1:].flatten())))[0, 1]
    assert abs(following) < 4.5 / math.sqrt(4 * 499)


@pytest.mark.parametrize(
    ("height", "width", "least_area"), [(64, 64, 0.35), (64, 64, 0.08), (48, 80, 0.35), (30, 64, 0.5), (375, 500, 0.2)]
)
def test_crops_are_spread_as_torchvisions(height, width, least_area):
    count = 4000
    ours = Augmentation(0, 0, least_area).draw_crops(np.arange(count), height, width)
    torch.manual_seed(0)
    image, ratio = torch.empty(3, height, width), [3 / 4, 4 / 3]
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [least_area, 1.0], ratio) for _ in range(count)])

    def facts(crops):
        top, left, h, w = crops[:, :4].double().unbind(dim=1)
        place = ((top + 0.5) / (height - h + 1), (left + 0.5) / (width - w + 1))
        return torch.stack((h * w / (height * width), (w / h).log(), *place))

    found, expected = facts(ours), facts(theirs)
    products = [torch.stack([a * b for a in fact for b in fact]) for fact in (found, expected)]
    for a, b in zip((*found, *products[0]), (*expected, *products[1]), strict=True):
        error = math.sqrt((a.var() + b.var()) / count)
        assert abs(a.mean() - b.mean()) <= 4.5 * error + 1e-12
    assert abs(ours[:, 4].double().mean() - 0.5) < 4.5 * 0.5 / math.sqrt(count)


# What becomes of the pixels.


def _images(count, height, width, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).to(dtype)


_CASES = [
    (64, 64, 64, 0.35), (64, 64, 48, 0.35), (64, 64, 16, 0.08), (16, 16, 64, 0.08), (31, 57, 33, 0.2), (57, 31, 7, 0.2),
    (64, 64, 64, 1.0), (5, 5, 224, 0.1), (1, 9, 4, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("height", "width", "size", "least_area"), _CASES)
def test_pixels_are_those_of_torchvisions_resized_crop(height, width, size, least_area):
    images = _images(24, height, width)
    crops = Augmentation(1, 0, least_area).draw_crops(np.arange(24), height, width)
    assert set(crops[:, 4].tolist()) == {0, 1}
    # Crops of one pixel and of the whole image, which are seldom drawn.
    crops[0] = torch.tensor([height - 1, 0, 1, 1, 0])
    crops[1] = torch.tensor([0, 0, height, width, 0])
    found = crop_batch(images, crops, size)
    assert found.shape == (24, 3, size, size)
    assert found.dtype == torch.float32
    for image, crop, ours in zip(images, crops, found, strict=True):
        *box, mirrored = crop.tolist()
        expected = resized_crop(image.double(), *box, [size, size], antialias=True)
        expected = expected.flip(2) if mirrored else expected
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-3)
        rounded = crop_photo(image, crop, size)
        assert rounded.dtype == torch.uint8
        assert (rounded - expected).abs().max() <= 1.01  # torchvision weighs uint8 with integers


def test_a_mirrored_crop_is_the_mirror_image_to_the_bit():
    images = _images(16, 40, 50)
    crops = Augmentation(0, 0, 0.2).draw_crops(np.arange(16), 40, 50)
    plain, mirrored = crops.clone(), crops.clone()
    plain[:, 4], mirrored[:, 4] = 0, 1
    assert torch.equal(crop_batch(images, mirrored, 32), crop_batch(images, plain, 32).flip(3))
    for image, a, b in zip(images, plain, mirrored, strict=True):
        assert torch.equal(crop_photo(image, b, 32), crop_photo(image, a, 32).flip(2))


def test_nothing_outside_a_crop_is_seen():
    images = torch.full((1, 3, 20, 20), 1e9)
    images[:, :, 4:10, 7:18] = 50
    seen = crop_batch(images, torch.tensor([[4, 7, 6, 11, 0]]), 16)
    torch.testing.assert_close(seen, torch.full_like(seen, 50))


def test_layout_and_company_of_an_image_do_not_matter():
    images = _images(9, 24, 24)
    crops = Augmentation(0, 0, 0.35).draw_crops(np.arange(9), 24, 24)
    together = crop_batch(images, crops, 20)
    assert torch.equal(crop_batch(images.contiguous(memory_format=torch.channels_last), crops, 20), together)
    for index in range(9):
        alone = crop_batch(images[[index]], crops[[index]], 20)[0]
        torch.testing.assert_close(alone, together[index], rtol=0, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_what_the_processor_sees():
    images = _images(64, 64, 64)
    crops = Augmentation(0, 0, 0.35).draw_crops(np.arange(64), 64, 64)
    for size in (48, 64, 96):
        found = crop_batch(images.cuda(), crops.cuda(), size).cpu()
        torch.testing.assert_close(found, crop_batch(images, crops, size), rtol=0, atol=1e-3)
