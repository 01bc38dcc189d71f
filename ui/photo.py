"""Bytes from a visitor -> an upright RGB photo, or one sentence that says why not.

Whatever a browser, a phone or a program sends is judged before it is decoded: its bytes, its kind, and the size that
its header states. Only then are pixels made, one photo at a time, so that the memory this takes is bounded. Only the
decoders of `FORMATS` are ever asked.
"""

import base64
import binascii
import itertools
import re
import struct
from abc import ABCMeta
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
import numpy as np
from gradio.component_meta import ComponentMeta, updateable
from gradio.data_classes import ImageData
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["LONG_SIDE", "MAX_BYTES", "MAX_PIXELS", "Photo", "PhotoError", "PhotoInput", "decode_photo", "read_photo"]

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
READABLE = "a photo as JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP"
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
LONG_SIDE = 1024
"""Pixels of a photo's longer side, at most: what the page shows, and far more than the networks see."""

NOT_UPLOADED = "This photo was not uploaded to this page, and the page fetches no addresses: please upload the file."

ASSETS = Path(__file__).resolve().parents[1] / "assets"

# What a decoder raises for damaged content.
BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)

# How the beginning of a file tells its kind, for kinds that are not read: (pattern, kind).
KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"....ftyp(?:heic|heix|hevc|hevx|heim|heis|mif1|msf1)", "a HEIC photo"),
    (rb"....ftyp", "a video"),
    (rb"\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"%PDF-", "a PDF document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript document"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL photo"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 photo"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\x00\x00\x01\x00", "an icon"),
    (rb"PK\x03\x04", "a ZIP archive or an office document"),
    (rb"(?i:\s*<(?:!doctype html|html))", "a web page"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:svg[\s>]|[?!].*<svg[\s>])", "an SVG drawing"),
)

# Of files that are cut off or damaged before their header ends.
READ_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8", "JPEG"),
    (rb"\x89PNG", "PNG"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"GIF8", "GIF"),
    (rb"II[*+]\x00|MM\x00[*+]", "TIFF"),
    (rb"BM", "BMP"),
)


class PhotoError(ValueError):
    """Why a photo cannot be used, in one sentence for whoever sent it."""


@dataclass(frozen=True)
class Photo:
    """A visitor's photo.

    Attributes:
        image: upright, RGB, at most `LONG_SIDE` pixels long, its transparent parts white.
        number: grows in the order in which photos were sent, which is not always that in which they are decoded.
    """

    image: Image.Image
    number: int = 0


# Held while pixels are made: two visitors' largest photos are not in memory together.
_decoding = Lock()
_numbers = itertools.count(1)


def read_photo(path: str | Path) -> Photo:
    """Return the photo in a file.

    Raises:
        PhotoError: with the sentence, if there is none that can be used.
    """
    try:
        size = Path(path).stat().st_size
        _check_bytes(size)
        data = Path(path).read_bytes()
    except OSError as error:
        raise PhotoError("This photo is no longer on the server: please choose it again.") from error
    return decode_photo(data)


def decode_photo(data: bytes) -> Photo:
    """Return the photo that the bytes of a file hold: of an animation the first frame, of several pages the first.

    Raises:
        PhotoError: with the sentence, if there is none that can be used.
    """
    _check_bytes(len(data))
    with _decoding, _open(data) as image:
        kind = "WebP" if image.format == "WEBP" else "JPEG" if image.format == "MPO" else str(image.format)
        _check_pixels(image.size)
        try:
            # Where a JPEG is large, its decoder makes it smaller on the way.
            image.draft(None, (LONG_SIDE, LONG_SIDE))
            image.load()
            return Photo(_small_rgb(_eight_bit(_upright(image), kind)))
        except PhotoError:
            raise
        except BROKEN as error:
            raise PhotoError(f"This {kind} file is cut off or damaged: please save or send it again.") from error


def _check_bytes(size: int) -> None:
    if size == 0:
        raise PhotoError(f"This file is empty: please choose {READABLE}.")
    if size > MAX_BYTES:
        raise PhotoError(
            f"This file has {size / 2**20:.1f} MiB, and the page takes {MAX_BYTES // 2**20} MiB: "
            "please save the photo smaller and try again."
        )


def _check_pixels(size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    if pixels > MAX_PIXELS:
        raise PhotoError(
            f"This picture has {size[0]} x {size[1]} pixels, which is {pixels / 1e6:.0f} million, and the page takes "
            f"{MAX_PIXELS // 10**6} million: please make it smaller and try again."
        )


def _open(data: bytes) -> Image.Image:
    """Return the image with its header read and no pixel decoded."""
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PhotoError(
            f"This picture has far more than the {MAX_PIXELS // 10**6} million pixels that the page takes: "
            "please make it smaller and try again."
        ) from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"{_describe(data[:4096])}: please choose {READABLE}.") from error
    except BROKEN as error:
        raise PhotoError(f"{_describe(data[:4096])}: please save or send it again.") from error


