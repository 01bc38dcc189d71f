"""How long each network takes for one photo on a processor: ``python -m benchmarks.networks``.

All networks of all sets take turns in random order, each checked against a copy of itself in fp64 before it is timed,
as on the page's Speed tab. A GPU's times are `benchmarks.gpu_networks`'.
"""

import json
from datetime import date
from pathlib import Path
from typing import Annotated

import torch
import typer

from models.command import commit
from ui.examples import list_examples
from ui.page import load_networks
from ui.photo import read_photo
from ui.timing import Quartiles, describe_machine, measure, network_candidates

RESULTS = Path(__file__).parent / "results" / "networks.json"


def _three(times: Quartiles) -> dict[str, float]:
    return {"lower": round(times.lower, 3), "median": round(times.median, 3), "upper": round(times.upper, 3)}


def main(
    rounds: Annotated[int, typer.Option(min=2, help="Rounds; 30 or more count.")] = 50,
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS,
) -> None:
    """Measure the networks and write the figures as JSON."""
    torch.set_num_threads(threads)
    photo = read_photo(list_examples()[0].path).image
    networks = [loaded for own in load_networks([], "cpu") for loaded in own.networks]
    *_, timings = measure(network_candidates(networks, photo), rounds)
    rows = [
        {
            "knowledge": loaded.card.knowledge,
            "size": loaded.card.input_size,
            "variant": loaded.card.variant,
            "time_ms": _three(timing.total),
            "pooling_ms": _three(timing.pooling),
        }
        for loaded, timing in zip(networks, timings, strict=True)
    ]
    machine = describe_machine(torch.device("cpu"))
    figures = {"rows": rows, "rounds": rounds, "machine": machine, "commit": commit(), "date": date.today().isoformat()}
    output.write_text(json.dumps(figures, indent=1) + "\n")
    typer.echo(output.read_text())


if __name__ == "__main__":
    typer.run(main)
