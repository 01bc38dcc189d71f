"""How often networks are right: ``python -m models.evaluate --data FOLDER [--split val] [NAMES...]`` prints JSON.

For each network: top-1, top-5, top-1 of every class, and the calibration error of its probabilities after the card's
temperature. ``--card`` writes the figures into the card. (`models.calibrate` chose the temperature on half of the
validation images, so their calibration error is a shade too good.)
"""

import json
from pathlib import Path
from typing import Annotated, TypedDict

import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from models.command import open_device, plain_errors
from models.data import ClassLabel, Images, normalise, open_images, square
from models.zoo import WEIGHTS, Accuracy, load_network, read_description, select_weights, update_card

__all__ = ["Evaluation", "calibration_error", "compute_logits", "evaluate"]

BATCH_SIZE = 250


class ClassAccuracy(TypedDict):
    """Top-1 of one class, in percent."""

    words: str
    images: int
    top1: float


class Evaluation(TypedDict):
    """A network's figures on a split, in percent; ``classes`` by WNID."""

    accuracy: Accuracy
    temperature: float
    classes: dict[str, ClassAccuracy]


@torch.no_grad()
def compute_logits(network: nn.Module, images: Images, size: int) -> tuple[Tensor, Tensor]:
    """Return a network's answers to images at ``size`` pixels, (N, num_classes) in fp32, and their labels, (N,)."""
    device = next(network.parameters()).device
    answers, labels = [], []
    for start in tqdm(range(0, len(images), BATCH_SIZE), "images", unit="batch", leave=False, disable=None):
        pairs = [images[index] for index in range(start, min(start + BATCH_SIZE, len(images)))]
        batch = normalise(torch.stack([square(image, size) for image, _ in pairs]).to(device))
        answers.append(network(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
        labels.append(torch.tensor([label for _, label in pairs]))
    return torch.cat(answers), torch.cat(labels)


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error, from 0 to 1 (Guo et al. 2017, arXiv 1706.04599).

    The images are put into bins of equal width by the probability of their best guess; the error is the mean, over
    images, of the distance between a bin's mean probability and its share of right guesses.

    Shape:
        probabilities: (N, num_classes); labels: (N,).
    """
    confidence, guess = probabilities.double().max(dim=1)
    right = (guess == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bin b holds (b / bins, (b + 1) / bins]
    excess = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, right - confidence)
    return float(excess.abs().sum() / len(labels))


def evaluate(
    logits: Tensor, labels: Tensor, classes: tuple[ClassLabel, ...], split: str, temperature: float = 1.0
) -> Evaluation:
    """Return the figures of a network's answers to a labelled split.

    Shape:
        logits: (N, num_classes); labels: (N,).
    """
    ranked = logits.topk(min(5, logits.shape[1])).indices
    hits = ranked == labels[:, None]  # (N, 5)
    error = calibration_error(torch.softmax(logits / temperature, dim=1), labels)
    per_class = {}
    for index, label in enumerate(classes):
        own = hits[labels == index, 0]
        if len(own):
            top1 = round(100 * float(own.double().mean()), 2)
            per_class[label.wnid] = ClassAccuracy(words=label.words, images=len(own), top1=top1)
    accuracy = Accuracy(
        split=split,
        images=len(labels),
        top1=round(100 * float(hits[:, 0].double().mean()), 2),
        top5=round(100 * float(hits.any(dim=1).double().mean()), 2),
        calibration_error=round(100 * error, 2),
    )
    return Evaluation(accuracy=accuracy, temperature=temperature, classes=per_class)


def main(
    data: Annotated[Path, typer.Option(help="folder of the image set: arrays or a folder per class")],
    names: Annotated[list[str] | None, typer.Argument(help="of the weights; all by default")] = None,
    split: Annotated[str, typer.Option(help="of the image set")] = "val",
    card: Annotated[bool, typer.Option("--card", help="write the accuracy into the cards")] = False,
    folder: Annotated[Path, typer.Option(help="where the weights lie")] = WEIGHTS,
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda ...")] = "cpu",
) -> None:
    """Print, as JSON, how often networks are right on a split of an image set."""
    torch.set_num_threads(threads)
    results = {}
    with plain_errors():
        chosen = select_weights(names, folder)
    for name in chosen:
        with plain_errors():
            description = read_description(name, folder)
            network = load_network(description, folder, open_device(device))
            images = open_images(data, split, [label.wnid for label in description.classes])
        logits, labels = compute_logits(network, images, description.input_size)
        results[name] = evaluate(logits, labels, description.classes, split, description.temperature)
        if card:
            update_card(name, folder, accuracy=results[name]["accuracy"])
    typer.echo(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)
