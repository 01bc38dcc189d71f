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
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

__all__ = [
    "CENTRE",
    "MEAN",
    "STD",
    "ClassLabel",
    "Images",
    "LabelledImages",
    "ShuffledIndices",
    "normalise",
    "open_images",
    "read_class_list",
    "read_image",
    "square",
]

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, per channel of RGB in 0..1
STD = (0.229, 0.224, 0.225)
CENTRE = 8 / 9  # of an image's short side is the side of the square that networks see


class ClassLabel(NamedTuple):
    """A class: its WordNet id and its words."""

    wnid: str
    words: str

    @property
    def label(self) -> str:
        """The first of the words: "tabby" of "tabby, tabby cat"."""
        return self.words.partition(",")[0]


class Images(Protocol):
    """A set of labelled images: ``classes``, a length, and image (3, H, W) uint8 with label by index."""

    classes: tuple[ClassLabel, ...]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


def read_image(path: str | Path) -> Image.Image:
    """Read a picture file as an upright RGB image.

    Raises:
        ValueError: if it is not a picture that can be read.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"{path} is not a picture that can be read") from error
    except OSError as error:
        if error.errno is not None:  # the system's: no such file, no permission
            raise
        raise ValueError(f"{path} is a damaged picture: {error}") from error


def read_class_list(text: str) -> list[str]:
    """Return the WNIDs that a command line names: with commas between, or a file that begins each line with one.

    Raises:
        ValueError: if a single name is given and there is no such file.
    """
    if "," in text:
        return [wnid.strip() for wnid in text.split(",") if wnid.strip()]
    path = Path(text)
    if not path.is_file():
        raise ValueError(
            f"classes must be WNIDs with commas between or a file with one at each line's start, got {text!r}"
        )
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def _read_words(path: Path) -> dict[str, str]:
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
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes must be named once each, got {len(chosen)} names of {len(set(chosen))} classes")
    return list(chosen)


class _ArrayImages:
    def __init__(self, folder: Path, split: str, chosen: Sequence[str] | None) -> None:
        words = _read_words(folder / "classes.tsv")
        labels = np.load(folder / f"{split}_labels.npy")
        wnids = sorted(words) or [str(label) for label in range(int(labels.max()) + 1)]
        kept = _choose(wnids, chosen)
        self.classes = tuple(ClassLabel(wnid, words.get(wnid, wnid)) for wnid in kept)
        new_label = np.full(len(wnids), -1)
        new_label[[wnids.index(wnid) for wnid in kept]] = np.arange(len(kept))
        rows = np.flatnonzero(new_label[labels] >= 0)
        images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(
                f"{split}_images.npy must hold uint8 of shape (N, S, S, 3), it holds {images.dtype} of {images.shape}"
            )
        self.images = torch.from_numpy(images[rows]).permute(0, 3, 1, 2)  # (N, 3, S, S), channels last in memory
        self.labels = new_label[labels][rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class _FolderImages:
    def __init__(self, folder: Path, split: str, chosen: Sequence[str] | None) -> None:
        files = ImageFolder(str(folder / split))
        words = _read_words(folder / "classes.tsv")
        kept = _choose(files.classes, chosen)
        self.classes = tuple(ClassLabel(wnid, words.get(wnid, wnid)) for wnid in kept)
        rank = {wnid: index for index, wnid in enumerate(kept)}
        self.samples = [(p, rank[files.classes[k]]) for p, k in files.samples if files.classes[k] in rank]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        return pil_to_tensor(read_image(path)), label


def open_images(folder: str | Path, split: str, classes: Sequence[str] | None = None) -> Images:
    """Open one split of an image set.

    Args:
        folder: of the image set.
        split: "train", "val" or however the set calls it.
        classes: WNIDs to keep, in the order of their new labels; None keeps all, in the order of WNIDs.

    Raises:
        FileNotFoundError: if the folder holds neither form of the split.
        ValueError: if a class is not in the data or named twice.
    """
    folder = Path(folder)
    if (folder / f"{split}_images.npy").exists():
        return _ArrayImages(folder, split, classes)
    if (folder / split).is_dir():
        return _FolderImages(folder, split, classes)
    raise FileNotFoundError(f"{folder} must hold {split}_images.npy or a folder {split}/, it holds neither")


def square(image: Tensor, size: int) -> Tensor:
    """Return the middle of an image, (3, size, size) uint8: a square whose side is `CENTRE` of the image's short side.

    This is the networks' way to look at a picture, in evaluation and on the page alike. Training's crops show things
    larger than they are; a rim left out makes up for it (Touvron et al. 2019, arXiv 1906.06423).
    """
    resized = v2.functional.resize(image, [round(size / CENTRE)], antialias=True)
    squared: Tensor = v2.functional.center_crop(resized, [size])
    return squared


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
        # The processor's generator alone: torch.manual_seed visits every kind of device and takes longer than a crop.
        torch.default_generator.manual_seed(hash((self.seed, epoch, index)) % 2**63)
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
