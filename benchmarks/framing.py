"""How a photo that is not square is best brought to the networks' square: ``python -m benchmarks.framing POOL``.

POOL is the folder into which ``python -m scripts.make_gallery UNPACKED POOL`` cuts its photos; the labelled examples of
the page are looked at too. Of all these count the photos at least `RATIO` times as long as wide, of what the networks
know. They are few, so each framing's gain over today's is given with its standard error over photos. Half of them show
land or sea, of which any part tells the whole; the other half, of things, is counted once more by itself.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from models import zoo
from models.command import commit
from models.data import MEAN, normalise, read_image, square
from scripts.make_gallery import read_pool

RESULTS = Path(__file__).parent / "results" / "framing.json"
ASSETS = Path(__file__).resolve().parents[1] / "assets"
RATIO = 1.2
SCENES = ("n09193705", "n09246464", "n09256479", "n09332890", "n09428293")   # alp, cliff, coral reef, lake-, seashore
TODAY = "middle 8/9 square"

Framing = Callable[[Tensor, int], Tensor]
Row = dict[str, str | float]


class Labelled(NamedTuple):
    """A photo file and the WordNet id of what it shows, empty if no set of images here has that."""

    path: Path
    wnid: str


class Look(NamedTuple):
    """How one network judged one photo: the rank of the truth, from 0, and the logarithm of its probability."""

    rank: int
    log_probability: float


def middle(image: Tensor, size: int) -> Tensor:
    """Return the middle square of an image whose side is the image's short side."""
    squared: Tensor = center_crop(resize(image, [size], antialias=True), [size])
    return squared


def squeeze(image: Tensor, size: int) -> Tensor:
    """Return the whole image, its sides made equal."""
    squared: Tensor = resize(image, [size, size], antialias=True)
    return squared


def _whole(image: Tensor, size: int) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Return the image shrunk to its long side, and how much it lacks left, right, above and below."""
    height, width = image.shape[-2:]
    scale = size / max(height, width)
    small: Tensor = resize(image, [round(height * scale), round(width * scale)], antialias=True)
    down, right = size - small.shape[-2], size - small.shape[-1]
    return small, (right // 2, right - right // 2, down // 2, down - down // 2)


def pad_mean(image: Tensor, size: int) -> Tensor:
    """Return the whole image in a square of ImageNet's mean colour, which becomes 0 in the network."""
    small, (left, right, above, below) = _whole(image, size)
    ground = torch.tensor([round(255 * mean) for mean in MEAN], dtype=torch.uint8)[:, None, None].repeat(1, size, size)
    ground[:, above : size - below, left : size - right] = small
    return ground


def pad_edge(image: Tensor, size: int) -> Tensor:
    """Return the whole image in a square, its outermost pixels repeated."""
    small, lacking = _whole(image, size)
    return F.pad(small.float(), lacking, mode="replicate").to(torch.uint8)


def pad_reflection(image: Tensor, size: int) -> Tensor:
    """Return the whole image in a square, mirrored at its edges.

    Raises:
        ValueError: the image is too long to be mirrored once.
    """
    if max(image.shape[-2:]) > 2.5 * min(image.shape[-2:]):
        raise ValueError(f"image must be at most 2.5 times as long as wide, got shape {tuple(image.shape)}")
    small, lacking = _whole(image, size)
    return F.pad(small.float(), lacking, mode="reflect").to(torch.uint8)


FRAMINGS: dict[str, Framing] = {
    TODAY: square,
    "middle square": middle,
    "padded with the mean colour": pad_mean,
    "padded with its edge": pad_edge,
    "padded with its reflection": pad_reflection,
    "squeezed": squeeze,
}


def read_labelled(pool: Path) -> list[Labelled]:
    """Return all photos of the pool and of the examples."""
    examples = json.loads((ASSETS / "examples.json").read_text(encoding="utf-8"))
    return [Labelled(pool / photo.file, photo.wnid) for photo in read_pool().photos] + [
        Labelled(ASSETS / "examples" / entry["file"], entry["wnid"] or "") for entry in examples
    ]


