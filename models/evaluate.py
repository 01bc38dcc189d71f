"""How well networks do: ``python -m models.evaluate --data FOLDER [--split val] [NAMES...]`` prints JSON.

For each network: top-1, top-5, top-1 of every class, on how many images it alone is right against each other network
of its set and seed, and the calibration error of its probabilities after the card's temperature. (`models.calibrate`
chose the temperature on half of the validation images, so their calibration error is a shade too good.) Then how often
its answer survives a shift (`models.shifts`; ``--no-shifts`` leaves it out), and with ``--corruptions`` its errors
under 15 corruptions at five severities (`models.robustness`) together with mCE, the mean over corruptions of the errors
over those of `stock`. All networks of the same classes see the same shifts and the same corrupted photos. The `stock`
of mCE is as deep and as wide and knows the same classes; where several are given, mCE is relative to their mean.

Names that differ only in an ending ``-seed1``, ``-seed2`` ... are one network trained again: ``seeds`` has their mean
and spread. ``--card`` writes all that was measured into the cards, the spread into that of seed 0. ``--limit`` takes so
many photos, evenly spaced through the split, ``--corrupted`` so many of these for the corruptions. ``--out`` writes the
JSON into a file.
"""

import json
import os
import platform
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, NotRequired, TypedDict

import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from models.command import commit, open_device, plain_errors
from models.data import ClassLabel, Images, normalise, open_images, square
from models.robustness import DIFFERENCES, SIZE, SOURCE, count_errors, mean_corruption_error
from models.shifts import METHOD, measure_consistency, with_rim
from models.zoo import (
    WEIGHTS,
    Accuracy,
    Consistency,
    Description,
    Measured,
    Pair,
    Robustness,
    Spread,
    WeightsName,
    load_network,
    read_description,
    select_weights,
    update_card,
)

__all__ = [
    "Evaluation",
    "calibration_error",
    "compare_hits",
    "compute_logits",
    "evaluate",
    "measure_robustness",
    "spread_over_seeds",
]

BATCH_SIZE = 250


class ClassAccuracy(TypedDict):
    """Top-1 of one class, in percent."""

    words: str
    images: int
    top1: float


class Evaluation(TypedDict):
    """A network's figures on a split, in percent; ``classes`` by WNID."""

    accuracy: Accuracy
    pairs: NotRequired[dict[str, Pair]]
    temperature: float
    classes: dict[str, ClassAccuracy]
    shifts: NotRequired[Consistency]
    corruptions: NotRequired[Robustness]


