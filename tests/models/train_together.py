"""What each of two processes does in the tests: ``torchrun ... -m tests.models.train_together OUT DEVICE``.

The tests call `train_without_norm` and `train_with_norm` in one process besides.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.data import ArrayImages
from models.processes import Processes, join_processes
from models.recipe import Recipe
from models.resnet import resnet
from models.train import train

from .made_up import interrupted, made_images

IMAGES = 32


def _noise() -> ArrayImages:
    images = torch.randint(0, 256, (IMAGES, 3, 16, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return made_images(images, torch.arange(IMAGES) % 4, 4)


def train_without_norm(out: Path, device: str = "cpu", kind: str = "mixup") -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 4))
    recipe = Recipe(schedule=((16, 2),), batch_size=8, learning_rate=0.02, bf16=False, **{kind: 1.0})
    average = train(network, _noise(), _noise(), recipe, out, device=device)
    return {f"network.{key}": value for key, value in network.state_dict().items()} | average


def train_with_norm(out: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Return the network after two steps, with the batches that its batch norm saw here, (2, N, 3, 16, 16)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    seen = []
    network.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0].detach().cpu().clone()))
    recipe = Recipe(schedule=((16, 1),), batch_size=16, learning_rate=0.02, warmup_epochs=0, ema_decay=0, bf16=False)
    average = train(network, _noise(), _noise(), recipe, out, device=device)
    return average | {"seen": torch.stack(seen[:2])}


def _train_resnet(
    out: Path, device: str, *, batch_size: int = 8, steps: int | None = None, resume: bool = False
) -> dict[str, Tensor]:
    torch.manual_seed(int(resume))  # what the network begins with must not matter to a resumed run
    network = resnet(18, "lip", width=2, stem="small", num_classes=4)
    recipe = Recipe(schedule=((16, 2),), batch_size=batch_size, mixup=0.2, cutmix=0.5)
    if steps is not None:
        network = interrupted(network, steps)
    return train(network, _noise(), _noise(), recipe, out, resume=resume, device=device, checkpoint_minutes=0)


def _keep(tensors: dict[str, Tensor], name: str, out: Path) -> None:
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(tensors, out / f"{name}-{Processes.here().rank}.safetensors")


def _error(run: Callable[[], object]) -> str:
    try:
        run()
    except ValueError as error:
        return str(error)
    return ""


def main(out: Path, device: str) -> None:
    # gloo for GPUs too: NCCL wants a GPU for each process.
    with join_processes(torch.device("cpu")):
        for kind in ("mixup", "cutmix"):
            _keep(train_without_norm(out / kind, device, kind), kind, out)
        _keep(train_with_norm(out / "norm", device), "norm", out)
        _keep(_train_resnet(out / "whole", device), "whole", out)
        try:
            _train_resnet(out / "broken", device, steps=5)  # of four an epoch
        except KeyboardInterrupt:
            _keep(_train_resnet(out / "broken", device, resume=True), "resumed", out)
        rank = Processes.here().rank
        # The second process finds no checkpoint where it looks.
        folder = out / ("whole" if rank == 0 else "elsewhere")
        errors = [
            _error(lambda: _train_resnet(out / "odd", device, batch_size=7)),
            _error(lambda: _train_resnet(folder, device, resume=True)),
        ]
        (out / f"errors-{rank}.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