def _describe(head: bytes) -> str:
    """Return what a file that is no readable photo seems to be."""
    for pattern, kind in READ_KINDS:
        if re.match(pattern, head, re.DOTALL):
            return f"This {kind} file is cut off or damaged"
    for pattern, kind in KINDS:
        if re.match(pattern, head, re.DOTALL):
            return f"This is {kind}, which the page cannot read"
    text = head.decode("utf-8", errors="replace")
    if text.count("\ufffd") <= 1 and text.replace("\ufffd", "").translate({9: 32, 10: 32, 13: 32}).isprintable():
        return "This file holds text, not a picture"
    return "This file is no picture that the page knows"


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF record says, or as it is where the record is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN:
        return image


def _eight_bit(image: Image.Image, kind: str) -> Image.Image:
    """Return the image in mode L, RGB or, where some of it is transparent, RGBA."""
    if image.mode.startswith("I;16"):
        scaled = ((np.arange(2**16, dtype=np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255
        return Image.fromarray(scaled[np.asarray(image)])
    if image.mode in ("I", "F"):
        raise PhotoError(
            f"This {kind} file stores its pixels as 32-bit numbers, whose range the page cannot know: "
            "please save it with 8 or 16 bits a channel and try again."
        )
    target = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == target else image.convert(target)


def _small_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB, on white, its longer side at most `LONG_SIDE`."""
    longer = max(image.size)
    if longer > LONG_SIDE:
        width, height = (max(1, round(side * LONG_SIDE / longer)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class _WithoutStub(ComponentMeta):
    """Gradio's metaclass of components, less the stub file that it writes beside the source of each class."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> type:
        attrs["__init__"] = updateable(attrs["__init__"])  # type: ignore[no-untyped-call]
        return ABCMeta.__new__(cls, name, bases, attrs)


class PhotoInput(gr.Image, metaclass=_WithoutStub):
    """The page's photo field: gives handlers a `Photo`, or None while it is empty, and visitors a sentence.

    It takes uploads, camera and clipboard, and ``data:`` addresses by API. Other addresses are not fetched, and files
    that were not uploaded to this page are not opened (but for the page's own pictures, which an event may show).
    """

    def __init__(
        self,
        value: str | Path | None = None,
        *,
        label: str = "Photo",
        height: int | str | None = None,
        elem_id: str | None = None,
        visible: bool = True,
    ) -> None:
        super().__init__(
            str(value) if value else None,
            type="filepath",
            image_mode=None,
            format="jpeg",
            sources=["upload", "webcam", "clipboard"],
            buttons=[],
            label=label,
            height=height,
            elem_id=elem_id,
            visible=visible,
            interactive=True,
            alt_text="The photo that the networks look at",
        )

    def get_block_name(self) -> str:
        """Return the name of the front end's component."""
        return "image"

    def get_config(self, cls: type[Any] | None = None) -> dict[str, Any]:
        """Return what the front end is told: all that it is told of an Image."""
        return super().get_config(gr.Image)

    def preprocess(self, payload: ImageData | None) -> Photo | None:  # type: ignore[override]
        """Return the photo of an upload.

        Raises:
            gr.Error: with the sentence, if there is none that can be used.
        """
        if payload is None:
            return None
        number = next(_numbers)
        try:
            if payload.path is None and payload.url:
                photo = decode_photo(_data_of(payload.url))
            elif payload.path is None or not _lies_in(payload.path, Path(self.GRADIO_CACHE)):
                raise PhotoError(NOT_UPLOADED)
            else:
                photo = read_photo(payload.path)
        except PhotoError as error:
            raise _as_toast(error) from error
        return replace(photo, number=number)

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Return where a file lies that this field may use; Gradio asks before anything is opened or copied.

        Raises:
            gr.Error: for an address, and for a file that is neither an upload nor one of the page's own pictures.
        """
        if url_or_file_path is None:
            return None
        if not any(_lies_in(url_or_file_path, folder) for folder in (Path(self.GRADIO_CACHE), ASSETS)):
            raise _as_toast(PhotoError(NOT_UPLOADED))
        return await super().async_move_resource_to_block_cache(url_or_file_path)

    def example_payload(self) -> dict[str, Any]:
        """Return an example of what the API takes."""
        return {"path": "photo.jpg", "url": "photo.jpg", "meta": {"_type": "gradio.FileData"}}

    def example_value(self) -> str:
        """Return an example of a value."""
        return "photo.jpg"


def _as_toast(error: PhotoError) -> gr.Error:
    return gr.Error(str(error), title="Photo", print_exception=False)


def _lies_in(path: str | Path, folder: Path) -> bool:
    """Tell whether a path, links followed, lies in a folder."""
    try:
        return Path(path).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # an address, a loop of links, a null byte
        return False


def _data_of(url: str) -> bytes:
    """Return the bytes of a ``data:`` address."""
    head, comma, body = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise PhotoError(NOT_UPLOADED)
    _check_bytes(len(body) * 3 // 4)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise PhotoError("This data: address is cut off or damaged: please send the whole photo as base64.") from error
