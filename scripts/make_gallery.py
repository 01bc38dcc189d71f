"""Choose the photos on which the networks disagree, for the gallery in ``assets/gallery``.

``python -m scripts.make_gallery UNPACKED POOL`` cuts all photos of ``gallery_pool.toml`` into the folder POOL, lets the
networks of every set in ``models/weights`` look at them, and writes anew what the page shows: the chosen photos,
``assets/gallery.json``, their rows in ``assets/CREDITS.md`` and, if a photo is under it, the GPL. UNPACKED has one
folder for each of Debian's packages that the table names, named as the package::

    apt-get download gcompris-qt-data
    dpkg -x gcompris-qt-data_*.deb UNPACKED/gcompris-qt-data

A photo keeps its shape; its short side is shrunk to 256 px, which is also what the networks look at here: what is
written of them holds for the files as they lie in ``assets/gallery``.
"""

import io
import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from PIL import Image

from models import zoo
from models.answer import Guess, answer
from models.data import ClassLabel, read_image
from scripts.make_examples import QUALITY, Recipe, cut, read_source, shrink

ASSETS = Path(__file__).resolve().parents[1] / "assets"
TABLE = Path(__file__).with_name("gallery_pool.toml")
SHORT_SIDE = 256
MARGIN = 1 / 10   # of a cut-out's longer side is left white around it
MOST_PHOTOS, MOST_OF_A_CLASS = 12, 2
GPL = Path("/usr/share/common-licenses/GPL-2")
BEGIN, END = "<!-- gallery: made by scripts/make_gallery.py -->\n", "<!-- end of gallery -->\n"


class Photo(NamedTuple):
    """A photo of the pool: where it comes from, what it shows, and to whom it is owed.

    ``cutout``: the source holds the thing alone, without a background; ``there``: what its package changed before.
    """

    file: str
    source: str
    wnid: str
    title: str
    alt: str
    author: str
    licence: str
    member: str = ""
    box: Sequence[int] = ()
    cutout: bool = False
    there: str = ""


class Pool(NamedTuple):
    """The photos to choose from, the versions of their packages, and where their licences can be read."""

    photos: tuple[Photo, ...]
    packages: dict[str, str]
    licences: dict[str, str]


class Answers(NamedTuple):
    """The networks' first guesses at a photo, by their variant, and how many of them say that they know it."""

    photo: Photo
    guesses: Mapping[str, Guess]
    sure: int

    @property
    def right(self) -> list[str]:
        """The variants that name what the photo shows."""
        return [variant for variant, guess in self.guesses.items() if guess.wnid == self.photo.wnid]

    @property
    def is_known(self) -> bool:
        """Whether the page names what it sees, rather than say "probably none" (`ui.words.verdict`)."""
        return 2 * self.sure >= len(self.guesses)

    @property
    def split(self) -> float:
        """How many answers there are and how evenly the networks part over them: the entropy of the guesses, in bits.

        0 when all agree, 1 for three against three, log2(6) for six networks with an answer each.
        """
        counts = Counter(guess.wnid for guess in self.guesses.values()).values()
        return math.log2(sum(counts)) - sum(count * math.log2(count) for count in counts) / sum(counts)


