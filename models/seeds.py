"""How far trainings of one network differ by their seed alone, held against how far networks differ by their pooling.

``python -m models.seeds RUN... --about FILE --out FILE`` reads finished trainings (folders of `models.train`) that
differ in nothing but variant and seed, each variant trained from each seed, and writes what they share and their top-1
as JSON. So many trainings ask for a shorter recipe than that of the weights in ``models/weights``: what seeds do is
said together with it.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean, variance
from typing import Annotated, Any, TypedDict, cast

import torch
import typer

from models.command import commit, plain_errors
from models.resnet import VARIANTS, Variant

__all__ = ["SeedRuns", "deviation", "gather", "read_seed_runs", "standard_error"]


class SeedRuns(TypedDict):
    """Trainings that differ in variant and seed alone.

    ``recipe`` has the arguments of `models.train.Recipe` but for the seed; ``top1`` is in percent, on ``val_images``
    validation images after the last epoch, by variant, in the order of ``seeds``; ``torch``, ``commit`` and ``date``
    are those of the gathering.
    """

    data: str
    depth: int
    width: int
    stem: str
    input_size: int
    classes: int
    train_images: int
    val_images: int
    epochs: int
    recipe: dict[str, Any]
    seeds: list[int]
    top1: dict[Variant, list[float]]
    torch: str
    commit: str
    date: str


def _read_run(folder: Path) -> tuple[dict[str, Any], float]:
    """Return what a finished training was, and its top-1 in percent after its last epoch."""
    run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != run["epochs"]:
        raise ValueError(f"{folder} must hold a finished training, it holds {len(rows)} of {run['epochs']} epochs")
    return run, float(rows[-1]["val_top1_percent"])


def gather(folders: Sequence[Path], data: str) -> SeedRuns:
    """Return trainings in one.

    Args:
        folders: of one training each.
        data: the name of the images.

    Raises:
        ValueError: if one has not ended, if they differ in more than variant and seed or do not differ at all, if a
            variant lacks a seed that another has, or if there is but one seed.
    """
    shared: dict[str, Any] = {}
    top1: dict[Variant, dict[int, float]] = {}
    for folder in folders:
        run, accuracy = _read_run(folder)
        seed, variant = run["recipe"].pop("seed"), run.pop("variant")
        if shared and run != shared:
            differing = sorted(key for key in run.keys() | shared.keys() if run.get(key) != shared.get(key))
            raise ValueError(f"trainings must differ in variant and seed alone, {folder} differs in {differing}")
        shared = run
        of_variant = top1.setdefault(variant, {})
        if seed in of_variant:
            raise ValueError(f"each training must be given once, {folder} is another of {variant} from seed {seed}")
        of_variant[seed] = accuracy
    seeds = sorted({seed for of_variant in top1.values() for seed in of_variant})
    for variant, of_variant in top1.items():
        if missing := sorted(set(seeds) - set(of_variant)):
            raise ValueError(f"every variant must be trained from the seeds {seeds}, {variant} lacks {missing}")
    if len(seeds) < 2:
        raise ValueError(f"seeds must be two or more, got {seeds}")
    found = shared | {
        "data": data,
        "classes": len(shared["classes"]),
        "seeds": seeds,
        "top1": {variant: [top1[variant][seed] for seed in seeds] for variant in VARIANTS if variant in top1},
        "torch": torch.__version__,
        "commit": commit(),
        "date": date.today().isoformat(),
    }
    return cast(SeedRuns, found)


def read_seed_runs(folder: Path) -> list[SeedRuns]:
    """Return what `main` wrote into a folder, in the order of the files' names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def deviation(top1: Mapping[Variant, Sequence[float]]) -> float:
    """Return the standard deviation of one training by its seed alone, pooled over the variants.

    Each variant has as many seeds, and one variance is taken for all: the mean of theirs.
    """
    return math.sqrt(fmean(variance(of_variant) for of_variant in top1.values()))


def standard_error(top1: Mapping[Variant, Sequence[float]]) -> float:
    """Return the standard error of the difference of two variants' means over their seeds."""
    count = len(next(iter(top1.values())))
    return deviation(top1) * math.sqrt(2 / count)


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished trainings.")],
    about: Annotated[Path, typer.Option(help="What data it was: models/imagenette.json, say.")],
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")],
) -> None:
    """Gather trainings that differ in variant and seed."""
    with plain_errors():
        found = gather(runs, json.loads(about.read_text())["name"])
        out.write_text(json.dumps(found, indent=1) + "\n")
    typer.echo(f"By seeds alone, a difference of two means has a standard error of {standard_error(found['top1']):.2f}")


if __name__ == "__main__":
    typer.run(main)
