"""Labelled images for training and evaluation: arrays in memory or a folder per class.

Arrays are ``{split}_images.npy`` (N, S, S, 3) uint8 and ``{split}_labels.npy`` (N,) beside ``classes.tsv`` (WNID, tab,
words; a label is the rank of its WNID). A folder holds ``{split}/WNID/*`` and, if it likes, ``classes.tsv``.
Pictures are photos of unequal shape only in the folder form: they are brought to a square by `square`.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

__all__ = ["MEAN", "STD", "ClassLabel", "Images", "LabelledImages", "ShuffledIndices", "normalise", "open_images", "square"]

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, per channel of RGB in 0..1
STD = (0.229, 0.224, 0.225)


class ClassLabel(NamedTuple):
    """A class: its WordNet id and its words."""

    wnid: str
    words: str


class Images(Protocol):
    """A set of labelled images: ``classes``, a length, and image (3, H, W) uint8 with label by index."""

    classes: tuple[ClassLabel, ...]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


def _read_classes(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row[0]: row[1] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def _choose(wnids: Sequence[str], chosen: Sequence[str] | None) -> list[str]:
    if chosen is None:
        return list(wnids)
    missing = sorted(set(chosen) - set(wnids))
    if missing:
        raise ValueError(f"classes must be among the {len(wnids)} of the data, got {missing}")
    return sorted(set(chosen))


class _ArrayImages:
    def __init__(self, folder: Path, split: str, chosen: Sequence[str] | None) -> None:
        words = _read_classes(folder / "classes.tsv")
        labels = np.load(folder / f"{split}_labels.npy")
        wnids = list(words) or [str(label) for label in range(int(labels.max()) + 1)]
        kept = _choose(wnids, chosen)
        self.classes = tuple(ClassLabel(wnid, words.get(wnid, wnid)) for wnid in kept)
        new_label = np.full(len(wnids), -1)
        new_label[[wnids.index(wnid) for wnid in kept]] = np.arange(len(kept))
        rows = np.flatnonzero(new_label[labels] >= 0)
        images = np.load(folder / f"{split}_images.npy", mmap_mode="r")[rows]
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)  # (N, 3, S, S), channels last in memory
        self.labels = new_label[labels][rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class _FolderImages:
    def __init__(self, folder: Path, split: str, chosen: Sequence[str] | None) -> None:
        files = ImageFolder(str(folder / split))
        words = _read_classes(folder / "classes.tsv")
        kept = _choose(files.classes, chosen)
        self.classes = tuple(ClassLabel(wnid, words.get(wnid, wnid)) for wnid in kept)
        rank = {wnid: index for index, wnid in enumerate(kept)}
        self.samples = [(p, rank[files.classes[k]]) for p, k in files.samples if files.classes[k] in rank]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        return decode_image(path, ImageReadMode.RGB), label


def open_images(folder: str | Path, split: str, classes: Sequence[str] | None = None) -> Images:
    """Open one split of an image set, restricted to the given WNIDs.

    Raises:
        FileNotFoundError: if the folder holds neither form of the split.
        ValueError: if a class is not in the data.
    """
    folder = Path(folder)
    if (folder / f"{split}_images.npy").exists():
        return _ArrayImages(folder, split, classes)
    if (folder / split).is_dir():
        return _FolderImages(folder, split, classes)
    raise FileNotFoundError(f"{folder} must hold {split}_images.npy or a folder {split}/, it holds neither")


def square(image: Tensor, size: int) -> Tensor:
    """Return the centre square of an image, (3, size, size) uint8: the short side resized to ``size``, the middle kept.

    This is the networks' way to look at a picture, in evaluation and on the page alike.
    """
    if image.shape[-2:] == (size, size):
        return image
    return v2.functional.center_crop(v2.functional.resize(image, [size], antialias=True), [size])


def normalise(images: Tensor) -> Tensor:
    """Return uint8 images (..., 3, H, W) as float32 with ImageNet's mean and deviation taken out."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images as a network gets them: augmented for training, `square` for evaluation.

    An item is asked for by (epoch, index); the augmentation is drawn from (seed, epoch, index) alone, so that it is
    the same whatever the number of workers and wherever a run was resumed.
    """

    def __init__(self, images: Images, size: int, *, augment: bool, seed: int = 0, least_area: float = 0.35) -> None:
        self.images, self.size, self.seed = images, size, seed
        self.augment: v2.Transform | None = None
        if augment:
            crop = v2.RandomResizedCrop(size, scale=(least_area, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
            self.augment = v2.Compose([crop, v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image, label = self.images[index]
        if self.augment is None:
            return square(image, self.size), label
        torch.manual_seed(hash((self.seed, epoch, index)) % 2**63)
        return self.augment(image), label


class ShuffledIndices(Sampler[tuple[int, int]]):
    """Keys (epoch, index) of one epoch in an order drawn from (seed, epoch), beginning after ``done`` samples."""

    def __init__(self, count: int, seed: int, epoch: int, done: int = 0) -> None:
        self.count, self.seed, self.epoch, self.done = count, seed, epoch, done

    def __len__(self) -> int:
        return self.count - self.done

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
        for index in torch.randperm(self.count, generator=generator)[self.done :].tolist():
            yield self.epoch, index
