"""Make a network's probabilities mean what they say: ``python -m models.calibrate --data FOLDER [NAMES...]``.

Two numbers of the card are chosen here, both on one half of the validation images:

* the temperature, at which the right class is most likely (Guo et al. 2017, arXiv 1706.04599);
* the threshold, below which the largest probability means "probably none of the things I know" (Hendrycks & Gimpel
  2017, arXiv 1610.02136). Unknown photos are those of the image set's classes that the network was not trained on, or
  of another set's (``--unknown``). At the threshold as large a share of unknown photos is rejected as of known photos
  is kept. (The largest logit, energy, entropy and the margin of the best two guesses gain at most 0.01 of AUROC on
  `stock`, so the plainest was taken.)

How well the threshold does is then measured on the other half: other images of the known classes, and other unknown
classes. For all that concerns the threshold, photos of another set and the known ones are shrunk to the smaller of both
sets' median sides: otherwise it would tell blurred from sharp photos, not strange from known things.
"""

import math
import statistics
from functools import cache
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from models.command import open_device, plain_errors
from models.data import ClassLabel, Images, open_images
from models.evaluate import compute_logits
from models.zoo import WEIGHTS, Rejection, load_network, read_description, select_weights, update_card

__all__ = ["best_probability", "choose_temperature", "choose_threshold", "measure_rejection"]

COLDEST, HOTTEST = 0.05, 20.0
DIGITS = 4  # of the two numbers, in the card


def choose_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T at which the mean cross-entropy of ``logits / T`` is least, between 0.05 and 20.

    The cross-entropy is convex in 1 / T, so thirds of the interval that cannot hold the least value are cut off
    until it is found.

    Shape:
        logits: (N, num_classes); labels: (N,).
    """

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / math.exp(log_temperature), labels))

    low, high = math.log(COLDEST), math.log(HOTTEST)
    while high - low > 1e-6:
        third = (high - low) / 3
        if loss(low + third) < loss(high - third):
            high -= third
        else:
            low += third
    return round(math.exp((low + high) / 2), DIGITS)


def best_probability(logits: Tensor, temperature: float) -> Tensor:
    """Return the largest probability of each answer, (N,) in fp64, of logits (N, num_classes)."""
    return torch.softmax(logits.double() / temperature, dim=1).amax(dim=1)


def choose_threshold(known: Tensor, unknown: Tensor) -> float:
    """Return the value that rejects as large a share of ``unknown``, (M,), as it keeps of ``known``, (N,).

    Kept is what is at least the threshold, rejected what lies below it.
    """
    candidates = torch.unique(torch.cat((known, unknown)).mul(10**DIGITS).round()) / 10**DIGITS
    kept = (known >= candidates[:, None]).double().mean(dim=1)
    rejected = (unknown < candidates[:, None]).double().mean(dim=1)
    return float(candidates[(kept - rejected).abs().argmin()])


class Shrunk:
    """Images whose short side is at most ``size`` pixels."""

    def __init__(self, images: Images, size: int) -> None:
        self.images, self.size = images, size
        self.classes: tuple[ClassLabel, ...] = images.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        if min(image.shape[1:]) > self.size:
            image = v2.resize(image, [self.size], antialias=True)
        return image, label


def median_side(images: Images) -> int:
    """Return the median of images' short sides, in pixels."""
    return statistics.median_low(min(images[index][0].shape[1:]) for index in range(len(images)))


def measure_rejection(known: Tensor, unknown: Tensor, threshold: float, unknown_classes: int, size: int) -> Rejection:
    """Return how well a threshold tells best probabilities of known images, (N,), from those of unknown ones, (M,).

    Args:
        size: side in pixels of the images.
    """
    wins = (known[:, None] > unknown).double() + 0.5 * (known[:, None] == unknown).double()
    return Rejection(
        size=size,
        known_kept=round(100 * float((known >= threshold).double().mean()), 2),
        known_images=len(known),
        unknown_rejected=round(100 * float((unknown < threshold).double().mean()), 2),
        unknown_images=len(unknown),
        unknown_classes=unknown_classes,
        auroc=round(float(wins.mean()), 4),
    )


def main(
    data: Annotated[Path, typer.Option(help="folder of an image set with more classes than the networks know")],
    names: Annotated[list[str] | None, typer.Argument(help="of the weights; all by default")] = None,
    unknown: Annotated[Path | None, typer.Option(help="folder of a set of other things; DATA by default")] = None,
    split: Annotated[str, typer.Option(help="of the image set")] = "val",
    folder: Annotated[Path, typer.Option(help="where the weights lie")] = WEIGHTS,
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda ...")] = "cpu",
) -> None:
    """Choose each network's temperature and threshold, and write them into its card."""
    torch.set_num_threads(threads)
    elsewhere = unknown or data

    @cache
    def open_both(wnids: tuple[str, ...]) -> tuple[Images, Images, int]:
        known = open_images(data, split, wnids)
        others = sorted({label.wnid for label in open_images(elsewhere, split).classes} - set(wnids))
        if len(others) < 2:
            raise ValueError(f"{elsewhere} must hold two classes or more that the networks do not know, got {others}")
        unlike = open_images(elsewhere, split, others)
        return known, unlike, min(median_side(known), median_side(unlike))

    with plain_errors():
        place = open_device(device)
        descriptions = [read_description(name, folder) for name in select_weights(names, folder)]
        networks = [load_network(description, folder, place) for description in descriptions]
        images = [open_both(tuple(label.wnid for label in description.classes)) for description in descriptions]
    for description, network, (known_images, other_images, size) in zip(descriptions, networks, images, strict=True):
        name = description.name
        logits, labels = compute_logits(network, known_images, description.input_size)
        shown = logits
        if unknown is not None:
            known_images, other_images = Shrunk(known_images, size), Shrunk(other_images, size)
            shown, _ = compute_logits(network, known_images, description.input_size)
        other_logits, other_labels = compute_logits(network, other_images, description.input_size)

        order = labels.argsort(stable=True)
        choosing, judging = order[::2], order[1::2]
        temperature = choose_temperature(logits[choosing], labels[choosing])
        known, strange = (best_probability(answers, temperature) for answers in (shown, other_logits))
        threshold = choose_threshold(known[choosing], strange[other_labels % 2 == 0])
        rejection = measure_rejection(
            known[judging], strange[other_labels % 2 == 1], threshold, len(other_images.classes) // 2, size
        )
        update_card(name, folder, temperature=temperature, threshold=threshold, rejection=rejection)
        typer.echo(
            f"{name}: temperature {temperature}, threshold {threshold}, keeps {rejection['known_kept']} % of known and "
            f"rejects {rejection['unknown_rejected']} % of unknown photos, AUROC {rejection['auroc']}"
        )


if __name__ == "__main__":
    typer.run(main)
