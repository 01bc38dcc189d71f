"""Trained networks by name: ``load(name)`` gives the network, how it looks at a photo, its classes and its card.

Weights are two files in `WEIGHTS`: NAME.safetensors and its card NAME.json. NAME is SET-VARIANT: the networks of a set
know the same classes and differ only in how they pool; SET-VARIANT-seed1, -seed2 ... are the same trained again from
another seed. A card is written in three steps:
`models.export` describes the weights (a `Description`), `models.calibrate` and `models.evaluate` measure them, which
makes it a `Card`. Only then are they loaded: no network is served whose accuracy nobody knows.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, get_args

import torch
from PIL import Image
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from models.data import ClassLabel, normalise, square
from models.resnet import VARIANTS, ResNet, Stem, Variant, resnet
from models.storage import unpack

__all__ = [
    "OPENING",
    "WEIGHTS",
    "Accuracy",
    "Card",
    "Consistency",
    "DataFacts",
    "Description",
    "Loaded",
    "Measured",
    "Pair",
    "Rejection",
    "Robustness",
    "Spread",
    "WeightsName",
    "list_sets",
    "list_weights",
    "load",
    "load_network",
    "read_card",
    "read_description",
    "select_weights",
    "set_of",
    "update_card",
    "write_description",
]

WEIGHTS = Path(__file__).parent / "weights"
OPENING = "resnet18-w32-tinyimagenet30"
"""The set that is asked where none is chosen: it names most photos of strangers rightly (benchmarks/strangers.py)."""


class WeightsName(NamedTuple):
    """What the name of weights says."""

    set: str
    variant: Variant
    seed: int

    @classmethod
    def read(cls, name: str) -> "WeightsName | None":
        """Return the parts of a name, None if it has not the form SET-VARIANT or SET-VARIANT-seedN."""
        found = re.fullmatch(rf"(.+)-({'|'.join(VARIANTS)})(?:-seed([1-9]\d*))?", name)
        return None if found is None else cls(found[1], get_args(Variant)[VARIANTS.index(found[2])], int(found[3] or 0))


class DataFacts(TypedDict):
    """The images a network was trained on."""

    name: str
    description: str
    url: str
    terms: str
    train_images: int
    val_images: int


class Accuracy(TypedDict):
    """How often a network is right on a split, in percent; calibration error after the card's temperature."""

    split: str
    images: int
    top1: float
    top5: float
    calibration_error: float


class Rejection(TypedDict):
    """How well the card's threshold tells known photos from unknown ones, on images that did not choose it.

    Shares in percent; ``auroc`` is the chance, from 0 to 1, that a known photo scores above an unknown one; ``size`` is
    the side in pixels at which both were at hand.
    """

    size: int
    known_kept: float
    known_images: int
    unknown_rejected: float
    unknown_images: int
    unknown_classes: int
    auroc: float


class Consistency(TypedDict):
    """The share of photos, in percent, that get the same class at two positions (`models.shifts`)."""

    crops: float
    circular: float


class Robustness(TypedDict):
    """Errors under corruptions (`models.robustness`), in percent: by corruption and severity, their means, and all's.

    ``images`` is the number of photos; ``mce`` is relative to the mean of the set's `stock` networks; None without one
    or where they made no error.
    """

    images: int
    severities: dict[str, list[float]]
    errors: dict[str, float]
    mean_error: float
    mce: float | None


class Pair(TypedDict):
    """On how many images of the split one network alone is right, and on how many another of its set alone."""

    own: int
    other: int


class Spread(TypedDict):
    """Mean, least and largest of a figure over seeds, and its standard deviation with n - 1."""

    seeds: int
    mean: float
    min: float
    max: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a weights file when its training has ended.

    ``input_size`` is in pixels; ``epochs`` those that were trained, ``recipe`` the arguments of `models.train.Recipe`;
    ``macs`` for one image of the input size; ``sha256`` that of the safetensors file. ``temperature`` divides the
    logits before the softmax; below ``threshold`` the largest probability means "probably none of the things I know".
    """

    name: str
    variant: Variant
    depth: int
    width: int
    stem: Stem
    input_size: int
    preprocessing: str
    classes: tuple[ClassLabel, ...]
    data: DataFacts
    recipe: dict[str, Any]
    seed: int
    epochs: int
    parameters: int
    macs: int
    licence: str
    date: str
    sha256: str
    storage: str
    temperature: float = 1.0
    threshold: float = 0.0

    @property
    def knowledge(self) -> str:
        """What the network knows, in a few words: "30 things (Tiny ImageNet)"."""
        return f"{len(self.classes)} things ({self.data['name']})"


@dataclass(frozen=True, kw_only=True)
class Card(Description):
    """A description together with what was measured; None stands for what was not.

    ``pairs`` compares it with the others of its set and seed, by their variant, image by image; ``spread`` holds
    figures over seeds, by name: top1, top5 ...
    """

    accuracy: Accuracy
    rejection: Rejection
    pairs: dict[str, Pair] | None = None
    shifts: Consistency | None = None
    corruptions: Robustness | None = None
    spread: dict[str, Spread] | None = None


class Measured(TypedDict, total=False):
    """What is written into a card after its training."""

    temperature: float
    threshold: float
    rejection: Rejection
    accuracy: Accuracy
    pairs: dict[str, Pair]
    shifts: Consistency
    corruptions: Robustness
    spread: dict[str, Spread]


@dataclass(frozen=True)
class Loaded:
    """A trained network, ready to answer."""

    network: ResNet
    card: Card

    @property
    def classes(self) -> tuple[ClassLabel, ...]:
        """The classes in the order of the network's answer."""
        return self.card.classes

    def preprocess(self, photo: Image.Image) -> Tensor:
        """Return the centre square of an RGB photo as the network wants it, (1, 3, S, S) on the network's device."""
        image = square(pil_to_tensor(photo), self.card.input_size)[None].to(self.network.fc.weight.device)
        return normalise(image).contiguous(memory_format=torch.channels_last)


