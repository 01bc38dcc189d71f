"""Corruptions against their formulas, statistics and geometry; mCE by hand."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from models.robustness import CORRUPTIONS, DIFFERENCES, SEVERITIES, corrupt, count_errors, mean_corruption_error

DRAWN = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
)


@pytest.fixture(scope="module")
def many_photos() -> torch.Tensor:
    """Made-up photos, darker than half as photos are, with soft shapes, edges and fine detail in colour."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    made = []
    for _ in range(32):
        picture = np.full((64, 64, 3), 0.35)
        for scale in (1, 3, 6, 12):
            a, b, phase = generator.uniform(-scale, scale), generator.uniform(-scale, scale), generator.uniform(0, 6)
            picture += 0.12 * np.sin(2 * np.pi * (a * x + b * y) + phase)[..., None] * generator.uniform(0.3, 1, 3)
        inside = (x - generator.uniform(0.3, 0.7)) ** 2 + (y - generator.uniform(0.3, 0.7)) ** 2 < 0.05
        picture[inside] += generator.uniform(-0.3, 0.3, 3)
        made.append((picture.clip(0, 1) * 255).astype(np.uint8))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


@pytest.fixture
def photos(many_photos: torch.Tensor) -> torch.Tensor:
    return many_photos[:8]


def _grey(value: int, count: int = 4) -> torch.Tensor:
    return torch.full((count, 3, 64, 64), value, dtype=torch.uint8)


def _ramp(step: int = 2) -> torch.Tensor:
    """Grey that grows by ``step`` with every column."""
    return (64 + step * torch.arange(64)).to(torch.uint8).expand(4, 3, 64, 64)


def _dot(count: int = 4) -> torch.Tensor:
    dot = _grey(0, count)
    dot[:, :, 32, 32] = 255
    return dot


def test_the_fifteen_are_those_of_the_paper():
    names = "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog"
    assert " ".join(CORRUPTIONS) == f"{names} brightness contrast elastic_transform pixelate jpeg_compression"
    assert set(DIFFERENCES) <= {"all", *CORRUPTIONS}
    assert "synthetic" in DIFFERENCES["frost"]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_severity_takes_pictures_farther_away(corruption, many_photos):
    before = many_photos.clone()
    distances = []
    for severity in SEVERITIES:
        seen = corrupt(many_photos, range(32), corruption, severity)
        assert seen.shape == many_photos.shape
        assert seen.dtype == torch.uint8
        distances.append(float((seen.double() - many_photos.double()).square().mean().sqrt()))
    assert torch.equal(many_photos, before)
    assert distances[0] > 1
    # The published constants of these two do not grow in distance; what does grow is tested below.
    if corruption not in ("glass_blur", "elastic_transform"):
        assert distances == sorted(distances)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_picture_depends_on_seed_index_and_severity_alone(corruption, photos):
    indices = [5, 9, 2, 7, 11, 40, 41, 42]
    seen = corrupt(photos, indices, corruption, 3, seed=1)
    assert torch.equal(seen, corrupt(photos, indices, corruption, 3, seed=1))
    assert torch.equal(seen[2:4], corrupt(photos[2:4], [2, 7], corruption, 3, seed=1))
    same = photos[:1].expand(4, 3, 64, 64)
    drawn = corrupt(same, [0, 1, 1, 2], corruption, 3, seed=1)
    assert torch.equal(drawn[1], drawn[2])
    assert torch.equal(drawn[0], drawn[1]) == (corruption not in DRAWN)
    assert torch.equal(drawn[0], corrupt(same[:1], [0], corruption, 3, seed=2)[0]) == (corruption not in DRAWN)


def test_noises_of_one_photo_differ_between_severities():
    first, second = (corrupt(_grey(128, 1), [0], "gaussian_noise", severity).double() - 128 for severity in (1, 2))
    correlation = torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1]
    assert correlation.abs() < 5 / math.sqrt(first.numel())


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (2, 0.08), (3, 0.12)])
def test_gaussian_noise_has_its_deviation(severity, deviation):
    noise = corrupt(_grey(128), range(4), "gaussian_noise", severity).double() - 128
    count = noise.numel()
    expected = math.sqrt((255 * deviation) ** 2 + 1 / 12)  # and the rounding to bytes
    assert abs(noise.mean()) < 5 * expected / math.sqrt(count)
    assert noise.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
    channels = noise.permute(1, 0, 2, 3).flatten(1)
    assert torch.corrcoef(channels).fill_diagonal_(0).abs().max() < 5 / math.sqrt(count / 3)


