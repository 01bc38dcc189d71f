"""The example photos: whole, plain, credited, and labelled with classes that the networks were trained on."""

import io
import json
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from scripts.make_examples import RECIPES, SHORT_SIDE, cut, resource_members

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PHOTOS = sorted((ASSETS / "examples").iterdir())
EXAMPLES = json.loads((ASSETS / "examples.json").read_text(encoding="utf-8"))
CREDITS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ASSETS / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `") and not line.startswith("| `gallery/")
]

# The words of Tiny ImageNet or Imagenette for the everyday classes that a photo may be labelled with.
CLASSES = {
    "n01443537": "goldfish, Carassius auratus",
    "n01910747": "jellyfish",
    "n02056570": "king penguin, Aptenodytes patagonica",
    "n02099601": "golden retriever",
    "n02123045": "tabby, tabby cat",
    "n02129165": "lion, king of beasts, Panthera leo",
    "n01882714": "koala, koala bear, kangaroo bear, native bear, Phascolarctos cinereus",
    "n02509815": "red panda, lesser panda, panda, bear cat, cat bear, Ailurus fulgens",
    "n02504458": "African elephant, Loxodonta africana",
    "n02165456": "ladybug, ladybeetle, lady beetle, ladybird, ladybird beetle",
    "n02279972": "monarch, monarch butterfly, milkweed butterfly, Danaus plexippus",
    "n02814860": "beacon, lighthouse, beacon light, pharos",
    "n04366367": "suspension bridge",
    "n02917067": "bullet train, bullet",
    "n04146614": "school bus",
    "n04285008": "sports car, sport car",
    "n03085013": "computer keyboard, keypad",
    "n04398044": "teapot",
    "n04507155": "umbrella",
    "n04356056": "sunglasses, dark glasses, shades",
    "n03763968": "military uniform",
    "n04008634": "projectile, missile",
    "n07873807": "pizza, pizza pie",
    "n07614500": "ice cream, icecream",
    "n07747607": "orange",
    "n07749582": "lemon",
    "n07753592": "banana",
    "n07920052": "espresso",
    "n09193705": "alp",
    "n03028079": "church",
    "n09428293": "seashore, coast, seacoast, sea-coast",
}
FREE = re.compile(r"public domain(?:, [a-zA-Z ]+)?|\[CC0 1\.0\]\(https://creativecommons\.org/publicdomain/zero/1\.0/\)"
                  r"|\[CC BY (\d\.0)\]\(https://creativecommons\.org/licenses/by/\1/\)")


def test_photos_entries_credits_and_recipes_name_the_same_files() -> None:
    names = sorted(photo.name for photo in PHOTOS)
    assert len(names) >= 8
    assert sorted(example["file"] for example in EXAMPLES) == names
    assert sorted(row[0].strip("`") for row in CREDITS) == names
    assert sorted(RECIPES) == names


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_photo_is_a_small_upright_rgb_jpeg_without_metadata(path: Path) -> None:
    assert path.suffix == ".jpg"
    assert path.stat().st_size < 200_000
    with Image.open(path) as photo:
        photo.load()
        assert photo.format == "JPEG"
        assert photo.mode == "RGB"
        assert len(photo.getexif()) == 0
        assert set(photo.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        # The networks look at 64 px, so even the smallest source has four times what they see.
        assert 256 <= min(photo.size) <= 720
        assert max(photo.size) <= 2 * min(photo.size)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["file"])
def test_entry_has_plain_words_and_a_true_class(example: dict[str, str | None]) -> None:
    assert set(example) == {"file", "title", "class", "wnid", "alt"}
    assert example["title"]
    assert re.fullmatch(r"[A-Z].{20,}\.", example["alt"] or "")
    if example["wnid"] is None:
        assert example["class"] is None
    else:
        assert example["class"] == CLASSES[example["wnid"]]


def test_enough_photos_of_different_classes_and_some_of_none() -> None:
    known = [example["wnid"] for example in EXAMPLES if example["wnid"]]
    assert len(set(known)) == len(known) >= 6
    assert 2 <= len(EXAMPLES) - len(known) <= 4


@pytest.mark.parametrize("row", CREDITS, ids=lambda row: row[0].strip("`"))
def test_credit_is_complete_and_the_licence_is_free(row: list[str]) -> None:
    assert len(row) == 6
    _, what, author, licence, source, changes = row
    assert what
    assert author
    assert FREE.fullmatch(licence)
    assert re.match(r"\S+ \S+ \((PyPI|Debian)\), `[^`]+`", source)
    assert changes


@pytest.mark.parametrize("row", CREDITS, ids=lambda row: row[0].strip("`"))
def test_credit_names_the_source_and_the_crop_of_its_recipe(row: list[str]) -> None:
    recipe = RECIPES[row[0].strip("`")]
    package, _, path = recipe.source.partition("/")
    assert row[4].startswith(f"{package} ")
    assert Path(path).name in row[4]
    assert recipe.member in row[4]
    assert row[5].startswith("cropped") == (recipe.box is not None)


def test_cut_turns_upright_crops_strips_and_never_enlarges() -> None:
    left_red = Image.new("RGB", (80, 40), "blue")
    left_red.paste("red", (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6   # the camera was turned: the picture must be turned a quarter clockwise
    content = io.BytesIO()
    left_red.save(content, "PNG", exif=exif, dpi=(72, 72))

    photo = cut(content.getvalue(), None)
    assert photo.size == (40, 80)
    assert photo.getpixel((20, 10)) == (255, 0, 0)
    assert photo.getpixel((20, 70)) == (0, 0, 255)
    assert not photo.info
    assert len(photo.getexif()) == 0

    assert cut(content.getvalue(), (0, 40, 40, 60)).getpixel((20, 10)) == (0, 0, 255)

    large = io.BytesIO()
    Image.new("L", (4 * SHORT_SIDE, 2 * SHORT_SIDE)).save(large, "PNG")
    assert (cut(large.getvalue(), None).size, cut(large.getvalue(), None).mode) == ((2 * SHORT_SIDE, SHORT_SIDE), "RGB")


def test_resource_members_reads_stored_and_compressed_files() -> None:
    def name(text: str) -> bytes:
        return struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")

    first, second = b"stored", zlib.compress(b"packed " * 9)
    contents = struct.pack(">I", len(first)) + first + struct.pack(">2I", 4 + len(second), 63) + second
    names = name("a.webp") + name("é.webp")
    nodes = (
        struct.pack(">IHIIQ", 0, 2, 2, 1, 0)
        + struct.pack(">IHIIQ", 0, 0, 0, 0, 0)
        + struct.pack(">IHIIQ", len(name("a.webp")), 1, 0, 4 + len(first), 0)
    )
    header = struct.pack(">4s4I", b"qres", 2, 20 + len(contents) + len(names), 20, 20 + len(contents))
    archive = header + contents + names + nodes

    assert dict(resource_members(archive)) == {"/a.webp": b"stored", "/é.webp": b"packed " * 9}
    with pytest.raises(ValueError, match="must begin with b'qres', got b'RIFF'"):
        list(resource_members(b"RIFF"))
