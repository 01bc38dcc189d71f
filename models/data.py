"""Labelled images for training and evaluation: arrays in memory or a folder per class.

Arrays are ``{split}_images.npy`` (N, S, S, 3) uint8 and ``{split}_labels.npy`` (N,) beside ``classes.tsv`` (WNID, tab,
words; a label is the rank of its WNID). A folder holds ``{split}/WNID/*`` and, if it likes, ``classes.tsv``.
Pictures are photos of unequal shape only in the folder form: they are brought to a square by `square`.

`augmented_batches` and `square_batches` are how a training gets them. Arrays lie on its device, where a whole batch is
cropped or scaled at once; photos are opened one by one, in as many processes as are asked for.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from models.augment import Augmentation, crop_batch, crop_photo

__all__ = [
    "CENTRE",
    "MEAN",
    "STD",
    "ArrayImages",
    "ClassLabel",
    "Images",
    "augmented_batches",
    "describe_preprocessing",
    "normalise",
    "open_images",
    "read_class_list",
    "read_image",
    "shuffled",
    "square",
    "square_batches",
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


@dataclass(eq=False)
class ArrayImages:
    """Labelled images of one size in a device's memory: (N, 3, H, W) uint8 in any layout, and (N,) int64."""

    images: Tensor
    labels: Tensor
    classes: tuple[ClassLabel, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def to(self, device: torch.device) -> Self:
        """Return the same images on a device."""
        return type(self)(self.images.to(device), self.labels.to(device), self.classes)


def _read_arrays(folder: Path, split: str, chosen: Sequence[str] | None) -> ArrayImages:
    words = _read_words(folder / "classes.tsv")
    labels = np.load(folder / f"{split}_labels.npy")
    wnids = sorted(words) or [str(label) for label in range(int(labels.max()) + 1)]
    kept = _choose(wnids, chosen)
    new_label = np.full(len(wnids), -1)
    new_label[[wnids.index(wnid) for wnid in kept]] = np.arange(len(kept))
    rows = np.flatnonzero(new_label[labels] >= 0)
    images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"{split}_images.npy must hold uint8 of shape (N, S, S, 3), it holds {images.dtype} of {images.shape}"
        )
    return ArrayImages(
        torch.from_numpy(images[rows]).permute(0, 3, 1, 2),  # (N, 3, S, S), channels last in memory
        torch.from_numpy(new_label[labels[rows]]),
        tuple(ClassLabel(wnid, words.get(wnid, wnid)) for wnid in kept),
    )


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
        return _read_arrays(folder, split, classes)
    if (folder / split).is_dir():
        return _FolderImages(folder, split, classes)
    raise FileNotFoundError(f"{folder} must hold {split}_images.npy or a folder {split}/, it holds neither")


def square(image: Tensor, size: int) -> Tensor:
    """Return the middle of an image, (3, size, size) uint8: a square whose side is `CENTRE` of the image's short side.

    This is the networks' way to look at a picture, in evaluation and on the page alike. Training's crops show things
    larger than they are; a rim left out makes up for it (Touvron et al. 2019, arXiv 1906.06423).

    Shape:
        (..., 3, H, W) -> (..., 3, size, size).
    """
    resized = v2.functional.resize(image, [round(size / CENTRE)], antialias=True)
    squared: Tensor = v2.functional.center_crop(resized, [size])
    return squared


def describe_preprocessing(size: int) -> str:
    """Return in words what `square` and `normalise` make of a picture."""
    mean, deviation = (", ".join(map(str, values)) for values in (MEAN, STD))
    return (
        f"RGB; scaled bilinearly with antialiasing until the short side has {round(size / CENTRE)} pixels; the middle "
        f"{size} x {size} of them, from 0 to 1; less the mean {mean}; over the deviation {deviation}"
    )


def normalise(images: Tensor) -> Tensor:
    """Return images from 0 to 255 (..., 3, H, W) as float32 with ImageNet's mean and deviation taken out."""
    # By channel, for a tensor of the means would have to be copied to a GPU at each call, which waits for its work.
    channels = zip(images.unbind(dim=-3), MEAN, STD, strict=True)
    return torch.stack([(channel.float() / 255 - mean) / std for channel, mean, std in channels], dim=-3)


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """Return the indices of one epoch, (count,) int64 on the processor, in an order drawn from (seed, epoch)."""
    generator = torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
    return torch.randperm(count, generator=generator)


class _Photos(Dataset[tuple[Tensor, int]]):
    """Images one by one, (3, size, size) uint8: augmented if there is an augmentation, else `square`."""

    def __init__(self, images: Images, size: int, augmentation: Augmentation | None = None) -> None:
        self.images, self.size, self.augmentation = images, size, augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        if self.augmentation is None:
            return square(image, self.size), label
        (crop,) = self.augmentation.draw_crops(np.array([index]), *image.shape[1:])
        return crop_photo(image, crop, self.size), label


_Batch = tuple[Tensor, Tensor]


def _load(photos: _Photos, indices: list[list[int]], device: torch.device, workers: int) -> Iterator[_Batch]:
    # From pinned memory a copy to a GPU goes on beside its work.
    loader = DataLoader(photos, batch_sampler=indices, num_workers=workers, pin_memory=device.type == "cuda")
    for batch, labels in loader:
        yield batch.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def augmented_batches(
    images: Images, indices: Tensor, size: int, augmentation: Augmentation, device: torch.device, workers: int = 0
) -> Iterator[_Batch]:
    """Yield batches of images as a network is trained on them, before `normalise`, with their labels.

    Args:
        images: arrays must lie on the device.
        indices: of each batch's images, (batches, N), on the processor.
        workers: processes that open photos.

    Shape:
        (N, 3, size, size) from 0 to 255, float32 from arrays and uint8 from photos, and (N,) int64.
    """
    if not isinstance(images, ArrayImages):
        yield from _load(_Photos(images, size, augmentation), indices.tolist(), device, workers)
        return
    # All that a GPU needs for the epoch is sent at once: whatever is sent later waits for its work.
    crops = augmentation.draw_crops(np.arange(len(images)), *images.images.shape[2:]).to(device)
    for chosen in indices.to(device):
        yield crop_batch(images.images[chosen], crops[chosen], size), images.labels[chosen]


def square_batches(
    images: Images, size: int, device: torch.device, workers: int = 0, batch_size: int = 250
) -> Iterator[_Batch]:
    """Yield all images in their order as a network is judged on them, before `normalise`, with their labels.

    Args:
        images: arrays must lie on the device.
        workers: processes that open photos.

    Shape:
        (N, 3, size, size) uint8 and (N,) int64.
    """
    if not isinstance(images, ArrayImages):
        parts = torch.split(torch.arange(len(images)), batch_size)
        yield from _load(_Photos(images, size), [part.tolist() for part in parts], device, workers)
        return
    batches, labels = (torch.split(some, batch_size) for some in (images.images, images.labels))
    yield from zip((square(batch, size) for batch in batches), labels, strict=True)
