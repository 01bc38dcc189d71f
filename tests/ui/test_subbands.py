"""Bands of photos and of maps against loops in fp64, and what the tab says of them."""

import json
import math
import re

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from tests.ui import made_up
from tests.ui.by_hand import haar_energy, psnr_of_means_db
from ui.bands import BANDS, Split, draw, mosaic, split_photo, split_place
from ui.subbands import MEANINGS, Subbands, describe_rebuilt


def stripes(rows: bool) -> Image.Image:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    pixels[(slice(1, None, 2) if rows else slice(None)), (slice(None) if rows else slice(1, None, 2))] = 150
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def tab() -> Subbands:
    return Subbands(made_up.context("soft", "lift"))


class TestPhoto:
    def test_haar_energy_is_that_of_two_by_two_cells(self):
        photo = made_up.photo(1, 20, 14).image
        assert split_photo(photo, "haar").energy() == pytest.approx(haar_energy(photo), rel=1e-5)

    @pytest.mark.parametrize("wavelet", ["haar", "cdf53"])
    def test_rows_go_to_lh_and_columns_to_hl(self, wavelet):
        for picture, band in ((stripes(rows=True), "LH"), (stripes(rows=False), "HL")):
            energy = split_photo(picture, wavelet).energy()
            others = [energy[name] for name in ("LH", "HL", "HH") if name != band]
            assert energy[band] > 1
            assert max(others) < 1e-9
        assert "from row to row" in MEANINGS["LH"]
        assert "from column to column" in MEANINGS["HL"]

    @pytest.mark.parametrize("wavelet", ["haar", "cdf53"])
    @pytest.mark.parametrize("size", [(20, 14), (21, 15), (1, 1), (5, 2)])
    def test_all_bands_give_the_photo_back(self, wavelet, size):
        split = split_photo(made_up.photo(2, *size).image, wavelet)
        rebuilt = split.rebuild(BANDS)
        assert rebuilt.x.shape == split.x.shape
        np.testing.assert_allclose(rebuilt.x, split.x, atol=1e-6)
        assert rebuilt.largest_error <= 1e-6

    def test_ll_alone_gives_the_means_of_cells(self):
        photo = made_up.photo(3, 20, 14).image
        split = split_photo(photo, "haar")
        rebuilt = split.rebuild(["LL"])
        assert rebuilt.psnr_db == pytest.approx(psnr_of_means_db(photo), abs=1e-4)
        cells = np.asarray(photo, np.float64).reshape(7, 2, 10, 2, 3).mean((1, 3)) / 255
        means = cells.repeat(2, 0).repeat(2, 1)
        np.testing.assert_allclose(rebuilt.x[0].permute(1, 2, 0), means, atol=1e-6)
        assert rebuilt.largest_error == pytest.approx(np.abs(means - np.asarray(photo) / 255).max(), abs=1e-6)

    def test_no_band_gives_nothing(self):
        assert not split_photo(made_up.photo().image, "cdf53").rebuild([]).x.any()

    def test_a_black_photo_has_no_energy_and_no_error(self):
        split = split_photo(Image.new("RGB", (6, 4)), "haar")
        assert split.energy() == dict.fromkeys(BANDS, 0.0)
        assert split.rebuild(["LL"]).psnr_db == math.inf

    def test_a_large_photo_is_made_smaller_first(self):
        assert split_photo(Image.new("RGB", (1000, 300), "red"), "haar").x.shape == (1, 3, 134, 448)


