"""Draw trainings by epoch: ``python -m models.curves RUN_FOLDER... [--out FILE]`` writes one SVG.

The training loss is above and the validation top-1 below, in the epochs that had one, a colour a run; where the image
size changes, in the same epochs for all runs, a line says so. The SVG is written by hand: it opens anywhere, follows
the reader's dark mode and weighs a few kilobytes.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from models.command import plain_errors

__all__ = ["write_curves"]

# Okabe and Ito's colours that read on white and on black, told apart by those who see fewer; then the same with dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900")
_DASHES = ("none", "7 4", "2 4")

_WIDTH, _LEFT, _RIGHT = 720, 64, 16
_PANEL_HEIGHT, _PANEL_TOP, _GAP = 200, 40, 64

_STYLE = """
svg { background: #ffffff; color: #1c1e22; font: 13px system-ui, sans-serif; font-variant-numeric: tabular-nums }
text { fill: currentColor } .heading { font-weight: 600 } .quiet { opacity: 0.7 }
.grid { stroke: currentColor; opacity: 0.15 } .curve { fill: none; stroke-width: 1.75; stroke-linejoin: round }
@media (prefers-color-scheme: dark) { svg { background: #1a1d24; color: #eceef2 } }
"""


class _Epoch(NamedTuple):
    number: int
    size_px: int
    train_loss: float
    val_top1_percent: float | None


class _Run(NamedTuple):
    name: str
    epochs: list[_Epoch]


def _read_log(path: Path) -> list[_Epoch]:
    with path.open(newline="") as file:
        epochs = [
            _Epoch(
                int(row["epoch"]),
                int(row["size_px"]),
                float(row["train_loss"]),
                float(row["val_top1_percent"]) if row["val_top1_percent"] else None,
            )
            for row in csv.DictReader(file)
        ]
    if not epochs:
        raise ValueError(f"{path} must hold an epoch or more, it holds none yet")
    return epochs


def _ticks(low: float, high: float) -> list[float]:
    """Return three to eight round values, 1, 2 or 5 times a power of ten apart, that enclose a range."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (5, 2, 1) if factor * step <= (high - low) / 2)
    return [round(count * step, 9) for count in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _size_changes(runs: Iterable[_Run]) -> dict[int, int]:
    """Return the image size of each epoch that begins with a new one, or nothing where runs differ."""
    sizes: dict[int, int] = {}
    for run in runs:
        for epoch in run.epochs:
            if sizes.setdefault(epoch.number, epoch.size_px) != epoch.size_px:
                return {}
    return {number: size for number, size in sorted(sizes.items()) if sizes.get(number - 1) != size}


def _colour(place: int) -> str:
    dashes = _DASHES[place // len(_COLOURS) % len(_DASHES)]
    return f'stroke="{_COLOURS[place % len(_COLOURS)]}" stroke-dasharray="{dashes}"'


def _panel(
    heading: str, top: int, curves: Sequence[Sequence[tuple[int, float]]], last_epoch: int, sizes: dict[int, int]
) -> Iterable[str]:
    """Yield the marks of one panel: grid and numbers, a line at each new image size, and the curves with their dots."""
    values = [value for curve in curves for _, value in curve]
    ticks = _ticks(min(values), max(values) + (min(values) == max(values)))
    right, bottom = _WIDTH - _RIGHT, top + _PANEL_HEIGHT

    def x(epoch: float) -> float:
        return round(_LEFT + (right - _LEFT) * (epoch - 1) / max(1, last_epoch - 1), 1)

    def y(value: float) -> float:
        return round(bottom - _PANEL_HEIGHT * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    yield f'<text class="heading" x="{_LEFT}" y="{top - 22}">{heading}</text>'
    for tick in ticks:
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for tick in _ticks(1, max(2, last_epoch)):
        if tick.is_integer() and 1 <= tick <= last_epoch:
            yield f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'
    for number, size in sizes.items():
        # The change lies between two epochs.
        place = x(max(1, number - 0.5))
        yield f'<line class="grid" x1="{place}" x2="{place}" y1="{top}" y2="{bottom}"/>'
        yield f'<text class="quiet" x="{place + 3:.1f}" y="{top - 5}">{size} px</text>'
    for index, curve in enumerate(curves):
        points = " ".join(f"{x(number)},{y(value)}" for number, value in curve)
        yield f'<polyline class="curve" {_colour(index)} points="{points}"/>'
        for number, value in curve:
            dot = f'<circle cx="{x(number)}" cy="{y(value)}" r="2.2" fill="{_COLOURS[index % len(_COLOURS)]}">'
            yield f"{dot}<title>epoch {number}: {value:g}</title></circle>"


def _in_words(run: _Run) -> str:
    """Return what became of a run: its last epoch's loss, and the last top-1 that was taken."""
    last = run.epochs[-1]
    words = f"{run.name}: training loss {last.train_loss:g} in epoch {last.number}"
    for epoch in reversed(run.epochs):
        if epoch.val_top1_percent is not None:
            return f"{words}, top-1 {epoch.val_top1_percent:g} % in epoch {epoch.number}"
    return words


def write_curves(folders: Sequence[Path], path: Path) -> None:
    """Draw the runs in ``folders`` into one SVG.

    Args:
        folders: where `models.train` wrote, at least one; a run still under way is drawn as far as it is.

    Raises:
        OSError: if a folder has no ``log.csv``.
        ValueError: if a run has no epoch behind it.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = [_Run(name, _read_log(folder / "log.csv")) for name, folder in zip(names, folders, strict=True)]
    sizes = _size_changes(runs)
    last_epoch = max(epoch.number for run in runs for epoch in run.epochs)

    losses = [[(epoch.number, epoch.train_loss) for epoch in run.epochs] for run in runs]
    marks = list(_panel("training loss by epoch", _PANEL_TOP, losses, last_epoch, sizes))
    top = _PANEL_TOP + _PANEL_HEIGHT + _GAP
    top1s = [[(e.number, e.val_top1_percent) for e in run.epochs if e.val_top1_percent is not None] for run in runs]
    if any(top1s):
        marks += _panel("validation top-1 in percent by epoch", top, top1s, last_epoch, sizes)
        top += _PANEL_HEIGHT + _GAP
    lines = [_in_words(run) for run in runs]
    for index, line in enumerate(lines):
        y = top + 20 * index - 8
        marks.append(f'<path {_colour(index)} stroke-width="3" d="M{_LEFT} {y - 4}h28"/>')
        marks.append(f'<text x="{_LEFT + 38}" y="{y}">{escape(line)}</text>')
    box = f"0 0 {_WIDTH} {top + 20 * len(runs) - 8}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-labelledby="title">'
    title = f'<title id="title">{escape(". ".join(lines))}</title>'
    path.write_text("\n".join([head, title, f"<style>{_STYLE}</style>", *marks, "</svg>"]) + "\n", encoding="utf-8")


def main(
    run_folders: Annotated[list[Path], typer.Argument(help="folders that models.train wrote")],
    out: Annotated[
        Path | None, typer.Option(help="SVG to write; curves.svg in the run's folder, or beside that of the first")
    ] = None,
) -> None:
    """Draw training loss and validation top-1 of runs into one SVG."""
    with plain_errors():
        place = run_folders[0] if len(run_folders) == 1 else run_folders[0].resolve().parent
        write_curves(run_folders, place / "curves.svg" if out is None else out)


if __name__ == "__main__":
    typer.run(main)
