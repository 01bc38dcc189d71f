"""Numbers to pixels: maps in one colour scale, the photo with the square that the networks saw, a row of maps to keep.

One scale for every map: a number v, 1 being the average, lies at ``log2(v) / 2`` between -1 (a quarter or less) and 1
(four times or more). Below the average it is blue, above it orange, and the further from it the less transparent; the
average itself is clear. Maps lie over a grey photo, so all colour is the map's. A pixel that no window reads (NaN) is
part of a grey chequer. Blue and orange are told apart with every common colour vision.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from models.data import CENTRE

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "Framed",
    "colour",
    "data_url",
    "frame",
    "jpeg",
    "legend",
    "png",
    "row_of_maps",
    "scale",
]

BLUE = (26, 102, 220)
ORANGE = (250, 130, 0)
GREY = (128, 128, 128)
OCTAVES = 2  # the scale ends at 2**-2 and 2**2

Map = NDArray[np.floating]


def scale(values: Map) -> NDArray[np.float64]:
    """Return each number's place on the scale, -1 ... 1; NaN stays NaN.

    Args:
        values: multiples of the average, not negative.
    """
    with np.errstate(divide="ignore"):
        return np.clip(np.log2(np.asarray(values, np.float64)) / OCTAVES, -1, 1)


def colour(values: Map) -> NDArray[np.uint8]:
    """Return a map's pixels, (H, W, 4) RGBA of (H, W) multiples of the average."""
    place = scale(values)
    pixels = np.empty((*place.shape, 4), np.uint8)
    pixels[..., :3] = np.where((place < 0)[..., None], BLUE, ORANGE)
    pixels[..., 3] = np.rint(255 * np.abs(np.nan_to_num(place)))
    rows, columns = np.indices(place.shape)
    pixels[np.isnan(place)] = (*GREY, 0)
    pixels[np.isnan(place) & ((rows + columns) % 2 == 0)] = (*GREY, 255)
    return pixels


def png(pixels: NDArray[np.uint8] | Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def data_url(content: bytes, kind: str = "image/png") -> str:
    """Return a file as an address that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def legend(steps: int = 129) -> NDArray[np.uint8]:
    """Return the scale itself from a quarter to four times, (1, steps, 4), by the maps' own colours."""
    return colour(np.exp2(np.linspace(-OCTAVES, OCTAVES, steps))[None])


class Framed(NamedTuple):
    """A photo made ready to be shown, and where in it the networks looked.

    Attributes:
        image: the photo, at most `LONGEST` pixels a side and `WIDEST` times as long as wide; what is cut lies outside.
        left, top, side: the centre square that the networks saw, in pixels of ``image``.
    """

    image: Image.Image
    left: int
    top: int
    side: int


LONGEST = 480
WIDEST = 1.5


def frame(photo: Image.Image) -> Framed:
    """Return a photo ready to be shown around its centre square."""
    side = min(photo.size)
    longest = round(side * WIDEST)
    width, height = min(photo.width, longest), min(photo.height, longest)
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    factor = min(1, LONGEST / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    shown = photo.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height), reducing_gap=2)
    side = round(min(shown.size) * CENTRE)
    return Framed(shown, (shown.width - side) // 2, (shown.height - side) // 2, side)


def jpeg(image: Image.Image) -> bytes:
    """Return a photo as a JPEG file, with nothing of what came with the original."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


PANEL, MARGIN, SCALE = 240, 16, 420
INK, PAPER, CLEAR = (28, 30, 34), (255, 255, 255), (214, 214, 214)


def row_of_maps(
    square: Image.Image, maps: Sequence[tuple[str, str, Map]], title: str, ends: tuple[str, str, str], opacity: float
) -> Image.Image:
    """Return a picture to keep: one panel a map, over the grey square that the networks saw, with the scale below.

    Args:
        square: what the networks saw.
        maps: of each panel its name, a line in words and its numbers.
        title: what is shown.
        ends: what the scale's beginning, middle and end mean.
        opacity: of the maps, 0 ... 1.
    """
    large, small = ImageFont.load_default(18), ImageFont.load_default(13)
    width = max(MARGIN + len(maps) * (PANEL + MARGIN), SCALE + 2 * MARGIN)
    page = Image.new("RGB", (width, PANEL + 170), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), title, INK, large)
    grey = ImageOps.grayscale(square).resize((PANEL, PANEL), Image.Resampling.LANCZOS).convert("RGB")
    top = MARGIN + 36
    for index, (name, words, values) in enumerate(maps):
        left = MARGIN + index * (PANEL + MARGIN)
        pixels = colour(values)
        pixels[..., 3] = np.rint(pixels[..., 3] * opacity)
        over = Image.fromarray(pixels).resize((PANEL, PANEL), Image.Resampling.NEAREST)
        page.paste(grey, (left, top))
        page.paste(over, (left, top), over)
        pen.text((left, top + PANEL + 6), name, INK, large)
        pen.text((left, top + PANEL + 30), words, INK, small)
    below = top + PANEL + 66
    bar = Image.fromarray(legend()).resize((SCALE, 14), Image.Resampling.NEAREST)
    page.paste(CLEAR, (MARGIN, below, MARGIN + SCALE, below + 14))
    page.paste(bar, (MARGIN, below), bar)
    for index, words in enumerate(ends):
        pen.text((MARGIN + SCALE * index / 2, below + 18), words, INK, small, anchor=("la", "ma", "ra")[index])
    return page
