"""What visitors send: every kind of file becomes exactly the right pixels, or a sentence. All files are made here."""

import base64
import random
import re
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.data_classes import ImageData
from PIL import Image

from tests.ui.loop import run
from ui.photo import LONG_SIDE, MAX_BYTES, Photo, PhotoError, PhotoInput, decode_photo, read_photo

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = decode_photo(data).image
    assert image.mode == "RGB"
    return np.asarray(image)


def picture(width: int = 32, height: int = 24) -> Image.Image:
    """A smooth picture, so that lossy formats stay near it."""
    y, x = np.mgrid[0:height, 0:width]
    levels = np.stack([x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)], -1)
    return Image.fromarray(levels.round().astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int, depth: int = 1, colour: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    row = bytes(1 + (width * depth + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class TestPixels:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
    def test_lossless_files_keep_every_pixel(self, kind):
        np.testing.assert_array_equal(pixels(encode(noise(31, 17), kind)), np.asarray(noise(31, 17)))

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
    def test_lossy_files_stay_near(self, kind):
        found = pixels(encode(picture(), kind, quality=95)).astype(int)
        assert np.abs(found - np.asarray(picture()).astype(int)).max() <= 16

    def test_16_bit_grey_is_scaled_and_not_clipped(self):
        ramp = np.array([[0, 128, 129, 255, 256, 257, 1000, 32768, 65279, 65535]], dtype=np.uint16)
        grey = [round(int(value) / 257) for value in ramp[0]]  # no ties: 257 is odd
        assert grey == [0, 0, 1, 1, 1, 1, 4, 128, 254, 255]
        for kind in ("PNG", "TIFF"):
            assert pixels(encode(Image.fromarray(ramp), kind))[0].tolist() == [[value] * 3 for value in grey]

    def test_16_bit_big_endian_tiff(self):
        image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 257, 65535))
        assert pixels(encode(image, "TIFF"))[0].tolist() == [[1] * 3, [255] * 3]

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, kind, orientation):
        upright = Image.new("RGB", (48, 32), WHITE)
        for corner, colour in (((0, 0), RED), ((32, 0), GREEN), ((0, 16), BLUE)):
            upright.paste(colour, (*corner, corner[0] + 16, corner[1] + 16))
        # What a camera stores so that the operation which EXIF prescribes gives the upright picture: its inverse.
        flip, turn = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose
        stored_as = {2: [flip], 3: [turn.ROTATE_180], 4: [turn.FLIP_TOP_BOTTOM], 5: [turn.TRANSPOSE]}
        stored_as |= {6: [turn.ROTATE_90], 7: [turn.TRANSVERSE], 8: [turn.ROTATE_270]}
        stored = upright
        for operation in stored_as.get(orientation, []):
            stored = stored.transpose(operation)
        exif = Image.Exif()
        exif[0x0112] = orientation
        found = pixels(encode(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))).astype(int)
        assert found.shape == (32, 48, 3)
        for y, x, colour in ((8, 8, RED), (8, 40, GREEN), (24, 8, BLUE), (24, 40, WHITE)):
            assert np.abs(found[y, x] - colour).max() <= 3

    def test_exif_6_moves_the_top_left_corner_to_the_top_right(self):
        stored = Image.new("RGB", (3, 2), WHITE)
        stored.putpixel((0, 0), RED)
        exif = Image.Exif()
        exif[0x0112] = 6
        found = pixels(encode(stored, "PNG", exif=exif))
        assert found.shape == (3, 2, 3)
        assert found[0, 1].tolist() == list(RED)

    def test_damaged_exif_leaves_the_photo_as_it_is(self):
        data = encode(picture(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
        np.testing.assert_array_equal(pixels(data), np.asarray(picture()))

    def test_transparent_parts_are_white(self):
        image = Image.new("RGBA", (3, 1))
        for x, value in enumerate([(0, 0, 0, 0), (0, 0, 0, 128), (10, 20, 30, 255)]):
            image.putpixel((x, 0), value)
        assert pixels(encode(image, "PNG"))[0].tolist() == [[255] * 3, [127] * 3, [10, 20, 30]]
        grey = Image.merge("LA", (Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 51)))
        assert pixels(encode(grey, "PNG"))[0].tolist() == [[204] * 3]

    def test_transparent_parts_stay_white_when_made_smaller(self):
        image = Image.new("RGBA", (2 * LONG_SIDE, 64))  # transparent black
        assert (pixels(encode(image, "PNG")) == 255).all()

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_palettes(self, kind):
        image = Image.new("P", (3, 1))
        image.putpalette([*RED, *GREEN, *BLUE])
        image.putdata([0, 1, 2])
        assert pixels(encode(image, kind))[0].tolist() == [list(RED), list(GREEN), list(BLUE)]
        assert pixels(encode(image, kind, transparency=1))[0].tolist() == [list(RED), list(WHITE), list(BLUE)]

    def test_cmyk_jpeg(self):
        found = pixels(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)).astype(int)
        assert np.abs(found - RED).max() <= 6

    @pytest.mark.parametrize("mode", ["1", "L"])
    def test_grey_and_black_and_white(self, mode):
        image = Image.new(mode, (2, 1))
        image.putpixel((1, 0), 255)
        assert pixels(encode(image, "PNG"))[0].tolist() == [[0] * 3, [255] * 3]

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
    def test_first_frame_of_animations(self, kind):
        frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
        found = pixels(encode(frames[0], kind, save_all=True, append_images=frames[1:])).astype(int)
        assert np.abs(found - RED).max() <= 6

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_a_large_photo_is_made_smaller_and_keeps_its_shape(self, kind):
        image = Image.new("RGB", (3000, 1500), RED)
        image.paste(BLUE, (1500, 0, 3000, 1500))
        found = pixels(encode(image, kind)).astype(int)
        assert found.shape == (LONG_SIDE // 2, LONG_SIDE, 3)
        assert np.abs(found[:, :500] - RED).max() <= 3
        assert np.abs(found[:, 524:] - BLUE).max() <= 3

    def test_a_photo_of_the_shown_size_is_not_touched(self):
        np.testing.assert_array_equal(pixels(encode(noise(LONG_SIDE, 3), "PNG")), np.asarray(noise(LONG_SIDE, 3)))

    def test_extreme_shapes(self):
        assert pixels(encode(Image.new("L", (1, 1), 7), "PNG")).tolist() == [[[7, 7, 7]]]
        assert pixels(encode(Image.new("L", (30_000, 1), 7), "PNG")).shape == (1, LONG_SIDE, 3)


def heic() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic" + b"\0\0\0\0mif1heic" + bytes(200)


REFUSED = {
    "heic": (heic(), "HEIC photo"),
    "svg": (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing"),
    "bare-svg": (b"<svg></svg>", "SVG drawing"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF document"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "text": ("Grüße".encode(), "holds text"),
    "html": (b"<!DOCTYPE html><html></html>", "web page"),
    "zip": (b"PK\x03\x04" + bytes(60), "ZIP"),
    "mp4": (struct.pack(">I", 24) + b"ftypisom" + bytes(40), "video"),
    "jpeg2000": (encode(picture(), "JPEG2000"), "JPEG 2000"),
    "icon": (encode(picture(32, 32), "ICO"), "icon"),
    "empty": (b"", "empty"),
    "random": (
        np.random.default_rng(0).integers(128, 256, 500, dtype=np.uint8).tobytes(),
        "no picture that the page knows",
    ),
    "truncated-jpeg": (encode(noise(99, 99), "JPEG")[:2000], "JPEG file is cut off or damaged"),
    "truncated-png": (encode(noise(99, 99), "PNG")[:2000], "PNG file is cut off or damaged"),
    "truncated-webp": (encode(noise(99, 99), "WEBP")[:2000], "WebP file is cut off or damaged"),
    "truncated-gif": (encode(noise(99, 99), "GIF")[:2000], "GIF file is cut off or damaged"),
    "header-only-jpeg": (b"\xff\xd8\xff\xe0", "JPEG file is cut off or damaged"),
    "header-only-png": (b"\x89PNG\r\n\x1a\n", "PNG file is cut off or damaged"),
    "float-tiff": (encode(Image.new("F", (4, 4), 0.5), "TIFF"), "32-bit numbers"),
    "int-tiff": (encode(Image.new("I", (4, 4), 70_000), "TIFF"), "32-bit numbers"),
    "too-many-bytes": (bytes(MAX_BYTES + 1), "the page takes 20 MiB"),
    "too-many-pixels": (
        png_header(8000, 7000),
        "8000 x 7000 pixels, which is 56 million, and the page takes 50 million",
    ),
}


class TestSentences:
    @pytest.mark.parametrize("case", REFUSED)
    def test_refused_by_a_sentence_that_names_it(self, case):
        data, words = REFUSED[case]
        with pytest.raises(PhotoError, match=re.escape(words)) as caught:
            decode_photo(data)
        assert re.fullmatch(r"This [^.\n]+(?:\d\.\d)?[^.\n]*\.", str(caught.value)), str(caught.value)

    def test_just_under_the_limit_is_taken(self):
        assert decode_photo(png_header(10_000, 5_000)).image.size == (LONG_SIDE, LONG_SIDE // 2)

    def test_no_sentence_names_a_path(self, tmp_path):
        path = tmp_path / "a secret folder" / "x.jpg"
        with pytest.raises(PhotoError, match="no longer on the server") as caught:
            read_photo(path)
        assert str(tmp_path) not in str(caught.value)

    def test_whatever_is_sent_gives_a_photo_or_a_sentence(self):
        """Damage every kind of file in many ways; nothing but PhotoError may come out."""
        chance = random.Random(0)
        kinds = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"]
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "a camera"
        sources = [encode(noise(24, 16), kind, **({} if kind in ("GIF", "BMP") else {"exif": exif})) for kind in kinds]
        outcomes = set()
        for source in sources:
            for _ in range(60):
                data = bytearray(source[: chance.randrange(8, len(source) + 1)] if chance.random() < 0.3 else source)
                for _ in range(chance.randrange(1, 12)):
                    place = (
                        chance.randrange(len(data)) if chance.random() < 0.4 else chance.randrange(min(200, len(data)))
                    )
                    data[place] = chance.randrange(256)
                try:
                    outcomes.add(decode_photo(bytes(data)).image.mode)
                except PhotoError:
                    outcomes.add("sentence")
        assert outcomes == {"RGB", "sentence"}


def test_a_huge_picture_is_refused_before_it_is_decoded():
    """17 kB that would become 144 MB and more; measured in a process of its own."""
    script = (
        "import resource, sys\n"
        "from ui.photo import PhotoError, decode_photo\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    decode_photo(data)\n"
        "except PhotoError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    data = png_header(12_000, 12_000)
    assert len(data) < 50_000
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=data, capture_output=True, cwd=root, check=True
    )
    sentence, growth_kib = run.stdout.decode().splitlines()
    assert "12000 x 12000 pixels, which is 144 million" in sentence
    assert int(growth_kib) < 20_000


def test_a_picture_that_not_even_the_header_reader_accepts():
    with pytest.raises(PhotoError, match="far more than the 50 million pixels"):
        decode_photo(png_header(20_000, 20_000))


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads" / "0f").mkdir(parents=True)
    return tmp_path / "uploads" / "0f"


class TestField:
    def field(self) -> PhotoInput:
        return PhotoInput(elem_id="photo")

    @pytest.mark.parametrize(
        "name", ["x.png", "a blank.png", "☃.png", "#&%41;.png", "-rf", "no extension", "wrong.svg", "x" * 250]
    )
    def test_an_upload_of_any_name_becomes_a_photo(self, uploads, name):
        (uploads / name).write_bytes(encode(picture(), "PNG"))
        photo = self.field().preprocess(ImageData(path=str(uploads / name), orig_name=name))
        np.testing.assert_array_equal(np.asarray(photo.image), np.asarray(picture()))

    def test_photos_are_numbered_as_they_are_sent_not_as_they_are_decoded(self, uploads, monkeypatch):
        for name in ("long.png", "short.png"):
            (uploads / name).write_bytes(encode(picture(), "PNG"))
        numbers = {}

        def read_after_the_next(path: str) -> Photo:
            if path.endswith("long.png"):
                send("short.png")
            return read_photo(path)

        def send(name: str) -> None:
            numbers[name] = self.field().preprocess(ImageData(path=str(uploads / name))).number

        monkeypatch.setattr("ui.photo.read_photo", read_after_the_next)
        send("long.png")
        assert 0 < numbers["long.png"] < numbers["short.png"]

    def test_an_empty_field_is_none(self, uploads):
        assert self.field().preprocess(None) is None

    def test_a_bad_upload_is_a_toast_with_the_sentence_and_no_trace(self, uploads):
        (uploads / "x.jpg").write_bytes(b"hello")
        with pytest.raises(gr.Error) as caught:
            self.field().preprocess(ImageData(path=str(uploads / "x.jpg")))
        assert caught.value.title == "Photo"
        assert not caught.value.print_exception
        assert caught.value.message.startswith("This file holds text, not a picture")

    def foreign(self, uploads) -> list[str]:
        outside = uploads.parents[1] / "outside.png"
        outside.write_bytes(encode(picture(), "PNG"))
        (uploads / "link.png").symlink_to(outside)
        inside = [str(uploads / "link.png"), str(uploads / ".." / ".." / "outside.png")]
        return [
            *inside,
            str(outside),
            "/etc/passwd",
            "app.py",
            "http://127.0.0.1/x.png",
            "file:///etc/passwd",
            "a\0b",
            "",
        ]

    def test_files_that_were_not_uploaded_are_not_opened(self, uploads):
        field = self.field()
        for path in self.foreign(uploads):
            with pytest.raises(gr.Error, match="was not uploaded to this page"):
                field.preprocess(ImageData(path=path, is_stream=True))

    def test_files_that_were_not_uploaded_are_not_even_copied(self, uploads):
        """Gradio copies a path into its folder before `preprocess`, where a mounted app does not check it."""
        field = self.field()
        for path in self.foreign(uploads):
            with pytest.raises(gr.Error, match="was not uploaded to this page"):
                run(field.async_move_resource_to_block_cache(path))
        assert [path.name for path in uploads.iterdir()] == ["link.png"]

    def test_an_address_alone_is_not_fetched(self, uploads):
        for url in (
            "http://127.0.0.1/x.png",
            "https://example.com/x.png",
            "file:///etc/passwd",
            "data:image/png,x",
            "data:",
        ):
            with pytest.raises(gr.Error, match="fetches no addresses"):
                self.field().preprocess(ImageData(path=None, url=url))

    def test_data_addresses_are_read_and_bounded(self, uploads):
        good = "data:image/png;base64," + base64.b64encode(encode(picture(), "PNG")).decode()
        photo = self.field().preprocess(ImageData(path=None, url=good))
        np.testing.assert_array_equal(np.asarray(photo.image), np.asarray(picture()))
        with pytest.raises(gr.Error, match="the page takes 20 MiB"):
            self.field().preprocess(ImageData(path=None, url="data:image/png;base64," + "A" * (MAX_BYTES * 4 // 3 + 8)))
        with pytest.raises(gr.Error, match="cut off or damaged"):
            self.field().preprocess(ImageData(path=None, url="data:image/png;base64,A*"))

    def test_the_front_end_gets_an_image_field(self, uploads):
        field = self.field()
        assert field.get_block_name() == "image"
        assert field.get_config()["sources"] == ["upload", "webcam", "clipboard"]
        assert "http" not in str(field.example_payload()) + field.example_value()

    def test_no_stub_is_written_beside_the_source(self):
        import ui.photo

        assert not Path(ui.photo.__file__).with_suffix(".pyi").exists()