class TestPictures:
    def test_details_are_centred_on_grey_and_have_one_scale(self):
        zero, quarter = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 100, np.uint8)
        quarter[1] += 64  # from row to row: 64 / 255 is beyond the end of the scale
        for pixels, expected in ((zero, 128), (quarter, 255), (quarter[::-1], 0)):
            split = split_photo(Image.fromarray(pixels), "haar")
            pictures, _ = draw(split, split.rebuild(BANDS), None)
            assert (pictures["LH"] == expected).all()
            assert (pictures["HL"] == 128).all()
        half = np.full((2, 2, 3), 100, np.uint8)
        half[:, 1] += 32
        split = split_photo(Image.fromarray(half), "haar")
        pictures, _ = draw(split, split.rebuild(BANDS), None)
        assert (pictures["HL"] == round(127.5 + 127.5 * 32 / 255 / 0.25)).all()

    def test_a_photo_and_what_is_rebuilt_keep_their_pixels(self):
        photo = made_up.photo(4).image
        split = split_photo(photo, "cdf53")
        pictures, _ = draw(split, split.rebuild(BANDS), None)
        np.testing.assert_array_equal(pictures["split"], np.asarray(photo))
        np.testing.assert_array_equal(pictures["rebuilt"], np.asarray(photo))

    def test_maps_of_a_channel_and_of_all(self, tab):
        split = split_place(tab.context.sets[0].find("lift"), made_up.photo().image, "stage2")
        rebuilt = split.rebuild(BANDS)
        pictures, scale = draw(split, rebuilt, 3)
        x, ll, lh = (t[0, 3].numpy() for t in (split.x, split.bands.ll, split.bands.lh))
        low, high = min(x.min(), ll.min()), max(x.max(), ll.max())
        assert (scale.low, scale.high, scale.signed) == (pytest.approx(low), pytest.approx(high), True)
        np.testing.assert_allclose(pictures["split"], 255 * (x - low) / (high - low), atol=0.51)
        inside = np.abs(lh) < scale.detail
        np.testing.assert_allclose(pictures["LH"][inside], (127.5 + 127.5 * lh / scale.detail)[inside], atol=0.51)
        pictures, scale = draw(split, rebuilt, None)
        assert not scale.signed
        sizes = np.minimum(np.abs(split.bands.hh[0].numpy()).mean(0) / scale.detail, 1)
        np.testing.assert_allclose(pictures["HH"], 255 * sizes, atol=0.51)

    def test_mosaic_puts_hl_right_and_lh_below(self):
        flat = {name: np.full((2, 3), value, np.uint8) for name, value in zip(BANDS, (10, 20, 30, 40), strict=True)}
        found = np.asarray(mosaic(flat))
        assert found.shape == (4, 6)
        assert (found[0, 0], found[0, 5], found[3, 0], found[3, 5]) == (10, 30, 20, 40)


class TestPlaces:
    def test_a_place_is_split_by_its_own_filters(self, tab):
        """Recompute the stem in fp64, its filters from the state dict, tap by tap."""
        lift, photo = tab.context.sets[0].find("lift"), made_up.photo(5).image
        split = split_place(lift, photo, "stem")
        state = {name: values.double().numpy() for name, values in lift.network.state_dict().items()}

        def filtered(part: str, half: np.ndarray, axis: int) -> np.ndarray:
            weight = state[f"pool.{part}.weight"]
            padded = np.pad(half, [(2, 2) if a == axis else (0, 0) for a in range(3)], mode="edge")
            total = sum(
                weight[:, tap, None, None] * np.take(padded, range(tap, tap + half.shape[axis]), axis)
                for tap in range(5)
            )
            bias, scale, shift = (state[f"pool.{part}.{name}"][:, None, None] for name in ("bias", "scale", "shift"))
            return np.tanh(scale * np.maximum(total + bias, 0) + shift)

        def step(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
            even, odd = (np.take(x, range(first, x.shape[axis], 2), axis) for first in (0, 1))
            d = odd - filtered("predict", even, axis)
            return even + filtered("update", d, axis), d

        x = split.x[0].double().numpy()
        s, d = step(x, 2)
        expected = (*step(s, 1), *step(d, 1))
        for name, band, found in zip(BANDS, expected, split.bands, strict=False):
            np.testing.assert_allclose(found[0], band, atol=1e-5, err_msg=name)
        squares = [float((band**2).sum()) for band in expected]
        shares = [100 * square / sum(squares) for square in squares]
        assert list(split.energy().values()) == pytest.approx(shares, rel=1e-4)
        assert split.rebuild(BANDS).largest_error < 1e-5

    def test_what_is_split_is_what_the_network_pools(self, tab):
        lift, photo = tab.context.sets[0].find("lift"), made_up.photo(6).image
        caught = {}
        handles = [
            layer.register_forward_pre_hook(lambda _, args, place=place: caught.__setitem__(place, args[0].clone()))
            for place, layer in lift.network.pooling_places().items()
        ]
        with torch.no_grad():
            lift.network(lift.preprocess(photo))
        for handle in handles:
            handle.remove()
        for place, x in caught.items():
            torch.testing.assert_close(split_place(lift, photo, place).x, x)

    def test_nothing_is_left_behind_on_the_network(self, tab):
        lift = tab.context.sets[0].find("lift")
        split_place(lift, made_up.photo().image, "stage3")
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in lift.network.modules())


