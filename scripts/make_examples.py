"""Cut the example photos of ``assets/examples`` from the packages that publish them.

``python scripts/make_examples.py UNPACKED [--out FOLDER]`` reads one folder for each package, named as the package::

    pip download --no-deps scikit-image==0.26.0      # a wheel is a zip archive; likewise matplotlib, scikit-learn
    python -m zipfile -e scikit_image-*.whl UNPACKED/scikit-image
    apt-get download gcompris-qt-data                # likewise palapeli-data, lomiri-wallpapers-16.04
    dpkg -x gcompris-qt-data_*.deb UNPACKED/gcompris-qt-data

Each photo is turned upright, cut to its box, shrunk until its short side is at most 560 px (never enlarged) and saved
as an RGB JPEG without metadata. Who took it, and under which licence, is in ``assets/CREDITS.md``; what it shows, in
``assets/examples.json``.
"""

import argparse
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

EXAMPLES = Path(__file__).resolve().parents[1] / "assets" / "examples"
SHORT_SIDE = 560
QUALITY = 85

_SKIMAGE = "scikit-image/skimage/data"
_PALAPELI = "palapeli-data/usr/share/palapeli/collection"
_LOMIRI = "lomiri-wallpapers-16.04/usr/share/backgrounds"
_GCOMPRIS = "gcompris-qt-data/usr/share/gcompris-qt/rcc"


class Recipe(NamedTuple):
    """Where an example comes from: a file, a member if the file is a Qt resource archive, and a box to cut out.

    The box is (left, top, right, bottom) in pixels of the upright source; without one the whole photo stays.
    """

    source: str
    member: str = ""
    box: tuple[int, int, int, int] | None = None


RECIPES = {
    "tabby.jpg": Recipe(f"{_SKIMAGE}/chelsea.png"),
    "espresso.jpg": Recipe(f"{_SKIMAGE}/coffee.png"),
    "rocket.jpg": Recipe(f"{_SKIMAGE}/rocket.jpg", box=(160, 90, 480, 410)),
    "officer.jpg": Recipe("matplotlib/matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
    "bridge.jpg": Recipe(f"{_PALAPELI}/cincinnati-bridge.jpg"),
    "orange.jpg": Recipe(f"{_PALAPELI}/citrus-fruits.jpg", box=(430, 300, 1020, 890)),
    "mountains.jpg": Recipe(f"{_LOMIRI}/picosdeeuropa_by_Aitzol_Berasategi.jpg", box=(980, 260, 3264, 1900)),
    "goldfish.jpg": Recipe(f"{_GCOMPRIS}/categorization.rcc", "categorization/resource/images/fishes/fish25.webp"),
    "koala.jpg": Recipe(
        f"{_GCOMPRIS}/explore_world_animals.rcc",
        "explore_world_animals/resource/animals/koala.webp",
        (64, 150, 704, 900),
    ),
    "red-panda.jpg": Recipe(f"{_GCOMPRIS}/erase.rcc", "erase/resource/red_panda.webp", (420, 0, 1560, 1080)),
    "church.jpg": Recipe(
        f"{_GCOMPRIS}/explore_monuments.rcc", "explore_monuments/resource/france/reimsCathedral.webp"
    ),
    "hedgehog.jpg": Recipe(
        f"{_GCOMPRIS}/explore_world_animals.rcc", "explore_world_animals/resource/animals/hedgehog.webp"
    ),
    "macaw.jpg": Recipe(
        f"{_GCOMPRIS}/explore_world_animals.rcc", "explore_world_animals/resource/animals/scarlet_macaw.webp"
    ),
    "dandelion.jpg": Recipe(f"{_LOMIRI}/seeding_by_Clements_Engelhardt.jpg", box=(300, 0, 3288, 2988)),
    "pagoda.jpg": Recipe("scikit-learn/sklearn/datasets/images/china.jpg"),
}


def resource_members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in a Qt binary resource archive (.rcc).

    A header names three sections by offset: a tree of fixed-size nodes (a folder has a count and the index of its
    first child, a file the offset of its content), UTF-16 names, and contents, each led by its length.

    Raises:
        ValueError: the bytes are no Qt resource archive, or one that is compressed in another way than by zlib.
    """
    if archive[:4] != b"qres":
        raise ValueError(f"archive must begin with b'qres', got {archive[:4]!r}")
    version, tree, contents, names = struct.unpack_from(">4I", archive, 4)
    node_size = 14 if version == 1 else 22   # later versions add the time of the last change
    compressed, folder, zstd = 1, 2, 4

    def walk(index: int, path: str) -> Iterator[tuple[str, bytes]]:
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", archive, node)
        if index:   # the root has no name
            (length,) = struct.unpack_from(">H", archive, names + name_offset)
            start = names + name_offset + 6
            path = f"{path}/{archive[start : start + 2 * length].decode('utf-16-be')}"
        if flags & folder:
            count, first = struct.unpack_from(">2I", archive, node + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        if flags & zstd:
            raise ValueError(f"{path} must be stored or compressed by zlib, got Zstandard")
        (offset,) = struct.unpack_from(">I", archive, node + 10)
        (length,) = struct.unpack_from(">I", archive, contents + offset)
        start = contents + offset + 4
        content = archive[start : start + length]
        yield path, zlib.decompress(content[4:]) if flags & compressed else content

    yield from walk(0, "")


def read_source(unpacked: Path, recipe: Recipe) -> bytes:
    """Return the bytes of the photo that a recipe begins with.

    Raises:
        ValueError: the archive has no such member.
    """
    content = (unpacked / recipe.source).read_bytes()
    if not recipe.member:
        return content
    for path, member in resource_members(content):
        if path.endswith(f"/{recipe.member}"):
            return member
    raise ValueError(f"{recipe.source} must hold {recipe.member}, got an archive without it")


def shrink(photo: Image.Image, short_side: int = SHORT_SIDE) -> Image.Image:
    """Return the RGB photo with its short side at most so many pixels, never enlarged, without metadata."""
    scale = min(1.0, short_side / min(photo.size))
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    bare = Image.new("RGB", photo.size)   # a fresh picture carries no comment, profile or EXIF along
    bare.paste(photo)
    return bare


def cut(content: bytes, box: tuple[int, int, int, int] | None, short_side: int = SHORT_SIDE) -> Image.Image:
    """Return the upright RGB photo, cut to the box and shrunk, without metadata."""
    return shrink(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB").crop(box), short_side)


def main() -> None:
    """Write every example."""
    parser = argparse.ArgumentParser(description="Cut the example photos from the packages that publish them.")
    parser.add_argument("unpacked", type=Path, help="folder with one folder for each unpacked package")
    parser.add_argument("--out", type=Path, default=EXAMPLES, help="where the photos go (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        photo = cut(read_source(options.unpacked, recipe), recipe.box)
        photo.save(options.out / name, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
