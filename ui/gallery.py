"""Where they disagree: photos on which a set's networks split, to be opened in Compare.

The photos and what was said of them come from ``assets/gallery.json``, which ``scripts/make_gallery.py`` writes.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from ui.pictures import data_url, jpeg
from ui.words import NAMES

__all__ = ["Split", "draw_gallery", "list_gallery"]

ASSETS = Path(__file__).parents[1] / "assets"
THUMBNAIL = (160, 120)


@dataclass(frozen=True)
class Split:
    """A photo on which networks split: its file, the truth in words, the picture in words, and each one's best guess.

    Attributes:
        says: label by variant.
        right: the variants whose label is the truth.
    """

    path: Path
    truth: str
    alt: str
    says: dict[str, str]
    right: tuple[str, ...]


def list_gallery(folder: Path = ASSETS) -> dict[str, tuple[Split, ...]]:
    """Return the photos on which networks split, by the name of their set."""
    path = folder / "gallery.json"
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    photos = {photo["file"]: photo for photo in content["photos"]}

    def split(entry: dict[str, object]) -> Split:
        file, says, right = entry["file"], entry["says"], entry["right"]
        assert isinstance(file, str)
        assert isinstance(says, dict)
        assert isinstance(right, list)
        photo = photos[file]
        truth = photo["words"].partition(",")[0]
        return Split(folder / "gallery" / file, truth, photo["alt"], says, tuple(right))

    return {name: tuple(split(entry) for entry in entries) for name, entries in content["sets"].items()}


def draw_gallery(splits: Sequence[Split]) -> str:
    """Return a set's photos as buttons, each with the truth and what the networks say; "" if there are none."""
    if not splits:
        return ""
    items = "".join(_item(index, split) for index, split in enumerate(splits))
    return (
        '<details class="ps-gallery"><summary>Show me where pooling matters</summary>'
        f'<p class="ps-note">{len(splits)} photos on which these networks split, each with what it shows and what they '
        "say. They were picked because the networks disagree: how often each is right in general, the Models tab "
        f'tells.</p><ul class="ps-splits">{items}</ul></details>'
    )


def _item(index: int, split: Split) -> str:
    with Image.open(split.path) as photo:
        picture = data_url(jpeg(ImageOps.fit(photo.convert("RGB"), THUMBNAIL)), "image/jpeg")
    votes = Counter(split.says.values()).most_common()
    answers = "; ".join(
        f"{label}: {', '.join(NAMES[variant] for variant, said in split.says.items() if said == label)}"
        for label, _ in sorted(votes, key=lambda vote: vote[0] != split.truth)
    )
    return (
        f'<li><button type="button" value="{index}"><img src="{picture}" alt="{escape(split.alt)}">'
        f"<strong>{escape(split.truth)}</strong>"
        f"<span>{len(split.right)} of {len(split.says)} right</span></button>"
        f"<small>{escape(answers)}</small></li>"
    )