def set_of(name: str) -> str:
    """Return the name of the set that weights belong to; a name of another form is a set of its own."""
    parts = WeightsName.read(name)
    return name if parts is None else parts.set


def list_weights(folder: Path = WEIGHTS) -> list[str]:
    """Return the names of all weights in a folder: by set, within it in the order of `VARIANTS`, then by seed."""

    def rank(name: str) -> tuple[str, int, int]:
        parts = WeightsName.read(name)
        return (name, 0, 0) if parts is None else (parts.set, VARIANTS.index(parts.variant), parts.seed)

    return sorted((path.stem for path in folder.glob("*.safetensors") if path.with_suffix(".json").exists()), key=rank)


def list_sets(folder: Path = WEIGHTS) -> dict[str, list[str]]:
    """Return the names of the weights of seed 0 by their set: first `OPENING`, then those that know more classes.

    Weights that have not been measured yet are left out.
    """
    sets: dict[str, list[str]] = {}
    classes: dict[str, int] = {}
    for name in list_weights(folder):
        parts, content = WeightsName.read(name), _content(name, folder)
        if parts is not None and not parts.seed and not _missing(Card, content):
            sets.setdefault(parts.set, []).append(name)
            classes[parts.set] = len(content["classes"])
    return dict(sorted(sets.items(), key=lambda item: (item[0] != OPENING, -classes[item[0]])))


def select_weights(names: Sequence[str] | None = None, folder: Path = WEIGHTS) -> list[str]:
    """Return the given names, a set's name standing for all its weights, or those of all weights in a folder.

    Raises:
        ValueError: for an unknown name, listing those that exist, or a folder without weights.
    """
    there = list_weights(folder)
    if not there:
        raise ValueError(f"{folder} holds no weights")
    chosen = []
    for name in names or there:
        members = [one for one in there if set_of(one) == name]
        if name not in there and not members:
            raise ValueError(f"name of weights must be one of {there}, got {name!r}")
        chosen += members or [name]
    return chosen


def _content(name: str, folder: Path) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def _missing(kind: type[Description], content: dict[str, Any]) -> list[str]:
    optional = {field.name for field in fields(kind) if field.default is None}
    return [field.name for field in fields(kind) if field.name not in content.keys() | optional]


_C = TypeVar("_C", bound=Description)


def _read(kind: type[_C], name: str, folder: Path) -> _C:
    select_weights([name], folder)
    content = _content(name, folder)
    if missing := _missing(kind, content):
        raise ValueError(f"the card of {name} lacks {missing}: run models.calibrate, then models.evaluate --card")
    known = {field.name: content.get(field.name) for field in fields(kind)}
    known["classes"] = tuple(ClassLabel(**label) for label in content["classes"])
    return kind(**known)


def read_description(name: str, folder: Path = WEIGHTS) -> Description:
    """Return what is known of weights, whether or not they have been measured yet.

    Raises:
        ValueError: for an unknown name, listing those that exist.
    """
    return _read(Description, name, folder)


def read_card(name: str, folder: Path = WEIGHTS) -> Card:
    """Return the card of weights.

    Raises:
        ValueError: for an unknown name, listing those that exist, or a card that has not been completed.
    """
    return _read(Card, name, folder)


def _write(name: str, content: dict[str, Any], folder: Path) -> None:
    part = folder / f"{name}.json.part"
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(folder / f"{name}.json")


def write_description(description: Description, folder: Path = WEIGHTS) -> None:
    """Write NAME.json anew, without any measurement."""
    content = asdict(description) | {"classes": [label._asdict() for label in description.classes]}
    _write(description.name, content, folder)


def update_card(name: str, folder: Path = WEIGHTS, **measured: Unpack[Measured]) -> None:
    """Write measurements into NAME.json; a new temperature takes out those that depend on it."""
    content = _content(name, folder)
    if measured.get("temperature", content["temperature"]) != content["temperature"]:
        for key in ("accuracy", "spread"):
            content.pop(key, None)
    _write(name, content | measured, folder)


def load_network(description: Description, folder: Path = WEIGHTS, device: str | torch.device = "cpu") -> ResNet:
    """Build the network of a description and load its weights: in evaluation mode, channels_last.

    Raises:
        ValueError: if the weights file is not the one described.
    """
    content = (folder / f"{description.name}.safetensors").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != description.sha256:
        raise ValueError(
            f"{description.name}.safetensors is not the file its card describes: its sha256 begins with {found[:12]}, "
            f"the card's with {description.sha256[:12]}; fetch the file again"
        )
    network = resnet(
        description.depth,
        description.variant,
        width=description.width,
        stem=description.stem,
        num_classes=len(description.classes),
    )
    network.load_state_dict(unpack(tensors_from_bytes(content)))
    # torch documents memory_format alone, its overloads leave it out.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device).eval()


def load(name: str, *, folder: Path = WEIGHTS, device: str | torch.device = "cpu") -> Loaded:
    """Load trained weights by name: the network in evaluation mode, its preprocessing, its classes, its card.

    Raises:
        ValueError: for an unknown name, listing those that exist, an incomplete card, or a file that does not match it.

    Example:
        >>> loaded = load("resnet18-w32-tinyimagenet30-soft")
        >>> loaded.network.variant
        'soft'
    """
    card = read_card(name, folder)
    return Loaded(load_network(card, folder, device), card)