def test_shot_noise_counts_photons():
    seen = corrupt(_grey(51), range(4), "shot_noise", 5).double()  # a fifth of white, which sends 15
    photons = seen * 15 / 255
    assert (photons - photons.round()).abs().max() < 15 / 255  # whole numbers, but for the rounding to bytes
    count = seen.numel()
    assert photons.mean().item() == pytest.approx(3, abs=5 * math.sqrt(3 / count))
    assert photons.var().item() == pytest.approx(3, rel=5 * math.sqrt((2 + 1 / 3) / count))


def test_impulse_noise_turns_its_share_black_or_white():
    seen = corrupt(_grey(100), range(4), "impulse_noise", 5)
    count = seen.numel()
    for value in (0, 255):
        share = (seen == value).double().mean().item()
        assert share == pytest.approx(0.07, abs=5 * math.sqrt(0.07 * 0.93 / count))
    assert set(seen.unique().tolist()) == {0, 100, 255}


def test_brightness_raises_the_value_of_hsv(photos):
    seen = corrupt(photos[:1], [0], "brightness", 4)[0]
    for y in range(0, 64, 7):
        for x in range(64):
            hue, saturation, value = colorsys.rgb_to_hsv(*(photos[0, :, y, x].double() / 255).tolist())
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.4, 1))
            assert seen[:, y, x].tolist() == pytest.approx([255 * channel for channel in expected], abs=0.5001)


def test_black_turns_grey_by_brightness():
    assert torch.equal(corrupt(_grey(0), range(4), "brightness", 1), _grey(26))  # 25.5, halves go to the even


def test_contrast_draws_each_channel_to_its_mean(photos):
    seen = corrupt(photos[:1], [0], "contrast", 2)[0]
    for channel in range(3):
        values = [int(value) for value in photos[0, channel].flatten()]
        mean = sum(values) / len(values)
        expected = [mean + 0.3 * (value - mean) for value in values]
        assert seen[channel].flatten().tolist() == pytest.approx(expected, abs=0.5001)


def test_defocus_blur_spreads_a_dot_over_a_disc():
    small = corrupt(_dot(1), [0], "defocus_blur", 3)[0]  # radius 1.5: 3 x 3 pixels
    expected = torch.zeros(64, 64)
    expected[31:34, 31:34] = round(255 / 9)
    assert all(torch.equal(channel.float(), expected) for channel in small)
    large = corrupt(_dot(1), [0], "defocus_blur", 5)[0, 0]
    there = {(y, x) for y in range(64) for x in range(64) if (y - 32) ** 2 + (x - 32) ** 2 <= 9}
    assert {tuple(place) for place in large.nonzero().tolist()} == there
    assert set(large[large > 0].tolist()) == {round(255 / len(there))}


def test_glass_blur_at_first_only_moves_pixels_and_then_takes_detail(photos):
    ramp = _ramp()
    moved = (corrupt(ramp, range(4), "glass_blur", 1).int() - ramp.int()) / 2  # pixels to the left
    shares = [(moved == step).double().mean().item() for step in (-1, 0)]
    assert sum(shares) == 1  # severity 1 takes a pixel from one place up, left, both or neither
    assert shares == pytest.approx([0.5, 0.5], abs=5 * math.sqrt(0.25 / (4 * 64 * 64)) + 1 / 64)
    detail = [
        corrupt(photos, range(8), "glass_blur", severity).double().diff(dim=3).abs().mean() for severity in SEVERITIES
    ]
    assert detail == sorted(detail, reverse=True)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_smears_a_dot_along_a_line(severity):
    seen = corrupt(_dot(12), range(12), "motion_blur", severity)[:, 0].double()
    sigma = (1, 1.5, 2, 2.5, 3)[severity - 1]
    weights = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(int(4 * sigma) + 1)]
    angles = []
    for picture in seen:
        assert picture[32, 32] == pytest.approx(255 / sum(weights), abs=1)
        assert picture.sum() == pytest.approx(255, abs=len(weights))
        down, right = (picture.nonzero() - 32).double().unbind(1)
        far = (down**2 + right**2).argmax()
        angle = math.atan2(down[far], -right[far])  # what is read from the right is seen on the left
        assert (down * math.cos(angle) + right * math.sin(angle)).abs().max() <= 1
        angles.append(math.degrees(angle))
    assert all(-50 < angle < 50 for angle in angles)  # 45, and the farthest pixel's rounding
    assert max(angles) > 15
    assert min(angles) < -15


