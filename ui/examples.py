"""The example photos and the strip of them from which a visitor chooses."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image, ImageOps

from ui.pictures import data_url, jpeg

__all__ = ["CHOOSE", "Example", "chosen_index", "draw_strip", "list_examples"]

ASSETS = Path(__file__).parents[1] / "assets"
THUMBNAIL = (128, 96)  # twice what is shown

# What the strip does when one of its buttons is pressed, by mouse or keyboard: it fires its click with the index.
CHOOSE = """element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button) trigger('click', {index: Number(button.value)});
});"""


@dataclass(frozen=True)
class Example:
    """An example photo: its file, its title, the WordNet id of what it shows (None if no class), and it in words."""

    path: Path
    title: str
    wnid: str | None
    alt: str


def chosen_index(event: gr.EventData, count: int) -> int:
    """Return the index that a strip's click came with.

    Raises:
        gr.Error: if it is none of ``count`` photos.
    """
    index = event._data.get("index") if isinstance(event._data, dict) else None
    if type(index) is not int or not 0 <= index < count:
        raise gr.Error(f"There are {count} photos to choose from.", title="Photo", print_exception=False)
    return index


def list_examples(folder: Path = ASSETS) -> tuple[Example, ...]:
    """Return the examples in their order; the page opens with the first."""
    entries = json.loads((folder / "examples.json").read_text())
    return tuple(
        Example(folder / "examples" / entry["file"], entry["title"], entry["wnid"], entry["alt"]) for entry in entries
    )


@cache
def _thumbnail(path: Path) -> str:
    with Image.open(path) as photo:
        return data_url(jpeg(ImageOps.fit(photo.convert("RGB"), THUMBNAIL)), "image/jpeg")


def draw_strip(examples: Sequence[Example], known: Collection[str]) -> str:
    """Return the strip of thumbnails as HTML; those of nothing that the networks know come apart.

    Args:
        known: WordNet ids of what the networks know.
    """
    lists: dict[bool, list[str]] = {True: [], False: []}
    for index, example in enumerate(examples):
        picture = f'<img src="{_thumbnail(example.path)}" alt="{escape(example.alt)}">'
        lists[example.wnid in known].append(
            f'<li><button type="button" value="{index}">{picture}'
            f"<span>{escape(example.title)}</span></button></li>"
        )
    titles = {True: "Things the networks know", False: "Things they have never seen"}
    return "".join(
        f'<h2 class="ps-strip-title">{titles[one]}</h2><ul class="ps-strip">{"".join(items)}</ul>'
        for one, items in lists.items()
        if items
    )
