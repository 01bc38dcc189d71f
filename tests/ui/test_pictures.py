"""Numbers to pixels: exact colours at places of the scale worked out by hand, and where the photo's parts go."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ui import pictures
from ui.pictures import BLUE, GREY, ORANGE, colour, data_url, frame, jpeg, legend, png, row_of_maps, scale


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (0, -1),  # log2 is minus infinity: the scale's end
        (1 / 16, -1),
        (1 / 4, -1),
        (1 / 2, -0.5),
        (1, 0),
        (2**0.5, 0.25),
        (2, 0.5),
        (4, 1),
        (5.76, 1),  # the largest share of a 3x3 window of stride 2
    ],
)
def test_a_doubling_is_half_the_way_to_an_end(value: float, place: float) -> None:
    assert scale(np.array([[value]]))[0, 0] == pytest.approx(place, abs=1e-12)


def test_colours_are_exact() -> None:
    pixels = colour(np.array([[0, 0.25, 0.5, 1], [2**0.5, 2, 4, 100]]))
    # Opacity is 255 times the distance from the average: 255 / 2 = 127.5 goes to the even 128, 255 / 4 = 63.75 to 64.
    assert pixels[0].tolist() == [[*BLUE, 255], [*BLUE, 255], [*BLUE, 128], [*ORANGE, 0]]
    assert pixels[1].tolist() == [[*ORANGE, 64], [*ORANGE, 128], [*ORANGE, 255], [*ORANGE, 255]]


def test_half_precision_gives_the_same_colours() -> None:
    values = np.array([[0, 0.25, 0.5, 1, 2, 4]])
    assert np.array_equal(colour(values.astype(np.float16)), colour(values))


def test_what_no_window_reads_is_a_grey_chequer_and_nothing_else_is() -> None:
    pixels = colour(np.full((2, 2), np.nan))
    assert pixels.tolist() == [[[*GREY, 255], [*GREY, 0]], [[*GREY, 0], [*GREY, 255]]]
    assert colour(np.array([[np.nan, 1.0]]))[0, 1, 3] == 0


def test_the_same_number_has_the_same_colour_in_every_map() -> None:
    """A map is not stretched to its own range: two maps can be compared."""
    assert colour(np.array([[2.0, 1.0]]))[0, 0].tolist() == colour(np.array([[2.0, 64.0]]))[0, 0].tolist()


def test_blue_and_orange_differ_by_lightness_too() -> None:
    def luminance(rgb: tuple[int, int, int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert (luminance(ORANGE) + 0.05) / (luminance(BLUE) + 0.05) > 2


def test_legend_runs_from_a_quarter_to_four_by_the_maps_own_colours() -> None:
    bar = legend(5)  # 1/4, 1/2, 1, 2, 4
    assert bar.shape == (1, 5, 4)
    assert bar[0].tolist() == [[*BLUE, 255], [*BLUE, 128], [*ORANGE, 0], [*ORANGE, 128], [*ORANGE, 255]]


def test_a_png_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    address = data_url(png(pixels))
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), pixels)


def four_edges(width: int, height: int) -> Image.Image:
    """A grey photo whose middle square of a quarter of the short side is white."""
    photo = Image.new("RGB", (width, height), (90, 90, 90))
    side = min(width, height) // 4
    photo.paste((255, 255, 255), ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    return photo


@pytest.mark.parametrize("size", [(900, 600), (600, 900), (800, 800), (3000, 500), (500, 3000), (60, 40), (451, 300)])
def test_the_square_is_where_the_networks_look(size: tuple[int, int]) -> None:
    framed = frame(four_edges(*size))
    width, height = framed.image.size
    assert max(width, height) <= pictures.LONGEST
    assert max(width, height) <= round(min(width, height) * 1.5) + 1
    assert framed.side == pytest.approx(min(width, height) * 8 / 9, abs=1)  # the middle eight ninths
    assert framed.left == pytest.approx((width - framed.side) / 2, abs=1)
    assert framed.top == pytest.approx((height - framed.side) / 2, abs=1)
    pixels = np.asarray(framed.image.convert("L"))
    middle = pixels[height // 2, width // 2]
    assert middle > 240
    rows, columns = np.nonzero(pixels > 170)
    assert rows.mean() == pytest.approx((height - 1) / 2, abs=1)
    assert columns.mean() == pytest.approx((width - 1) / 2, abs=1)
    # The white square's side is a quarter of the photo's short side, in the frame too: nothing is stretched.
    assert np.ptp(rows) + 1 == pytest.approx(min(width, height) / 4, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(min(width, height) / 4, abs=2)


def test_a_photo_is_sent_without_what_came_with_it() -> None:
    photo = Image.new("RGB", (8, 8), (200, 30, 40))
    exif = Image.Exif()
    exif[0x8298] = "somebody's name"
    file = io.BytesIO()
    photo.save(file, "JPEG", exif=exif)
    loaded = Image.open(file)
    assert loaded.getexif()
    assert not Image.open(io.BytesIO(jpeg(frame(loaded).image))).getexif()
    assert b"somebody" not in jpeg(frame(loaded).image)


def test_row_of_maps_draws_each_map_over_the_grey_square() -> None:
    square = Image.new("RGB", (64, 64), (200, 100, 50))
    grey = np.asarray(square.convert("L"))[0, 0]
    kept, dropped, average = (np.full((8, 8), value) for value in (4.0, 0.25, 1.0))
    maps = [("A", "one", kept), ("B", "two", dropped), ("C", "three", average)]
    row = np.asarray(row_of_maps(square, maps, "Title", ("low", "mid", "high"), 1))
    y = pictures.MARGIN + 36 + pictures.PANEL // 2
    x = [pictures.MARGIN + index * (pictures.PANEL + pictures.MARGIN) + pictures.PANEL // 2 for index in range(3)]
    assert row[y, x[0]].tolist() == list(ORANGE)
    assert row[y, x[1]].tolist() == list(BLUE)
    assert row[y, x[2]].tolist() == [grey] * 3
    half = np.asarray(row_of_maps(square, maps, "Title", ("low", "mid", "high"), 0.5))
    assert half[y, x[0]] == pytest.approx((np.array(ORANGE) + grey) / 2, abs=1.5)
