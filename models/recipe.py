"""How a network is trained: the numbers that decide it, and the learning rate that follows from them."""

import math
from dataclasses import dataclass

__all__ = ["Recipe", "learning_rate", "parse_schedule"]


@dataclass(frozen=True)
class Recipe:
    """All that decides a training's outcome besides data and network.

    ``schedule`` is the image size in pixels of each stretch with its number of epochs: ((48, 12), (64, 4)).
    ``learning_rate`` is the peak, reached after ``warmup_epochs``; ``weight_decay`` spares norms and biases.
    ``least_crop_area`` is the smallest share of a picture that a crop takes. ``mixup`` and ``cutmix`` are the alphas of
    their Beta distributions, 0 = off; with both, each batch draws one.

    Raises:
        ValueError: if a number is out of its range.
    """

    schedule: tuple[tuple[int, int], ...]
    batch_size: int = 64
    learning_rate: float = 0.08
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    least_crop_area: float = 0.35
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float = 0.995
    bf16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "batch_size": (1, math.inf),
            "learning_rate": (0, math.inf),
            "momentum": (0, 1),
            "weight_decay": (0, math.inf),
            "warmup_epochs": (0, math.inf),
            "label_smoothing": (0, 1),
            "least_crop_area": (0, 1),
            "mixup": (0, math.inf),
            "cutmix": (0, math.inf),
            "ema_decay": (0, 1),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {value}")

    @property
    def epochs(self) -> int:
        """Epochs of all stretches together."""
        return sum(epochs for _, epochs in self.schedule)

    def size(self, epoch: int) -> int:
        """Image size in pixels of an epoch, counted from 0."""
        for size, epochs in self.schedule:
            if epoch < epochs:
                return size
            epoch -= epochs
        raise ValueError(f"epoch must be below {self.epochs}, got {epoch + self.epochs}")


def parse_schedule(text: str) -> tuple[tuple[int, int], ...]:
    """Read "48x12,64x4" as ((48, 12), (64, 4)): image size in pixels and epochs at it.

    Raises:
        ValueError: if the text is of another form.
    """
    try:
        stretches = tuple((int(size), int(epochs)) for size, epochs in (part.split("x") for part in text.split(",")))
    except ValueError:
        stretches = ()
    if not stretches or min(min(stretch) for stretch in stretches) < 1:
        raise ValueError(f'schedule must read like "48x12,64x4" (pixels x epochs), got {text!r}')
    return stretches


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to 0."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, recipe.epochs * steps_per_epoch - warmup)
    return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