def list_photos(pool: Path, known: Sequence[str]) -> list[Labelled]:
    """Return the photos of the pool and of the examples that are not square and show a known class."""

    def ratio(path: Path) -> float:
        with Image.open(path) as photo:
            return max(photo.size) / min(photo.size)

    return [photo for photo in read_labelled(pool) if photo.wnid in known and ratio(photo.path) >= RATIO]


def look(loaded: zoo.Loaded, photos: Sequence[Labelled], framing: Framing) -> list[Look]:
    """Let a network look at photos in a framing."""
    size, wnids = loaded.card.input_size, [label.wnid for label in loaded.classes]
    images = torch.stack([framing(pil_to_tensor(read_image(photo.path)), size) for photo in photos])
    with torch.inference_mode():
        logits = loaded.network(normalise(images).contiguous(memory_format=torch.channels_last))
    logarithms = (logits.double() / loaded.card.temperature).log_softmax(dim=1)
    truths = [row[wnids.index(photo.wnid)] for row, photo in zip(logarithms, photos, strict=True)]
    return [Look(int((row > truth).sum()), float(truth)) for row, truth in zip(logarithms, truths, strict=True)]


def summarise(framing: str, looks: Sequence[Sequence[Look]], today: Sequence[Sequence[Look]]) -> Row:
    """Return a framing's row: accuracies in percent, the mean log-probability of the truth, and its gain over today's.

    Args:
        framing: its name.
        looks: for each network one for each photo.
        today: the same in today's framing.
    """
    everything = [one for of_network in looks for one in of_network]
    count = len(looks[0])
    gains = [
        statistics.fmean(new[photo].log_probability - old[photo].log_probability
                         for new, old in zip(looks, today, strict=True))
        for photo in range(count)
    ]
    return {
        "framing": framing,
        "top1": round(100 * statistics.fmean(one.rank < 1 for one in everything), 1),
        "top5": round(100 * statistics.fmean(one.rank < 5 for one in everything), 1),
        "log_probability": round(statistics.fmean(one.log_probability for one in everything), 3),
        "gain": round(statistics.fmean(gains), 3),
        "gain_standard_error": round(statistics.stdev(gains) / math.sqrt(count), 3),
        "photos": count,
    }


def table(looks: Mapping[str, Sequence[Sequence[Look]]]) -> list[Row]:
    """Return a row for each framing."""
    return [summarise(framing, of_framing, looks[TODAY]) for framing, of_framing in looks.items()]


def main(
    pool: Annotated[Path, typer.Argument(help="Folder of the photos that scripts.make_gallery has cut.")],
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS,
) -> None:
    """Measure every framing with the networks with which the page opens, print, and write the JSON."""
    name, weights = next(iter(zoo.list_sets().items()))
    networks = [zoo.load(one) for one in weights]
    words = {label.wnid: label.label for label in networks[0].classes}
    photos = list_photos(pool, list(words))
    looks = {framing: [look(loaded, photos, frame) for loaded in networks] for framing, frame in FRAMINGS.items()}
    by_variant = {
        loaded.card.variant: table({framing: [some[index]] for framing, some in looks.items()})
        for index, loaded in enumerate(networks)
    }
    things = [index for index, photo in enumerate(photos) if photo.wnid not in SCENES]
    of_things = {framing: [[one[index] for index in things] for one in some] for framing, some in looks.items()}
    found = {
        "set": name,
        "photos": dict(Counter(words[photo.wnid] for photo in photos).most_common()),
        "pooled": table(looks),
        "pooled_without_scenes": table(of_things),
        "by_variant": by_variant,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "commit": commit(),
    }
    output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for row in table(looks) + table(of_things):
        typer.echo(json.dumps(row))


if __name__ == "__main__":
    typer.run(main)
