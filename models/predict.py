"""Print what each network says of a photo: ``python -m models.predict PHOTO``, set by set."""

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import torch
import typer

from models.answer import Answer, answer
from models.command import open_device, plain_errors
from models.data import read_image
from models.zoo import WEIGHTS, Loaded, list_sets, load, select_weights, set_of

__all__ = ["table"]

UNKNOWN = "probably none of the things I know"


def table(answers: Sequence[tuple[str, float, Answer]]) -> str:
    """Return one line for each (variant, milliseconds, answer), with the guesses in columns."""
    rows = []
    for name, milliseconds, said in answers:
        guesses = [f"{guess.label} {100 * guess.probability:.0f} %" for guess in said.top]
        rows.append([name, f"{milliseconds:.1f} ms", *guesses, "" if said.known else UNKNOWN])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for name, time_ms, *cells in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths[2:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), time_ms.rjust(widths[1]), *padded]).rstrip())
    return "\n".join(lines)


def main(
    photo: Annotated[Path, typer.Argument(help="a picture file")],
    names: Annotated[list[str] | None, typer.Argument(help="of the weights; all by default")] = None,
    folder: Annotated[Path, typer.Option(help="where the weights lie")] = WEIGHTS,
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda ...")] = "cpu",
) -> None:
    """Print what each network says of a photo, and how long it took."""
    torch.set_num_threads(threads)
    with plain_errors():
        image = read_image(photo)
        everything = [name for members in list_sets(folder).values() for name in members]
        chosen = select_weights(names or everything, folder)
        networks = [load(name, folder=folder, device=open_device(device)) for name in chosen]

    def ask(loaded: Loaded) -> tuple[str, float, Answer]:
        with torch.inference_mode():
            x = loaded.preprocess(image)
            loaded.network(x)  # the first pass sets things up
            start = time.perf_counter()
            logits = loaded.network(x)[0].cpu()
            milliseconds = 1000 * (time.perf_counter() - start)
        return loaded.card.variant, milliseconds, answer(logits, loaded.card)

    for _, group in groupby(networks, lambda loaded: set_of(loaded.card.name)):
        alike = list(group)
        typer.echo(f"{alike[0].card.knowledge}:\n{table([ask(loaded) for loaded in alike])}")


if __name__ == "__main__":
    typer.run(main)
