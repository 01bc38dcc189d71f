"""How often a network gives the same answer to a photo that has moved by a few pixels.

Shift consistency as Zhang 2019 (arXiv 1904.11486) measures it: the share of photos for which two random crops get the
same class, right or wrong. There the crops are 224 px squares of 256 px photos; here a photo is scaled as
`models.data.square` scales it, and the crops are squares of the network's size S out of one whose side is 9/8 of S:
at 64 px nine positions an axis, so that two crops are up to 8 px apart. Nothing is padded; what enters at one side of
a crop is photo. Positions are drawn for each photo (there for each batch) from one seed, the same for every network.
Two draws may be equal, in one photo of 81 at 64 px, as they may there.

The circular form rolls the centre square around its edges by those same positions, so that nothing enters or leaves:
what is left is the network's own doing, its strides and its zero padding.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from models.data import CENTRE
from models.zoo import Consistency

__all__ = ["METHOD", "crop", "draw_positions", "measure_consistency", "roll", "with_rim"]

METHOD = (
    "share of photos, in percent, whose class is the same at two random positions: crops of the network's size out of "
    "a square 9/8 as wide; circular: the centre square rolled by the same positions"
)


def with_rim(image: Tensor, size: int) -> Tensor:
    """Return the square that `models.data.square` cuts its own out of, with all of the rim, (3, L, L) uint8.

    Shape:
        image: (3, H, W); ``L = round(size / CENTRE)``.
    """
    side = round(size / CENTRE)
    resized = v2.resize(image, [side], antialias=True)
    whole: Tensor = v2.center_crop(resized, [side])
    return whole


def draw_positions(count: int, reach: int, seed: int) -> Tensor:
    """Return two positions (y, x) for each of ``count`` photos, (count, 2, 2), uniform from 0 to ``reach``."""
    return torch.randint(reach + 1, (count, 2, 2), generator=torch.Generator().manual_seed(seed))


def crop(images: Tensor, positions: Tensor, size: int) -> Tensor:
    """Return from each image the square of side ``size`` whose first row and column its position (y, x) names.

    Shape:
        images: (N, 3, L, L); positions: (N, 2); result: (N, 3, size, size).
    """
    pairs = zip(images, positions.tolist(), strict=True)
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in pairs])


def roll(images: Tensor, positions: Tensor) -> Tensor:
    """Return each image (N, 3, S, S) moved up and left by its position (N, 2); what leaves comes in at the far side."""
    pairs = zip(images, positions.tolist(), strict=True)
    return torch.stack([image.roll((-y, -x), (1, 2)) for image, (y, x) in pairs])


def measure_consistency(
    classify: Callable[[Tensor], Tensor], squares: Tensor, rimmed: Tensor, seed: int = 0
) -> Consistency:
    """Return how often photos get the same class at two positions.

    Args:
        classify: gives the class of each image, (N,), of uint8 (N, 3, S, S).
        squares: photos as the network sees them.
        rimmed: the same photos as `with_rim` gives them.
        seed: of the positions.

    Shape:
        squares: (N, 3, S, S); rimmed: (N, 3, L, L).
    """
    size = squares.shape[-1]
    first, second = draw_positions(len(squares), rimmed.shape[-1] - size, seed).unbind(dim=1)
    same = classify(crop(rimmed, first, size)) == classify(crop(rimmed, second, size))
    same_rolled = classify(roll(squares, first)) == classify(roll(squares, second))
    return Consistency(
        crops=round(100 * float(same.double().mean()), 2), circular=round(100 * float(same_rolled.double().mean()), 2)
    )
