"""Small image sets, small networks and a way to run a command line, all without any file from outside."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from models.export import export
from models.resnet import VARIANTS, resnet
from models.train import Recipe
from models.zoo import Accuracy, Rejection, update_card

ABOUT = Path(__file__).resolve().parents[2] / "models" / "tinyimagenet.json"
WNIDS = [f"n{index:08d}" for index in range(6)]
WORDS = ["red, red thing", "green, green thing", "blue", "yellow", "cyan", "magenta"]
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [220, 220, 30], [30, 220, 220], [220, 30, 220]])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_arrays(folder: Path, *, classes: int = 4, train: int = 16, val: int = 8, size: int = 16) -> Path:
    """Write an image set of coloured noise, one colour a class, with so many images a class."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("val", val)):
        labels = np.repeat(np.arange(classes), count)
        noise = generator.normal(0, 25, (len(labels), size, size, 3))
        images = (COLOURS[labels][:, None, None] + noise).clip(0, 255).astype(np.uint8)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)
    lines = [f"{wnid}\t{words}\n" for wnid, words in zip(WNIDS[:classes], WORDS, strict=False)]
    (folder / "classes.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    return write_arrays(tmp_path / "data")


def write_run(folder: Path, variant: str, *, classes: int = 3, size: int = 32, seed: int = 0) -> Path:
    """Write a run folder of an untrained network, in which every tensor has random values."""
    torch.manual_seed(7)
    network = resnet(18, variant, width=4, stem="small", num_classes=classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    recipe = Recipe(schedule=((16, 1), (size, 2)), seed=seed)
    run = {
        "depth": 18,
        "variant": variant,
        "width": 4,
        "stem": "small",
        "input_size": size,
        "classes": [{"wnid": wnid, "words": words} for wnid, words in zip(WNIDS[:classes], WORDS, strict=False)],
        "train_images": 640,
        "val_images": 30,
        "epochs": 3,
        "recipe": asdict(recipe),
    }
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "weights.safetensors")
    (folder / "run.json").write_text(json.dumps(run))
    return folder


ACCURACY = Accuracy(split="val", images=30, top1=40.0, top5=100.0, calibration_error=5.0)
REJECTION = Rejection(
    size=32, known_kept=70.0, known_images=15, unknown_rejected=60.0, unknown_images=20, unknown_classes=2, auroc=0.7
)


@pytest.fixture(scope="session")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/ of all six variants and weights/ made from them, in another order than theirs."""
    place = tmp_path_factory.mktemp("exported")
    for variant in reversed(VARIANTS):
        name = export(write_run(place / "runs" / variant, variant), ABOUT, folder=place / "weights")
        measured = {"temperature": 2.0, "threshold": 0.4, "rejection": REJECTION, "accuracy": ACCURACY}
        update_card(name, place / "weights", **measured)
    return place


@pytest.fixture
def weights(_exported: Path, tmp_path: Path) -> Path:
    """A folder of a test's own with complete weights of all six variants; their runs lie in ``runs`` beside it."""
    shutil.copytree(_exported, tmp_path, dirs_exist_ok=True)
    return tmp_path / "weights"


class Ended:
    """What a command left: its exit status, what it wrote to standard output and to standard error."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def command() -> Callable[..., Ended]:
    """Run a command's main function with arguments as a shell would give them."""

    def run(main: Callable[..., None], *arguments: str | Path) -> Ended:
        app = typer.Typer()
        app.command()(main)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run