def read_pool(path: Path = TABLE) -> Pool:
    """Return the table of photos to choose from."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return Pool(tuple(Photo(**entry) for entry in content["photo"]), content["packages"], content["licences"])


def on_white(content: bytes) -> Image.Image:
    """Return the middle of a white square on which a thing without background lies, with a margin around it."""
    thing = Image.open(io.BytesIO(content)).convert("RGBA")
    side = round(max(thing.size) * (1 + 2 * MARGIN))
    ground = Image.new("RGBA", (side, side), "white")
    ground.alpha_composite(thing, ((side - thing.width) // 2, (side - thing.height) // 2))
    return ground.convert("RGB")


def cut_pool(photos: Sequence[Photo], unpacked: Path, folder: Path) -> None:
    """Write every photo of the pool, as small as it would be shown."""
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        left, top, right, bottom = photo.box or (0, 0, 0, 0)
        box = (left, top, right, bottom) if photo.box else None
        content = read_source(unpacked, Recipe(photo.source, photo.member, box))
        small = shrink(on_white(content), SHORT_SIDE) if photo.cutout else cut(content, box, SHORT_SIDE)
        small.save(folder / photo.file, quality=QUALITY, optimize=True)


def ask(names: Sequence[str], photos: Sequence[Photo], folder: Path) -> tuple[list[Answers], dict[str, ClassLabel]]:
    """Let the networks of one set look at the photos whose class they know.

    Returns:
        What they say of each such photo, and their classes by WordNet id.
    """
    networks = [zoo.load(name) for name in names]
    classes = {label.wnid: label for label in networks[0].classes}
    answers = []
    for photo in photos:
        if photo.wnid not in classes:
            continue
        image = read_image(folder / photo.file)
        with torch.inference_mode():
            logits = [loaded.network(loaded.preprocess(image))[0] for loaded in networks]
        said = {
            loaded.card.variant: answer(some, loaded.card, 1) for loaded, some in zip(networks, logits, strict=True)
        }
        guesses: dict[str, Guess] = {variant: one.top[0] for variant, one in said.items()}
        answers.append(Answers(photo, guesses, sum(one.known for one in said.values())))
    return answers, classes


def choose(answers: Sequence[Answers]) -> list[Answers]:
    """Return the photos on which the networks split most, the most split first, after them those that are not known.

    At least one network is right; no class has more than `MOST_OF_A_CLASS` photos, and there are at most `MOST_PHOTOS`.
    """
    chosen: list[Answers] = []
    of_a_class: Counter[str] = Counter()
    split = [some for some in answers if some.split > 0 and some.right]
    for some in sorted(split, key=lambda some: (some.is_known, some.split), reverse=True):
        if of_a_class[some.photo.wnid] < MOST_OF_A_CLASS and len(chosen) < MOST_PHOTOS:
            of_a_class[some.photo.wnid] += 1
            chosen.append(some)
    return chosen


def credit(photo: Photo, pool: Pool) -> str:
    """Return a photo's row in the table of credits."""
    package, _, path = photo.source.partition("/")
    place = f"{Path(path).name}: {photo.member}" if photo.member else path
    source = f"{package} {pool.packages[package]} (Debian), `{place}`"
    source += f"; {photo.there} there" if photo.there else ""
    link = pool.licences[photo.licence]
    changes = "set on white, shrunk" if photo.cutout else "cropped, shrunk" if photo.box else "shrunk"
    licence = f"[{photo.licence}]({link})" if link else photo.licence
    return f"| `gallery/{photo.file}` | {photo.title} | {photo.author} | {licence} | {source} | {changes} |"


def write_credits(photos: Sequence[Photo], pool: Pool, path: Path) -> None:
    """Write the photos' rows between the marks that hold their table."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    header = "| File | What | Author | Licence | Source | Changes |\n| --- | --- | --- | --- | --- | --- |\n"
    rows = "".join(f"{credit(photo, pool)}\n" for photo in photos)
    path.write_text(f"{before}{BEGIN}{header}{rows}{END}{after}", encoding="utf-8")


def _lines(entries: Sequence[object]) -> str:
    return "[\n" + ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in entries) + "\n ]"


def main(
    unpacked: Annotated[Path, typer.Argument(help="Folder with one folder for each unpacked package.")],
    folder: Annotated[Path, typer.Argument(metavar="POOL", help="Where all the cut photos go.")],
    assets: Annotated[Path, typer.Option(help="Where gallery/, gallery.json and CREDITS.md lie.")] = ASSETS,
) -> None:
    """Cut the pool, choose the photos on which the networks of each set split, and write the gallery."""
    pool = read_pool()
    cut_pool(pool.photos, unpacked, folder)
    chosen: dict[str, list[Answers]] = {}
    words: dict[str, str] = {}
    for name, weights in zoo.list_sets().items():
        answers, classes = ask(weights, pool.photos, folder)
        words |= {wnid: label.words for wnid, label in classes.items()}
        chosen[name] = choose(answers)
        split = sum(some.split > 0 for some in answers)
        typer.echo(f"{name}: knows {len(answers)} photos, splits on {split}, {len(chosen[name])} chosen")
    shown = {some.photo.file for answers in chosen.values() for some in answers}
    photos = [photo for photo in pool.photos if photo.file in shown]

    gallery = assets / "gallery"
    gallery.mkdir(exist_ok=True)
    for path in gallery.iterdir():
        path.unlink()
    for photo in photos:
        (gallery / photo.file).write_bytes((folder / photo.file).read_bytes())
    entries = _lines([
        {"file": p.file, "title": p.title, "wnid": p.wnid, "words": words[p.wnid], "alt": p.alt} for p in photos
    ])
    sets = ",\n".join(
        f" {json.dumps(name)}: " + _lines([
            {
                "file": some.photo.file,
                "says": {variant: guess.label for variant, guess in some.guesses.items()},
                "right": some.right,
                "sure": some.sure,
            }
            for some in answers
        ])
        for name, answers in chosen.items()
    )
    (assets / "gallery.json").write_text(f'{{"photos": {entries},\n"sets": {{\n{sets}\n}}}}\n', encoding="utf-8")
    write_credits(photos, pool, assets / "CREDITS.md")
    (assets / "GPL-2.txt").unlink(missing_ok=True)
    if any(photo.licence == "GPL 2" for photo in photos):   # it asks that its text goes along
        (assets / "GPL-2.txt").write_text(GPL.read_text())


if __name__ == "__main__":
    typer.run(main)
