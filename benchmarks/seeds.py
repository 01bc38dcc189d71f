"""How far trainings of one network differ by their seed alone, held against how far networks differ by their pooling.

``python -m benchmarks.seeds RUN...`` reads finished trainings (folders of `models.train`) that differ in nothing but
variant and seed, each variant trained from each seed, and writes ``benchmarks/results/seeds.json``. The recipe may be
shorter than that of the weights in ``models/weights``: what the seeds are worth with it is said together with it.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import Annotated, Any

import typer

from benchmarks.machine import describe_run
from models.command import plain_errors
from models.resnet import VARIANTS

RESULTS = Path(__file__).parent / "results"


def read_run(folder: Path) -> tuple[dict[str, Any], float]:
    """Return what a finished training was and its top-1, in percent, on the validation images after its last epoch.

    Raises:
        ValueError: if the training has not ended.
    """
    run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != run["epochs"]:
        raise ValueError(f"{folder} must hold a finished training, it holds {len(rows)} of {run['epochs']} epochs")
    return run, float(rows[-1]["val_top1_percent"])


def gather(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the trainings in one: what they share, and top-1 by variant, in the order of the seeds.

    Raises:
        ValueError: if they differ in more than variant and seed, or a variant lacks a seed that another has.
    """
    shared: dict[str, Any] = {}
    top1: dict[str, dict[int, float]] = {}
    for folder in folders:
        run, accuracy = read_run(folder)
        seed, variant = run["recipe"].pop("seed"), run.pop("variant")
        if shared and run != shared:
            differing = sorted(key for key in run.keys() | shared.keys() if run.get(key) != shared.get(key))
            raise ValueError(f"trainings must differ in variant and seed alone, {folder} differs in {differing}")
        shared = run
        top1.setdefault(variant, {})[seed] = accuracy
    seeds = sorted({seed for of_variant in top1.values() for seed in of_variant})
    for variant, of_variant in top1.items():
        if missing := sorted(set(seeds) - set(of_variant)):
            raise ValueError(f"every variant must be trained from the seeds {seeds}, {variant} lacks {missing}")
    if len(seeds) < 2:
        raise ValueError(f"seeds must be two or more, got {seeds}")
    shared["classes"] = len(shared["classes"])
    ordered = {variant: [top1[variant][seed] for seed in seeds] for variant in VARIANTS if variant in top1}
    return shared | {"seeds": seeds, "top1": ordered}


def standard_error(top1: Mapping[str, Sequence[float]]) -> float:
    """Return the standard error of the difference of two variants' means, from the spread over seeds within each.

    Each variant has as many seeds, and one variance is taken for all: the mean of theirs.
    """
    count = len(next(iter(top1.values())))
    return math.sqrt(2 * fmean(variance(of_variant) for of_variant in top1.values()) / count)


def summary(top1: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation, with n - 1, of each variant."""
    return {name: (fmean(of_variant), stdev(of_variant)) for name, of_variant in top1.items()}


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished trainings.")],
    about: Annotated[Path, typer.Option(help="What data it was: models/imagenette.json, say.")],
    out: Annotated[Path, typer.Option(help="Where the result goes.")] = RESULTS / "seeds.json",
) -> None:
    """Gather trainings that differ in variant and seed."""
    with plain_errors():
        found = {"data": json.loads(about.read_text())["name"]} | gather(runs) | describe_run()
    out.write_text(json.dumps(found, indent=1) + "\n")
    for name, (mean, deviation) in summary(found["top1"]).items():
        typer.echo(f"{name}: {mean:.1f} ± {deviation:.1f} %")


if __name__ == "__main__":
    typer.run(main)
