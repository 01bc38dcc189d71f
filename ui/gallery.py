"""Where they disagree: photos on which a set's networks split, to be opened in Compare.

The photos and what was said of them come from ``assets/gallery.json``, which ``scripts/make_gallery.py`` writes.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from ui.pictures import data_url, jpeg
from ui.words import NAMES

__all__ = ["Disagreement", "draw_gallery", "list_gallery"]

ASSETS = Path(__file__).parents[1] / "assets"
THUMBNAIL = (160, 120)


@dataclass(frozen=True)
class Disagreement:
    """A photo on which networks split: its file, the truth in words, the picture in words, and each one's best guess.

    Attributes:
        network_set: the name of the networks' set.
        says: label by variant.
    """

    network_set: str
    path: Path
    truth: str
    alt: str
    says: dict[str, str]

    @property
    def right(self) -> int:
        """How many networks name what the photo shows."""
        return sum(said == self.truth for said in self.says.values())


def list_gallery(variants: Collection[str], folder: Path = ASSETS) -> tuple[Disagreement, ...]:
    """Return the photos on which networks of these variants split, of all sets."""
    content = json.loads((folder / "gallery.json").read_text())
    photos = {photo["file"]: photo for photo in content["photos"]}
    found = []
    for name, entries in content["sets"].items():
        for entry in entries:
            photo, path = photos[entry["file"]], folder / "gallery" / entry["file"]
            says = {variant: label for variant, label in entry["says"].items() if variant in variants}
            if len(set(says.values())) > 1:
                found.append(Disagreement(name, path, photo["words"].partition(",")[0], photo["alt"], says))
    return tuple(found)


def draw_gallery(photos: Sequence[Disagreement], network_set: str) -> str:
    """Return a set's photos as buttons, each with the truth and what the networks say; "" if there are none.

    A button's value is the photo's place among all of ``photos``.
    """
    items = [_item(place, photo) for place, photo in enumerate(photos) if photo.network_set == network_set]
    if not items:
        return ""
    return (
        '<details class="ps-gallery"><summary>Show me where pooling matters</summary>'
        f'<p class="ps-note">Photos on which these networks split: {len(items)}, each with what it shows and what they '
        "say. They were picked because the networks disagree: how often each is right in general, the Models tab "
        f'tells.</p><ul class="ps-splits">{"".join(items)}</ul></details>'
    )


def _item(place: int, seen: Disagreement) -> str:
    with Image.open(seen.path) as photo:
        picture = data_url(jpeg(ImageOps.fit(photo.convert("RGB"), THUMBNAIL)), "image/jpeg")
    votes = Counter(seen.says.values()).most_common()
    answers = "; ".join(
        f"{label}: {', '.join(NAMES[variant] for variant, said in seen.says.items() if said == label)}"
        for label, _ in sorted(votes, key=lambda vote: vote[0] != seen.truth)
    )
    return (
        f'<li><button type="button" value="{place}"><img src="{picture}" alt="{escape(seen.alt)}">'
        f"<strong>{escape(seen.truth)}</strong>"
        f"<span>{seen.right} of {len(seen.says)} right</span></button>"
        f"<small>{escape(answers)}</small></li>"
    )