class TestTab:
    def test_sources_are_the_photo_and_the_networks_places(self, tab):
        assert set(tab.sources) == {"haar", "cdf53", *tab.context.sets[0].find("lift").network.pooling_places()}
        assert list(Subbands(made_up.context("max")).sources) == ["haar", "cdf53"]

    def test_channels_are_those_of_the_map(self, tab):
        lift, photo = tab.context.sets[0].find("lift"), made_up.photo().image
        for place in lift.network.pooling_places():
            assert tab.channels(place, made_up.SET) == split_place(lift, photo, place).x.shape[1]
        assert tab.channels("haar", made_up.SET) == 0

    def test_shown_energy_is_the_photos(self, tab):
        photo = made_up.photo(7, 20, 14)
        html = tab.draw(photo, "haar", list(BANDS), 0, made_up.SET)
        shown = dict(re.findall(r"<strong>(LL|LH|HL|HH)</strong>[^<]*<br><b>([\d.e-]+) %</b>", html))
        for name, share in haar_energy(photo.image).items():
            assert float(shown[name]) == pytest.approx(share, rel=0.05)

    def test_every_picture_has_words(self, tab):
        html = tab.draw(made_up.photo(), "stage2", ["LL", "HL"], 2, made_up.SET)
        alts = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([^"]+)"', html)
        assert len(alts) == 6
        assert sum("network's map at stage 2" in alt.replace("&#x27;", "'") for alt in alts) == 5
        assert html.count("switched off") == 2

    def test_sentences_of_what_is_rebuilt(self, tab):
        split = split_photo(made_up.photo().image, "haar")
        for keep, words in (
            (BANDS, "from all four bands"),
            ([], "nothing is left"),
            (["HH", "LL"], "from LL and HH: PSNR"),
        ):
            assert words in describe_rebuilt(split, split.rebuild(keep), keep)
        exact = Split(torch.zeros(1, 3, 2, 2), split.down, split.down.bands(torch.zeros(1, 3, 2, 2)), is_photo=True)
        assert "the largest error is 0 on" in describe_rebuilt(exact, exact.rebuild(BANDS), BANDS)

    def test_endpoint_returns_numbers_and_pictures(self, tab):
        photo = made_up.photo(8, 21, 15)
        numbers, bands, rebuilt = tab.subbands(photo, "haar", ["LL"], 0, made_up.SET)
        numbers = json.loads(json.dumps(numbers, allow_nan=False))
        assert numbers["shape"] == [3, 15, 21]
        assert numbers["band_shape"] == [3, 8, 11]
        assert sum(numbers["energy_percent"].values()) == pytest.approx(100, abs=0.1)
        assert numbers["rebuilt"]["from"] == ["LL"]
        assert numbers["rebuilt"]["largest_error_from_all"] < 1e-6 < numbers["rebuilt"]["largest_error"]
        assert (bands.size, rebuilt.size) == ((22, 16), (21, 15))

    @pytest.mark.parametrize(
        ("source", "keep", "channel", "words"),
        [
            ("stage9", ["LL"], 0, "source must be one of haar, cdf53, stem"),
            ("haar", ["XX"], 0, "keep must be of LL, LH, HL, HH, got XX"),
            ("stem", ["LL"], 9, "channel must be from 0 (all) to 8 for the source stem, got 9"),
            ("stem", ["LL"], -1, "got -1"),
            ("haar", ["LL"], 1, "to 0 for the source haar"),
            ("<script>", [], 0, "&lt;script&gt;"),
        ],
    )
    def test_wrong_arguments_get_a_sentence(self, tab, source, keep, channel, words):
        with pytest.raises(gr.Error, match=re.escape(words)):
            tab.subbands(made_up.photo(), source, keep, channel, made_up.SET)

    def test_a_set_without_liftpool_still_splits_photos(self):
        tab = Subbands(made_up.context("lift", others=[made_up.network_set("max", name="other")]))
        assert "PSNR" in tab.draw(made_up.photo(), "haar", ["LL"], 0, "other")
        assert "no LiftPool among them" in tab.draw(made_up.photo(), "stem", ["LL"], 0, "other")
        with pytest.raises(gr.Error, match="no LiftPool among them: split the photo by haar or cdf53"):
            tab.subbands(made_up.photo(), "stem", ["LL"], 0, "other")

    def test_without_a_photo_there_is_a_sentence(self, tab):
        assert "Upload a photo" in tab.draw(None, "haar", list(BANDS), 0, made_up.SET)
        with pytest.raises(gr.Error, match="Upload a photo"):
            tab.subbands(None, "haar", list(BANDS), 0, made_up.SET)

    def test_another_source_keeps_no_channel_of_the_last(self, tab):
        slider = tab.offer_channels("stage2", made_up.SET)
        assert (slider.maximum, slider.value, slider.visible) == (tab.channels("stage2", made_up.SET), 0, True)
        assert not tab.offer_channels("haar", made_up.SET).visible
        assert "What is split" in tab.draw(
            made_up.photo(), "stem", list(BANDS), 60, made_up.SET
        )  # a slider that has not followed yet