def test_zoom_blur_flattens_a_ramp_by_the_mean_of_the_zooms():
    column = torch.arange(64).double() - 31.5
    ramp = (127.5 + 2 * column).round().to(torch.uint8).expand(1, 3, 64, 64)  # bytes: half a grey above 127 + 2 column
    seen = corrupt(ramp, [0], "zoom_blur", 5)[0]
    slope = (1 + sum(1 / (1 + percent / 100) for percent in range(26))) / 27
    middle = ramp[0, 0, 0].double().mean()
    assert (seen - (middle + 2 * slope * column)).abs().max() < 0.5001
    turned = corrupt(_ramp().flip(2, 3), range(4), "zoom_blur", 3)
    assert torch.equal(turned, corrupt(_ramp(), range(4), "zoom_blur", 3).flip(2, 3))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_whitens_and_falls_on_both_halves_alike(severity):
    kept = (0.8, 0.8, 0.7, 0.65, 0.6)[severity - 1]
    seen = corrupt(_grey(60), range(4), "snow", severity)
    assert torch.equal(seen, seen.flip(2, 3))  # the flakes once more upside down, on a picture that has no up
    whitened = 60 * kept + (1 - kept) * (60 * 1.5 + 127.5)
    assert seen.min() >= whitened - 0.5001
    assert seen.max() > whitened + 5


def test_frost_lies_between_the_dimmed_picture_and_full_ice(photos):
    seen = corrupt(photos, range(8), "frost", 5).double()
    least = 0.7 * photos
    most = least + 0.55 * 255 * torch.tensor([0.8, 0.9, 1.0]).view(3, 1, 1)
    assert (seen >= least - 0.5001).all()
    assert (seen <= most.clamp(max=255) + 0.5001).all()
    ice = corrupt(_grey(0), range(4), "frost", 5)
    assert ice.amax(dim=(2, 3)).tolist() == [[112, 126, 140]] * 4  # 0.55 of the tint, where a vein is white


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_spans_what_its_formula_allows(severity):
    amount = (0.4, 0.7, 1, 1.5, 2)[severity - 1]
    seen = corrupt(_grey(102), range(4), "fog", severity)
    darkest = 0.4 * 0.4 / (0.4 + amount)
    for picture in seen:
        assert picture.max() == 102
        assert picture.min() == round(255 * darkest)
    assert (seen[:, 0] == seen[:, 1]).all()


def test_fog_is_smooth_and_has_no_seam():
    fog = corrupt(_grey(255), range(4), "fog", 1)[:, 0].double()  # decay 3: each halving has a ninth of the height
    step = fog.diff(dim=1).abs().mean()
    seam = (fog[:, 0] - fog[:, -1]).abs().mean()
    assert seam < 3 * step
    assert step < fog.std() / 5


def test_elastic_transform_is_affine_at_first_and_ever_more_wavy(photos):
    place = torch.arange(64).double()
    plane = torch.stack((torch.ones(64, 64), place.expand(64, 64), place[:, None].expand(64, 64)), dim=-1).double()
    inside = (slice(16, 48), slice(16, 48))  # nothing mirrored from outside
    wavy = []
    for severity in SEVERITIES:
        seen = corrupt(_ramp(), range(4), "elastic_transform", severity)[:, 0].double()
        moved = ((seen - 64) / 2 - place)[:, inside[0], inside[1]].reshape(4, -1, 1)  # in pixels
        base = plane[inside].reshape(1, -1, 3).expand(4, -1, 3)
        rest = moved - base @ torch.linalg.lstsq(base, moved).solution
        wavy.append(rest.square().mean().sqrt().item())
    rounding = 0.25  # half a grey in pixels
    assert wavy[0] < rounding
    assert wavy[1] < wavy[2] < wavy[3] < wavy[4]
    # Uniform noise, smoothed: deviation 1/sqrt(3), over 2 sqrt(pi) sigma, times the height.
    assert wavy[4] == pytest.approx(10.24 / math.sqrt(3) / (2 * math.sqrt(math.pi) * 1.92), rel=0.25)


