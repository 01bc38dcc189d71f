"""Train a variant: ``python -m models.train --data FOLDER --variant lip --out runs/lip``.

SGD with Nesterov momentum, cosine learning rate with warm-up, label smoothing, random crops and flips, an exponential
moving average of the weights (EMA), which is what is kept. Everything random is drawn from (seed, epoch, sample) or
(seed, step), so that a run resumed from its checkpoint takes the unbroken one's steps, and on a processor ends bitwise
as it. (On a GPU some sums are taken in an order that is not fixed, and the fastest convolutions are found by timing.)
Nothing is pickled: checkpoints are safetensors.

``--device cuda`` waits for the GPU only where an epoch ends or a checkpoint is written: arrays lie in its memory and
are augmented there, and the loss is read at the end. ``--compile`` lets torch.compile fuse what lies between
convolutions, at the price of compiling for each image size. ``log.csv`` tells the seconds of each epoch's training,
without validation: ``--schedule 64x2 --validate-every 2`` measures one, in its second row.

``torchrun --nproc-per-node 8 -m models.train ... --device cuda`` trains with eight processes, on several machines with
torchrun's ``--nnodes`` and with DATA and OUT in folders that all of them see. The batch size stays that of the whole
step, and each step sees the samples, crops and mixed pairs that it would in one process; `models.processes` says what
becomes of batch norm.

The weights in models/weights came from ``python -m models.train --data FOLDER --out runs/VARIANT --variant VARIANT``,
once for each variant, on one thread of the processor, with crops drawn by torchvision from its own numbers, and with

* Tiny ImageNet: ``--schedule 32x8,48x1,64x1 --batch-size 128 --learning-rate 0.16``
* 30 of its classes: ``--classes models/tinyimagenet30.txt --schedule 32x4,48x10,64x4``
* Imagenette: ``--stem imagenet --schedule 64x20,96x28,128x12 --mixup 0.2 --cutmix 0.5``
"""

import copy
import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import v2
from tqdm import tqdm

from models.augment import Augmentation
from models.command import open_device, plain_errors
from models.curves import write_curves
from models.data import (
    ArrayImages,
    Images,
    augmented_batches,
    normalise,
    open_images,
    read_class_list,
    shuffled,
    square_batches,
)
from models.processes import Processes, join_processes, own_device
from models.recipe import Recipe, learning_rate, parse_schedule
from models.resnet import Stem, Variant, resnet

__all__ = ["Recipe", "train"]


class _State:
    """What a checkpoint holds: network, its EMA, the optimiser's momentum, the step, the epoch's sum of losses."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.network, self.average = network, copy.deepcopy(network).eval()
        self.step, self.loss_sum = 0, torch.zeros((), device=device)
        decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
        spared = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
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
        averages, values = [], []
        for average, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if value.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, weight)

    def save(self, path: Path) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            if "momentum_buffer" in self.optimiser.state[parameter]:
                tensors[f"momentum.{name}"] = self.optimiser.state[parameter]["momentum_buffer"]
        part = path.with_suffix(".part")
        contiguous = {name: value.cpu().contiguous() for name, value in tensors.items()}
        save_file(contiguous, part, metadata={"step": str(self.step), "loss_sum": repr(self.loss_sum.item())})
        part.replace(path)

    def load(self, path: Path) -> None:
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "momentum": {}}
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            for name in file.keys():  # noqa: SIM118 - not a dict
                group, _, key = name.partition(".")
                groups[group][key] = file.get_tensor(name)
        self.step = int(facts["step"])
        self.loss_sum.fill_(float(facts["loss_sum"]))
        self.network.load_state_dict(groups["network"])
        self.average.load_state_dict(groups["average"])
        for name, parameter in self.network.named_parameters():
            if name in groups["momentum"]:
                self.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                    groups["momentum"][name]
                )


def _mixer(recipe: Recipe, classes: int) -> v2.Transform | None:
    choices: list[v2.Transform] = []
    if recipe.mixup > 0:
        choices.append(v2.MixUp(alpha=recipe.mixup, num_classes=classes))
    if recipe.cutmix > 0:
        choices.append(v2.CutMix(alpha=recipe.cutmix, num_classes=classes))
    return v2.RandomChoice(choices) if choices else None


@torch.no_grad()
def _validate(
    network: nn.Module, images: Images, size: int, recipe: Recipe, device: torch.device, workers: int
) -> float:
    """Return a network's top-1 in percent."""
    right = torch.zeros((), dtype=torch.int64, device=device)
    for batch, labels in square_batches(images, size, device, workers):
        x = normalise(batch).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
            answer = network(x)
        right += (answer.argmax(1) == labels).sum()
    return 100 * right.item() / len(images)


