"""Which networks do best with a stranger's photo: ``python -m benchmarks.strangers POOL``.

POOL is the folder into which ``python -m scripts.make_gallery UNPACKED POOL`` cuts its photos; the examples of the page
are looked at too. All of them count, whether or not a set was taught what they show: what a set does not know it cannot
name, and should say so. The pool was gathered for Tiny ImageNet's classes, so it says little of other image sets.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
import typer

from benchmarks.framing import Labelled, read_labelled
from models import zoo
from models.answer import Answer, answer
from models.command import commit
from models.data import read_image

RESULTS = Path(__file__).parent / "results" / "strangers.json"

Row = dict[str, str | float]


def ask(loaded: zoo.Loaded, photos: Sequence[Labelled]) -> list[Answer]:
    """Return what a network says of each photo."""
    with torch.inference_mode():
        return [answer(loaded.network(loaded.preprocess(read_image(one.path)))[0], loaded.card) for one in photos]


def count(said: Sequence[Answer], photos: Sequence[Labelled]) -> dict[str, float]:
    """Return shares of all photos, in percent: how often a network's answers are right, and what it claims to know.

    ``top1``, ``top5``: the truth is its first guess, among its five best. ``named_right``, ``named_wrong``: it says
    that it knows the photo, and its first guess is the truth or not; the rest it takes for none of its things.
    """
    pairs = list(zip(said, photos, strict=True))
    first = [one.top[0].wnid == photo.wnid for one, photo in pairs]
    shares = {
        "top1": first,
        "top5": [photo.wnid in [guess.wnid for guess in one.top] for one, photo in pairs],
        "named_right": [one.known and right for (one, _), right in zip(pairs, first, strict=True)],
        "named_wrong": [one.known and not right for (one, _), right in zip(pairs, first, strict=True)],
    }
    return {name: 100 * fmean(share) for name, share in shares.items()}


def main(
    pool: Annotated[Path, typer.Argument(help="Folder of the photos that scripts.make_gallery has cut.")],
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS,
) -> None:
    """Let every set look at all photos, print the means over its networks, and write the JSON."""
    photos = read_labelled(pool)
    rows: list[Row] = []
    for name, weights in zoo.list_sets().items():
        networks = [zoo.load(one) for one in weights]
        wnids = {label.wnid for label in networks[0].classes}
        counts = [count(ask(loaded, photos), photos) for loaded in networks]
        rows.append({
            "set": name,
            "knowledge": networks[0].card.knowledge,
            "taught": sum(photo.wnid in wnids for photo in photos),
            **{share: round(fmean(one[share] for one in counts), 1) for share in counts[0]},
        })
    found = {"rows": rows, "photos": len(photos), "torch": torch.__version__, "commit": commit()}
    output.write_text(json.dumps(found, indent=1) + "\n")
    typer.echo(output.read_text())


if __name__ == "__main__":
    typer.run(main)