@torch.no_grad()
def _answers(network: nn.Module, images: Tensor) -> Tensor:
    """Return a network's answers, (N, num_classes) in fp32, to uint8 images (N, 3, S, S) of any number."""
    device = next(network.parameters()).device
    answers = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = normalise(images[start : start + BATCH_SIZE].to(device))
        answers.append(network(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(answers)


def _classify(network: nn.Module, images: Tensor) -> Tensor:
    return _answers(network, images).argmax(dim=1)


def compute_logits(network: nn.Module, images: Images, size: int) -> tuple[Tensor, Tensor]:
    """Return a network's answers to images at ``size`` pixels, (N, num_classes) in fp32, and their labels, (N,)."""
    answers, labels = [], []
    for start in tqdm(range(0, len(images), BATCH_SIZE), "images", unit="batch", leave=False, disable=None):
        pairs = [images[index] for index in range(start, min(start + BATCH_SIZE, len(images)))]
        answers.append(_answers(network, torch.stack([square(image, size) for image, _ in pairs])))
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


def compare_hits(own: Tensor, other: Tensor) -> Pair:
    """Return on how many images each of two networks alone is right, from which ones each is right on, (N,) bool."""
    return Pair(own=int((own & ~other).sum()), other=int((other & ~own).sum()))


def measure_robustness(
    errors: Mapping[str, Mapping[str, Sequence[float]]], baseline: Sequence[str], images: int
) -> dict[str, Robustness]:
    """Return what networks' errors under corruptions amount to.

    Args:
        errors: shares of wrong answers, from 0 to 1, by network, corruption and severity.
        baseline: the networks whose mean errors mCE is relative to; it is None if there are none.
        images: how many photos were corrupted.
    """
    measured = {}
    for name, own in errors.items():
        mce = None
        if baseline:
            stock = {
                corruption: [fmean(seeds) for seeds in zip(*(errors[k][corruption] for k in baseline), strict=True)]
                for corruption in own
            }
            mce = mean_corruption_error(own, stock)
        means = {corruption: 100 * fmean(shares) for corruption, shares in own.items()}
        measured[name] = Robustness(
            images=images,
            severities={corruption: [round(100 * share, 2) for share in shares] for corruption, shares in own.items()},
            errors={corruption: round(mean, 2) for corruption, mean in means.items()},
            mean_error=round(fmean(means.values()), 2),
            mce=None if mce is None else round(mce, 4),
        )
    return measured


def _figures(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures of a network that are compared over seeds."""
    accuracy = evaluation["accuracy"]
    figures = {
        "top1": accuracy["top1"],
        "top5": accuracy["top5"],
        "calibration_error": accuracy["calibration_error"],
    }
    if "shifts" in evaluation:
        figures["crops"], figures["circular"] = evaluation["shifts"]["crops"], evaluation["shifts"]["circular"]
    if "corruptions" in evaluation:
        figures["mean_error"] = evaluation["corruptions"]["mean_error"]
        if (mce := evaluation["corruptions"]["mce"]) is not None:
            figures["mce"] = mce
    return figures


def _spread(values: Sequence[float]) -> Spread:
    return Spread(
        seeds=len(values),
        mean=round(fmean(values), 4),
        min=min(values),
        max=max(values),
        deviation=round(stdev(values), 4),
    )


def _family(name: str) -> str:
    """Return a name without its seed."""
    parts = WeightsName.read(name)
    return name if parts is None else f"{parts.set}-{parts.variant}"


def spread_over_seeds(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, Spread]]:
    """Return, by name without its seed, the spread of each figure over networks that differ in their seed alone.

    A name without ``-seed1``, ``-seed2`` ... belongs to those with it; a network that stands alone has no spread.
    """
    families: dict[str, list[dict[str, float]]] = {}
    for name, evaluation in evaluations.items():
        families.setdefault(_family(name), []).append(_figures(evaluation))
    return {
        family: {
            key: _spread([figures[key] for figures in members])
            for key in members[0]
            if all(key in figures for figures in members)
        }
        for family, members in families.items()
        if len(members) > 1
    }


def _evenly(count: int, most: int | None) -> list[int]:
    """Return so many ranks, evenly spaced, of ``count``; all for None."""
    taken = min(most or count, count)
    return [rank * count // taken for rank in range(taken)]


def _evaluate_alike(
    networks: Mapping[str, nn.Module],
    descriptions: Mapping[str, Description],
    images: Images,
    split: str,
    *,
    limit: int | None,
    shifts: bool,
    corruptions: bool,
    corrupted: int | None,
    seed: int,
) -> dict[str, Evaluation]:
    """Evaluate networks that know the same classes, see photos at the same size and are equally deep and wide."""
    size = next(iter(descriptions.values())).input_size
    indices = _evenly(len(images), limit)
    pairs = [images[index] for index in indices]
    squares, labels = torch.stack([square(image, size) for image, _ in pairs]), torch.tensor([k for _, k in pairs])
    rimmed = torch.stack([with_rim(image, size) for image, _ in pairs]) if shifts else squares
    classifiers: dict[str, Callable[[Tensor], Tensor]] = {}
    results: dict[str, Evaluation] = {}
    hits: dict[str, Tensor] = {}
    for name, network in tqdm(networks.items(), "networks", leave=False, disable=None):
        own = descriptions[name]
        logits = _answers(network, squares)
        hits[name] = logits.argmax(dim=1) == labels
        results[name] = evaluate(logits, labels, own.classes, split, own.temperature)
        classifiers[name] = partial(_classify, network)
        if shifts:
            results[name]["shifts"] = measure_consistency(classifiers[name], squares, rimmed, seed)
    for name, own in descriptions.items():
        results[name]["pairs"] = {
            descriptions[other].variant: compare_hits(hits[name], hits[other])
            for other in networks
            if other != name and descriptions[other].seed == own.seed
        }
    if corruptions:
        ranks = _evenly(len(indices), corrupted)
        count = len(ranks)
        errors = count_errors(classifiers, squares[ranks], labels[ranks], [indices[rank] for rank in ranks], seed)
        baseline = [name for name in networks if descriptions[name].variant == "stock"]
        for name, robustness in measure_robustness(errors, baseline, count).items():
            results[name]["corruptions"] = robustness
    return results


def _describe_machine(device: torch.device) -> dict[str, str | int]:
    """Return what ran the networks and the versions that decide the figures."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        **{package: version(package) for package in ("torchvision", "numpy", "pillow")},
        "python": platform.python_version(),
    }


def main(
    data: Annotated[Path, typer.Option(help="folder of the image set: arrays or a folder per class")],
    names: Annotated[list[str] | None, typer.Argument(help="of the weights; all by default")] = None,
    split: Annotated[str, typer.Option(help="of the image set")] = "val",
    limit: Annotated[int | None, typer.Option(min=1, help="of photos, evenly spaced; all by default")] = None,
    card: Annotated[bool, typer.Option("--card", help="write what was measured into the cards")] = False,
    shifts: Annotated[bool, typer.Option(help="measure shift consistency: four more answers a photo")] = True,
    corruptions: Annotated[bool, typer.Option(help="measure errors under corruptions: 75 more")] = False,
    corrupted: Annotated[int | None, typer.Option(min=1, help="of photos, evenly spaced; all by default")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of shifts and corruptions")] = 0,
    out: Annotated[Path | None, typer.Option(help="file for the JSON instead of standard output")] = None,
    folder: Annotated[Path, typer.Option(help="where the weights lie")] = WEIGHTS,
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda ...")] = "cpu",
) -> None:
    """Write, as JSON, how often networks are right on a split of an image set, and how well that holds."""
    torch.set_num_threads(threads)
    with plain_errors():
        if card and limit is not None:
            raise ValueError(f"limit must be left out with card, which tells of the whole split, got limit={limit}")
        if out is not None and not out.parent.is_dir():
            raise ValueError(f"out must lie in a folder that exists, got {out}")
        place = open_device(device)
        chosen = select_weights(names, folder)
        descriptions = {name: read_description(name, folder) for name in chosen}
        for name, own in descriptions.items():
            if corruptions and own.input_size != SIZE:
                raise ValueError(
                    f"corruptions must be left out for networks that do not see {SIZE} px: {name} sees {own.input_size}"
                )
        networks = {name: load_network(descriptions[name], folder, place) for name in chosen}
        alike: dict[tuple[tuple[str, ...], int, int, int], list[str]] = {}
        for name, own in descriptions.items():
            wnids = tuple(label.wnid for label in own.classes)
            alike.setdefault((wnids, own.input_size, own.depth, own.width), []).append(name)
        opened = [(members, open_images(data, split, wnids)) for (wnids, *_), members in alike.items()]
    results: dict[str, Evaluation] = {}
    for members, images in opened:
        results |= _evaluate_alike(
            {name: networks[name] for name in members},
            {name: descriptions[name] for name in members},
            images,
            split,
            limit=limit,
            shifts=shifts,
            corruptions=corruptions,
            corrupted=corrupted,
            seed=seed,
        )
    spreads = spread_over_seeds(results)
    if card:
        for name, evaluation in results.items():
            measured = Measured(accuracy=evaluation["accuracy"], pairs=evaluation["pairs"])
            if "shifts" in evaluation:
                measured["shifts"] = evaluation["shifts"]
            if "corruptions" in evaluation:
                measured["corruptions"] = evaluation["corruptions"]
            if name in spreads:
                measured["spread"] = spreads[name]
            update_card(name, folder, **measured)
    # The folder's name alone: where it lies on this machine is nobody's business.
    command = ["python", "-m", "models.evaluate", *(names or ()), "--data", data.resolve().name, "--split", split]
    command += [] if limit is None else ["--limit", str(limit)]
    command += ["--shifts" if shifts else "--no-shifts", "--corruptions" if corruptions else "--no-corruptions"]
    command += [] if corrupted is None else ["--corrupted", str(corrupted)]
    command += ["--seed", str(seed), "--threads", str(threads), "--device", device]
    methods: dict[str, str | dict[str, str]] = {}
    if shifts:
        methods["shifts"] = METHOD
    if corruptions:
        methods |= {"corruptions": SOURCE, "differences": DIFFERENCES}
    content = {
        "data": {"name": data.resolve().name, "split": split, "limit": limit},
        "networks": {name: results[name] for name in chosen},
        "seeds": spreads,
        "methods": methods,
        "command": shlex.join(command),
        "machine": _describe_machine(place),
        "commit": commit(),
        "date": date.today().isoformat(),
    }
    text = json.dumps(content, indent=1)
    if out is None:
        typer.echo(text)
    else:
        with plain_errors():
            out.write_text(text + "\n")


if __name__ == "__main__":
    typer.run(main)
