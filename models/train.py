"""Train a variant: ``python -m models.train --data FOLDER --variant lip --out runs/lip``.

SGD with Nesterov momentum, cosine learning rate with warm-up, label smoothing, random crops and flips, an exponential moving
average of the weights (EMA), which is what is kept. Everything random is drawn from (seed, epoch, sample) or (seed, step), so that a
run resumed from its checkpoint ends bitwise as the unbroken one. Nothing is pickled: checkpoints are safetensors.
"""

import csv
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from models.data import Images, LabelledImages, ShuffledIndices, normalise, open_images
from models.resnet import VARIANTS, resnet

__all__ = ["Recipe", "learning_rate", "parse_schedule", "train"]


@dataclass(frozen=True)
class Recipe:
    """All that decides a training's outcome besides data and network.

    ``schedule`` is the image size in pixels of each stretch with its number of epochs: ((48, 12), (64, 4)).
    ``learning_rate`` is the peak, reached after ``warmup_epochs``; ``weight_decay`` spares norms and biases.
    ``mixup`` and ``cutmix`` are the alphas of their Beta distributions, 0 = off; with both, each batch draws one.
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


class _State:
    """What a checkpoint holds: network, its EMA, the optimiser's momentum, the step."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self.network, self.step = network, 0
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        decayed = [p for p in network.parameters() if p.dim() > 1]
        spared = [p for p in network.parameters() if p.dim() <= 1]
        self.optimiser = torch.optim.SGD(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
        )

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the EMA towards the network; early on with a shorter memory, so that the start is soon forgotten."""
        weight = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, weight)
            else:
                self.average[name].copy_(value)

    def save(self, path: Path) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for name, parameter in self.network.named_parameters():
            if "momentum_buffer" in self.optimiser.state[parameter]:
                tensors[f"momentum.{name}"] = self.optimiser.state[parameter]["momentum_buffer"]
        part = path.with_suffix(".part")
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, part, metadata={"step": str(self.step)})
        os.replace(part, path)

    def load(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            self.step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "momentum": {}}
        for name, value in tensors.items():
            group, _, key = name.partition(".")
            groups[group][key] = value
        self.network.load_state_dict(groups["network"])
        for name, value in groups["average"].items():
            self.average[name].copy_(value)
        for name, parameter in self.network.named_parameters():
            if name in groups["momentum"]:
                self.optimiser.state[parameter]["momentum_buffer"] = groups["momentum"][name].clone(
                    memory_format=torch.preserve_format
                ).to(parameter.device)


def _mixer(recipe: Recipe, classes: int) -> v2.Transform | None:
    choices: list[v2.Transform] = []
    if recipe.mixup > 0:
        choices.append(v2.MixUp(alpha=recipe.mixup, num_classes=classes))
    if recipe.cutmix > 0:
        choices.append(v2.CutMix(alpha=recipe.cutmix, num_classes=classes))
    return v2.RandomChoice(choices) if choices else None


def _batches(images: Images, recipe: Recipe, epoch: int, done: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    dataset = LabelledImages(
        images, recipe.size(epoch), augment=True, seed=recipe.seed, least_area=recipe.least_crop_area
    )
    sampler = ShuffledIndices(len(images), recipe.seed, epoch, done)
    return iter(DataLoader(dataset, recipe.batch_size, sampler=sampler, num_workers=workers, drop_last=True))


@torch.no_grad()
def _validate(state: _State, network: nn.Module, images: Images, size: int, recipe: Recipe, device: str) -> float:
    """Return top-1 of the EMA in percent."""
    network.load_state_dict(state.average)
    network.eval()
    dataset = LabelledImages(images, size, augment=False)
    right = 0
    for start in range(0, len(images), 250):
        pairs = [dataset[0, index] for index in range(start, min(start + 250, len(images)))]
        batch = normalise(torch.stack([image for image, _ in pairs]).to(device))
        with torch.autocast(device, torch.bfloat16, enabled=recipe.bf16):
            answer = network(batch.contiguous(memory_format=torch.channels_last)).argmax(1).cpu()
        right += int((answer == torch.tensor([label for _, label in pairs])).sum())
    return 100 * right / len(images)


def train(
    network: nn.Module,
    images: Images,
    validation: Images,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 0,
    device: str = "cpu",
    checkpoint_minutes: float = 5.0,
    stop_after: int | None = None,
) -> dict[str, Tensor]:
    """Train a network and return the EMA's state dict of the last step.

    Writes ``checkpoint.safetensors`` (every few minutes, and after each epoch) and ``log.csv`` (a row an epoch) into
    ``out``.

    Args:
        network: from (N, 3, S, S) to (N, classes); trained in place.
        resume: continue at the step of the checkpoint in ``out``, if there is one.
        stop_after: end after this many steps of this call, with a checkpoint, as a kill would.

    Raises:
        ValueError: if there are fewer images than one batch holds.
    """
    steps_per_epoch = len(images) // recipe.batch_size
    if not steps_per_epoch:
        raise ValueError(f"batch_size must be at most the number of images, got {recipe.batch_size} for {len(images)}")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / "checkpoint.safetensors", out / "log.csv"
    network.to(device, memory_format=torch.channels_last)
    shadow = resnet_like(network)
    state = _State(network, recipe)
    if resume and checkpoint.exists():
        state.load(checkpoint)
    elif log.exists():
        log.unlink()
    mixer = _mixer(recipe, len(images.classes))
    began = state.step
    saved = time.monotonic()

    for epoch in range(state.step // steps_per_epoch, recipe.epochs):
        first = state.step - epoch * steps_per_epoch
        network.train()
        losses, start = [], time.monotonic()
        batches = _batches(images, recipe, epoch, first * recipe.batch_size, workers)
        for batch, labels in tqdm(batches, f"epoch {epoch + 1}/{recipe.epochs}", steps_per_epoch, initial=first, mininterval=5):
            torch.manual_seed(hash((recipe.seed, state.step)) % 2**63)
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(recipe, state.step, steps_per_epoch)
            x, target = normalise(batch.to(device)), labels.to(device)
            if mixer is not None:
                x, target = mixer(x, target)
            with torch.autocast(device, torch.bfloat16, enabled=recipe.bf16):
                answer = network(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(answer.float(), target, label_smoothing=recipe.label_smoothing)
            loss.backward()
            state.optimiser.step()
            state.optimiser.zero_grad()
            state.step += 1
            state.update_average(recipe.ema_decay)
            losses.append(loss.detach())
            if stop_after is not None and state.step - began >= stop_after:
                state.save(checkpoint)
                return state.average
            if time.monotonic() - saved > 60 * checkpoint_minutes:
                state.save(checkpoint)
                saved = time.monotonic()
        top1 = _validate(state, shadow, validation, recipe.schedule[-1][0], recipe, device)
        _log(log, epoch + 1, recipe.size(epoch), float(torch.stack(losses).mean()), top1, time.monotonic() - start)
        state.save(checkpoint)
    return state.average


def resnet_like(network: nn.Module) -> nn.Module:
    """Return a copy of a network, for holding the EMA in evaluation."""
    import copy

    return copy.deepcopy(network)


def _log(path: Path, epoch: int, size: int, loss: float, top1: float, seconds: float) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["epoch", "size_px", "train_loss", "val_top1_percent", "seconds"])
        writer.writerow([epoch, size, f"{loss:.4f}", f"{top1:.2f}", f"{seconds:.1f}"])


def main(
    data: Annotated[Path, typer.Option(help="folder of the image set: arrays or a folder per class")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint, log, weights and run.json")],
    variant: Annotated[str, typer.Option(help=f"one of {', '.join(VARIANTS)}")] = "stock",
    depth: Annotated[int, typer.Option(help="18, 34 or 50")] = 18,
    width: Annotated[int, typer.Option(help="channels of the stem")] = 32,
    stem: Annotated[str, typer.Option(help="imagenet or small")] = "small",
    classes: Annotated[str | None, typer.Option(help="WNIDs with commas between, or a file with one a line")] = None,
    schedule: Annotated[str, typer.Option(help="pixels x epochs, like 48x12,64x4")] = "48x12,64x4",
    batch_size: int = 64,
    learning_rate: float = 0.08,
    weight_decay: float = 5e-4,
    warmup_epochs: float = 1.0,
    label_smoothing: float = 0.1,
    least_crop_area: float = 0.35,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    ema_decay: float = 0.995,
    bf16: bool = True,
    seed: int = 0,
    resume: Annotated[bool, typer.Option(help="continue at the checkpoint in OUT")] = False,
    workers: Annotated[int, typer.Option(help="processes that load images")] = 0,
    device: str = "cpu",
) -> None:
    """Train a ResNet that pools as VARIANT says."""
    chosen = None
    if classes is not None:
        chosen = Path(classes).read_text().split() if Path(classes).exists() else classes.split(",")
    recipe = Recipe(
        parse_schedule(schedule), batch_size, learning_rate, 0.9, weight_decay, warmup_epochs, label_smoothing,
        least_crop_area, mixup, cutmix, ema_decay, bf16, seed,
    )  # fmt: skip
    images, validation = (open_images(data, split, chosen) for split in ("train", "val"))
    torch.manual_seed(seed)
    network = resnet(depth, variant, width=width, stem=stem, num_classes=len(images.classes))  # type: ignore[arg-type]
    average = train(network, images, validation, recipe, out, resume=resume, workers=workers, device=device)
    save_file({name: value.contiguous().cpu() for name, value in average.items()}, out / "weights.safetensors")
    run = {
        "depth": depth, "variant": variant, "width": width, "stem": stem, "input_size": recipe.schedule[-1][0],
        "classes": [label._asdict() for label in images.classes], "train_images": len(images),
        "epochs": recipe.epochs, "recipe": asdict(replace(recipe)),
    }  # fmt: skip
    (out / "run.json").write_text(json.dumps(run, indent=1))


if __name__ == "__main__":
    typer.run(main)