def test_elastic_transform_pulls_no_corner_farther_than_its_constant():
    seen = corrupt(_ramp(), range(4), "elastic_transform", 1)[:, 0].double()
    moved = (seen - 64) / 2 - torch.arange(64)
    for y, x in ((53, 53), (11, 53), (11, 11)):
        assert moved[:, y, x].abs().max() <= 5.12 + 0.5
    assert moved[:, 32, 32].abs().max() > 0.5


def test_pixelate_shows_means_of_blocks(photos):
    seen = corrupt(photos, range(8), "pixelate", 5)  # 32 px: blocks of 2 x 2
    means = photos.double().unflatten(3, (32, 2)).unflatten(2, (32, 2)).mean(dim=(3, 5))
    blocks = seen.unflatten(3, (32, 2)).unflatten(2, (32, 2)).double()
    assert (blocks - means[:, :, :, None, :, None]).abs().max() <= 1  # it rounds after each axis


def test_jpeg_compression_is_pillows(photos):
    seen = corrupt(photos, range(8), "jpeg_compression", 5)
    file = io.BytesIO()
    Image.fromarray(photos[3].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=25)
    assert np.array_equal(seen[3].permute(1, 2, 0), Image.open(file))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "corruption",
    ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate"],
)
def test_what_only_moves_or_averages_leaves_a_plain_picture(corruption, severity):
    assert torch.equal(corrupt(_grey(77), range(4), corruption, severity), _grey(77))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((_grey(1), range(4), "rain", 1), "corruption must be one of ('gaussian_noise', "),
        ((_grey(1), range(4), "fog", 6), r"severity must be one of (1, 2, 3, 4, 5), got 6"),
        ((_grey(1).float(), range(4), "fog", 1), "got torch.float32 of (4, 3, 64, 64) with 4"),
        ((_grey(1), range(3), "fog", 1), "with N indices, got torch.uint8 of (4, 3, 64, 64) with 3"),
        ((_grey(1)[..., :32], range(4), "fog", 1), "of (4, 3, 64, 32) with 4"),
    ],
)
def test_wrong_arguments_are_told(arguments, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is compared below
        corrupt(*arguments)
    assert sentence in str(caught.value)


def test_errors_are_counted_by_corruption_and_severity():
    images, labels = _grey(100, 3), torch.tensor([0, 1, 1])

    def white(pictures: torch.Tensor) -> torch.Tensor:
        return (pictures == 255).flatten(1).any(dim=1).long()  # impulse noise alone always paints a grey of 100 white

    classifiers = {"white": white, "one": lambda pictures: torch.ones(len(pictures))}
    errors = count_errors(classifiers, images, labels, [4, 5, 6])
    assert list(errors) == ["white", "one"]
    assert list(errors["white"]) == list(CORRUPTIONS)
    assert errors["white"]["impulse_noise"] == pytest.approx([1 / 3] * 5)
    assert errors["white"]["contrast"] == pytest.approx([2 / 3] * 5)
    assert all(shares == pytest.approx([1 / 3] * 5) for shares in errors["one"].values())


def test_mce_by_hand():
    stock = {"fog": [0.1, 0.3], "snow": [0.2, 0.2]}
    assert mean_corruption_error({"fog": [0.2, 0.2], "snow": [0.1, 0.1]}, stock) == pytest.approx((1 + 0.5) / 2)
    assert mean_corruption_error(stock, stock) == 1
    # Not the ratio of the sums over all corruptions, which would be 0.9 / 1.2.
    assert mean_corruption_error({"fog": [0.9], "snow": [0.0]}, {"fog": [0.9], "snow": [0.3]}) == 0.5
    assert mean_corruption_error({"fog": [0.1]}, {"fog": [0.0]}) is None