def train(
    network: nn.Module,
    images: Images,
    validation: Images,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 0,
    device: str | torch.device = "cpu",
    compiled: bool = False,
    validate_every: int = 1,
    checkpoint_minutes: float = 5.0,
) -> dict[str, Tensor]:
    """Train a network and return the EMA's state dict of the last step.

    Writes ``checkpoint.safetensors`` (every few minutes, and after each epoch) and ``log.csv`` (a row an epoch) into
    ``out``. In a process group of PyTorch's, all processes must call this alike: they train one network together, and
    the first alone writes and looks at the validation images.

    Args:
        network: from (N, 3, S, S) to (N, classes); trained in place.
        images: arrays are moved to the device, once.
        resume: continue at the step of the checkpoint in ``out``, if there is one.
        workers: processes that open photos, for each process that trains.
        compiled: let torch.compile fuse the network's operations, once for each image size.
        validate_every: epochs from one look at the validation images to the next; the last epoch always has one.

    Raises:
        ValueError: if there are fewer images than one batch holds, the processes cannot share a batch evenly or do not
            see the same checkpoint, or the loss is no longer a number.
    """
    processes = Processes.here()
    steps_per_epoch = len(images) // recipe.batch_size
    if not steps_per_epoch:
        raise ValueError(f"batch_size must be at most the number of images, got {recipe.batch_size} for {len(images)}")
    if recipe.batch_size % processes.count:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, got {recipe.batch_size} for {processes.count}"
        )
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / "checkpoint.safetensors", out / "log.csv"
    device = torch.device(device)
    images, validation = (some.to(device) if isinstance(some, ArrayImages) else some for some in (images, validation))
    # torch documents memory_format alone, its overloads leave it out.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spread: Callable[[Tensor], Tensor] = processes.spread(network.to(device), device)
    if compiled:
        # Anew for each size, for code that serves any size is slower. The network itself and its keys stay as they are.
        spread = torch.compile(spread, dynamic=False)
    running = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    state = _State(network, recipe, device)
    if resume and checkpoint.exists():
        state.load(checkpoint)
    if not processes.agree_on(state.step, device):
        raise ValueError(f"out must be one folder that all processes see, {out} holds another checkpoint for some")
    if processes.is_first:
        _start_log(log, state.step // steps_per_epoch)
    mixer = _mixer(recipe, len(images.classes))
    # Mixing pairs each sample with the one before it in the batch, which another process may hold: it comes as a guest.
    guests = int(mixer is not None and processes.count > 1)
    saved = time.monotonic()

    for epoch in range(state.step // steps_per_epoch, recipe.epochs):
        network.train()
        start = time.monotonic()
        first = state.step - epoch * steps_per_epoch
        order = shuffled(len(images), recipe.seed, epoch)[: steps_per_epoch * recipe.batch_size]
        indices = order.view(steps_per_epoch, recipe.batch_size)[first:]
        batches = augmented_batches(
            images,
            processes.part_of(indices, with_previous=guests > 0),
            recipe.size(epoch),
            Augmentation(recipe.seed, epoch, recipe.least_crop_area),
            device,
            workers,
        )
        name = f"epoch {epoch + 1}/{recipe.epochs}"
        silent = not processes.is_first
        for batch, labels in tqdm(batches, name, total=steps_per_epoch, initial=first, mininterval=5, disable=silent):
            torch.manual_seed(hash((recipe.seed, state.step)) % 2**63)
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(recipe, state.step, steps_per_epoch)
            x, target = normalise(batch), labels
            if mixer is not None:
                x, target = mixer(x, target)
                x, target = x[guests:], target[guests:]
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
                answer = spread(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(answer.float(), target, label_smoothing=recipe.label_smoothing)
            torch.autograd.backward(loss)
            state.optimiser.step()
            state.optimiser.zero_grad()
            state.step += 1
            mean_loss = loss.detach()
            processes.average_([mean_loss, *running])
            state.loss_sum += mean_loss
            state.update_average(recipe.ema_decay)
            if processes.is_first and time.monotonic() - saved > 60 * checkpoint_minutes:
                state.save(checkpoint)
                saved = time.monotonic()
        epoch_loss = state.loss_sum.item() / steps_per_epoch  # here the device is waited for
        seconds = time.monotonic() - start
        if not math.isfinite(epoch_loss):
            raise ValueError(
                f"the loss is {epoch_loss} in epoch {epoch + 1}, learning_rate {recipe.learning_rate} is too high"
            )
        state.loss_sum.zero_()
        if not processes.is_first:
            continue
        top1 = ""
        if (epoch + 1) % validate_every == 0 or epoch + 1 == recipe.epochs:
            last_size = recipe.schedule[-1][0]
            top1 = f"{_validate(state.average, validation, last_size, recipe, device, workers):.2f}"
        with log.open("a", newline="") as file:
            row = [epoch + 1, recipe.size(epoch), f"{epoch_loss:.4f}", top1, f"{seconds:.1f}"]
            csv.writer(file).writerow(row)
        state.save(checkpoint)
    return state.average.state_dict()


def _start_log(path: Path, epochs: int) -> None:
    """Write the log's first line, or cut a log that is there to the epochs that a checkpoint has behind it."""
    header = "epoch,size_px,train_loss,val_top1_percent,seconds"
    rows = path.read_text().splitlines()[1 : 1 + epochs] if path.exists() else []
    path.write_text("".join(f"{row}\n" for row in [header, *rows]))


def _claim(out: Path, run: dict[str, Any], resume: bool) -> None:
    """Write ``run.json`` into a folder that holds no run, or check that the run there is this one.

    Raises:
        ValueError: if the folder holds a run that is not to be resumed, or another run than this.
    """
    path = out / "run.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run, indent=1) + "\n")
    elif not resume:
        raise ValueError(f"{out} holds a run: continue it with --resume or name another folder with --out")
    else:
        there, this = json.loads(path.read_text()), json.loads(json.dumps(run))
        differing = sorted(key for key in there.keys() | this.keys() if there.get(key) != this.get(key))
        if differing:
            raise ValueError(f"{out} holds a run that differs in {differing}: name another folder with --out")


def main(
    data: Annotated[Path, typer.Option(help="folder of the image set: arrays or a folder per class")],
    out: Annotated[Path, typer.Option(help="folder for run.json, checkpoint, log, curves and weights")],
    variant: Annotated[Variant, typer.Option(help="how the network shrinks its maps")] = "stock",
    depth: Annotated[int, typer.Option(help="18, 34 or 50")] = 18,
    width: Annotated[int, typer.Option(min=1, help="channels of the stem")] = 32,
    stem: Annotated[Stem, typer.Option(help="7x7 convolution of stride 2, or 3x3 of stride 1")] = "small",
    classes: Annotated[str | None, typer.Option(help="WNIDs with commas between, or a file with one a line")] = None,
    schedule: Annotated[str, typer.Option(help="pixels x epochs, one after the other")] = "48x12,64x4",
    batch_size: Annotated[int, typer.Option(help="images a step, over all processes")] = Recipe.batch_size,
    learning_rate: Annotated[float, typer.Option(help="at its peak")] = Recipe.learning_rate,
    momentum: Annotated[float, typer.Option(help="of SGD, Nesterov's")] = Recipe.momentum,
    weight_decay: Annotated[float, typer.Option(help="of all but norms and biases")] = Recipe.weight_decay,
    warmup_epochs: Annotated[float, typer.Option(help="until the peak")] = Recipe.warmup_epochs,
    label_smoothing: Annotated[float, typer.Option(help="share spread over all classes")] = Recipe.label_smoothing,
    least_crop_area: Annotated[float, typer.Option(help="of a picture, as a share")] = Recipe.least_crop_area,
    mixup: Annotated[float, typer.Option(help="alpha; 0 = off")] = Recipe.mixup,
    cutmix: Annotated[float, typer.Option(help="alpha; 0 = off")] = Recipe.cutmix,
    ema_decay: Annotated[float, typer.Option(help="of the average that is kept, a step")] = Recipe.ema_decay,
    bf16: Annotated[bool, typer.Option(help="compute in bfloat16 where it is safe")] = Recipe.bf16,
    seed: Annotated[int, typer.Option(help="of all that is random")] = Recipe.seed,
    resume: Annotated[bool, typer.Option("--resume", help="continue at the checkpoint in OUT, if any")] = False,
    validate_every: Annotated[int, typer.Option(min=1, help="epochs between looks at the validation images")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="processes that open photos, for each that trains")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda ...")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="fuse operations, once for each image size")] = False,
) -> None:
    """Train a ResNet that pools as VARIANT says."""
    with plain_errors():
        recipe = Recipe(
            schedule=parse_schedule(schedule),
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            warmup_epochs=warmup_epochs,
            label_smoothing=label_smoothing,
            least_crop_area=least_crop_area,
            mixup=mixup,
            cutmix=cutmix,
            ema_decay=ema_decay,
            bf16=bf16,
            seed=seed,
        )
        least_size = 16 if stem == "small" else 32  # below it the last place has nothing left to shrink
        if min(recipe.schedule)[0] < least_size:
            raise ValueError(f"schedule must have {least_size} pixels or more for the {stem} stem, got {schedule!r}")
        chosen = None if classes is None else sorted(read_class_list(classes))
        images, validation = (open_images(data, split, chosen) for split in ("train", "val"))
        if images.classes != validation.classes:
            raise ValueError(f"train and val must hold the same classes, {data} holds others in val")
        processor = open_device(own_device(device))
        torch.backends.cudnn.benchmark = processor.type == "cuda"
        torch.manual_seed(seed)
        network = resnet(depth, variant, width=width, stem=stem, num_classes=len(images.classes))
        run = {
            "depth": depth,
            "variant": variant,
            "width": width,
            "stem": stem,
            "input_size": recipe.schedule[-1][0],
            "classes": [label._asdict() for label in images.classes],
            "train_images": len(images),
            "val_images": len(validation),
            "epochs": recipe.epochs,
            "recipe": asdict(recipe),
        }
        with join_processes(processor):
            is_first = Processes.here().is_first
            if is_first:
                _claim(out, run, resume)
            average = train(
                network,
                images,
                validation,
                recipe,
                out,
                resume=resume,
                workers=workers,
                device=processor,
                compiled=compiled,
                validate_every=validate_every,
            )
            if is_first:
                weights = {name: value.contiguous().cpu() for name, value in average.items()}
                save_file(weights, out / "weights.safetensors")
                write_curves([out], out / "curves.svg")


if __name__ == "__main__":
    typer.run(main)
