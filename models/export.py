"""Make weights of a training run: ``python -m models.export runs/lip --about models/imagenette.json``.

The run is what `models.train` left: run.json with weights.safetensors, or, if it has not ended, the EMA in its
checkpoint. `models.storage` says how weights are stored. `models.calibrate` and `models.evaluate --card` then make the
description a card.
"""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from models.command import plain_errors
from models.data import ClassLabel, describe_preprocessing
from models.resnet import count_macs, count_parameters, resnet
from models.storage import STORAGE, pack
from models.zoo import WEIGHTS, DataFacts, Description, WeightsName, write_description

__all__ = ["export"]

LICENCE = "MIT for the code; the weights carry the terms of their data"


def _averages(run_folder: Path, run: dict[str, Any]) -> tuple[dict[str, Tensor], int]:
    """Return the EMA's state dict and the epochs behind it."""
    weights, checkpoint = run_folder / "weights.safetensors", run_folder / "checkpoint.safetensors"
    if weights.exists():
        with safe_open(weights, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, run["epochs"]  # noqa: SIM118 - not a dict
    with safe_open(checkpoint, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith("average.")]  # noqa: SIM118 - not a dict
        steps_per_epoch = run["train_images"] // run["recipe"]["batch_size"]
        averages = {key.removeprefix("average."): file.get_tensor(key) for key in keys}
        return averages, int(file.metadata()["step"]) // steps_per_epoch


def _with_first(label: str | None, words: str) -> str:
    """Return a class's words with one of them, if any is named, put first."""
    parts = words.split(", ")
    if label is not None and label not in parts:
        raise ValueError(f"labels must be among a class's words {words!r}, got {label!r}")
    return ", ".join(sorted(parts, key=lambda word: word != label))


def export(run_folder: Path, about: Path, *, name: str | None = None, folder: Path = WEIGHTS) -> str:
    """Write NAME.safetensors and the description NAME.json of a training run, and return NAME.

    Args:
        run_folder: where `models.train` wrote.
        about: JSON file on the images: name, description, url, terms; ``labels``, if there, says by WordNet id which of
            a class's words comes first, where WordNet's first misleads.
        name: of the weights, SET-VARIANT, for another seed than 0 SET-VARIANT-seedN; None makes a set's name like
            "resnet18-w32-tinyimagenet30" from the network, the name of the file ``about`` and the number of classes.
        folder: where the weights go.

    Raises:
        OSError: if a file is missing.
        ValueError: if the name has another form, variant or seed than the run's, or a label is none of its words.
    """
    run = json.loads((run_folder / "run.json").read_text())
    averages, epochs = _averages(run_folder, run)
    images = json.loads(about.read_text())
    labels = images.get("labels", {})
    trained = (ClassLabel(**label) for label in run["classes"])
    classes = tuple(ClassLabel(one.wnid, _with_first(labels.get(one.wnid), one.words)) for one in trained)
    network = resnet(run["depth"], run["variant"], width=run["width"], stem=run["stem"], num_classes=len(classes))
    network.load_state_dict(averages)
    seed = run["recipe"]["seed"]
    if name is None:
        name = f"resnet{run['depth']}-w{run['width']}-{about.stem}{len(classes)}-{run['variant']}"
        name += f"-seed{seed}" if seed else ""
    parts, ending = WeightsName.read(name), f"-{run['variant']}" + (f"-seed{seed}" if seed else "")
    if parts is None or parts[1:] != (run["variant"], seed):
        raise ValueError(f"name must be a set's name with {ending} after it, got {name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    content = save(pack(network))
    (folder / f"{name}.safetensors").write_bytes(content)
    data = DataFacts(
        name=images["name"],
        description=images["description"],
        url=images["url"],
        terms=images["terms"],
        train_images=run["train_images"],
        val_images=run["val_images"],
    )
    description = Description(
        name=name,
        variant=run["variant"],
        depth=run["depth"],
        width=run["width"],
        stem=run["stem"],
        input_size=run["input_size"],
        preprocessing=describe_preprocessing(run["input_size"]),
        classes=classes,
        data=data,
        recipe=run["recipe"],
        seed=run["recipe"]["seed"],
        epochs=epochs,
        parameters=count_parameters(network),
        macs=count_macs(network, run["input_size"]),
        licence=f"{LICENCE}: {data['terms']}",
        date=date.today().isoformat(),
        sha256=hashlib.sha256(content).hexdigest(),
        storage=STORAGE,
    )
    write_description(description, folder)
    return name


def main(
    run_folder: Annotated[Path, typer.Argument(help="folder that models.train wrote")],
    about: Annotated[Path, typer.Option(help="JSON file on the images: name, description, url, terms")],
    name: Annotated[str | None, typer.Option(help="of the weights; made from network and data by default")] = None,
    folder: Annotated[Path, typer.Option(help="where the weights go")] = WEIGHTS,
) -> None:
    """Make a weights file and its description from a training run."""
    with plain_errors():
        typer.echo(export(run_folder, about, name=name, folder=folder))


if __name__ == "__main__":
    typer.run(main)
