"""Training: it learns, what it does at a step is the formula, and a broken run ends as the unbroken one."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from models.data import open_images
from models.recipe import Recipe
from models.resnet import VARIANTS, resnet
from models.train import main, train
from poolcore import SoftPool2d

from .conftest import WNIDS, write_arrays
from .made_up import AsPhotos, interrupted, made_images

ROOT = Path(__file__).resolve().parents[2]


def _network(variant="stock", classes=4, width=4):
    torch.manual_seed(0)
    return resnet(18, variant, width=width, stem="small", num_classes=classes)


def _rows(out):
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _without_seconds(out):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in _rows(out)]


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# What a run learns.


_EACH = [v if v in ("stock", "soft") else pytest.param(v, marks=pytest.mark.long) for v in VARIANTS]


@pytest.mark.parametrize("variant", _EACH)
def test_64_images_with_arbitrary_labels_are_learnt_by_heart(variant, tmp_path):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (64, 3, 2, 2), generator=generator).float()
    images = F.interpolate(coarse, scale_factor=8).to(torch.uint8)
    made = made_images(images, torch.randint(0, 4, (64,), generator=generator), 4)
    recipe = Recipe(
        schedule=((16, 80),), batch_size=32, label_smoothing=0, least_crop_area=0.9, weight_decay=0, ema_decay=0.9
    )
    train(_network(variant, width=8), made, made, recipe, tmp_path)
    assert float(_rows(tmp_path)[-1]["val_top1_percent"]) == 100


def test_shuffled_labels_leave_validation_at_chance(tmp_path):
    generator = torch.Generator().manual_seed(0)
    classes, each = 10, 24
    colours = torch.randint(20, 236, (classes, 3, 1, 1), generator=generator)

    def images(count):
        noise = 8 * torch.randn(classes * count, 3, 16, 16, generator=generator)
        return (colours.repeat_interleave(count, 0) + noise).clamp(0, 255).to(torch.uint8)

    labels = torch.arange(classes).repeat_interleave(each)
    seen, unseen = images(each), made_images(images(10), torch.arange(classes).repeat_interleave(10), classes)
    recipe = Recipe(schedule=((16, 12),), batch_size=40, ema_decay=0.8)
    train(_network(classes=classes), made_images(seen, labels, classes), unseen, recipe, tmp_path / "right")
    assert float(_rows(tmp_path / "right")[-1]["val_top1_percent"]) > 60
    shuffled = labels[torch.randperm(len(labels), generator=generator)]
    train(_network(classes=classes), made_images(seen, shuffled, classes), unseen, recipe, tmp_path / "shuffled")
    assert float(_rows(tmp_path / "shuffled")[-1]["val_top1_percent"]) <= 30


# What a step does.


class _Watched(nn.Module):
    """A linear network that keeps the batches it was given and the state before each step."""

    def __init__(self, size, classes=2):
        super().__init__()
        self.fc = nn.Linear(3 * size * size, classes)
        self.batches, self.states = [], []

    def forward(self, x):
        if self.training:
            self.batches.append(x.detach().clone())
            self.states.append({key: value.clone() for key, value in self.state_dict().items()})
        return self.fc(x.flatten(1))


def _plain(count=8, size=16, value=100):
    return made_images(torch.full((count, 3, size, size), value, dtype=torch.uint8), torch.zeros(count), 2)


def test_a_step_is_nesterovs_with_decay_of_weights_alone(tmp_path):
    torch.manual_seed(0)
    network = _Watched(16)
    recipe = Recipe(
        schedule=((16, 2),), batch_size=8, learning_rate=0.01, warmup_epochs=0, weight_decay=0.1, bf16=False
    )
    train(network, _plain(), _plain(), recipe, tmp_path)
    velocity = {}
    state = {key: value.double() for key, value in network.states[0].items()}
    for step in range(2):
        for key in state:
            torch.testing.assert_close(network.states[step][key].double(), state[key], rtol=1e-5, atol=1e-7)
        weight, bias = (state[key].requires_grad_() for key in ("fc.weight", "fc.bias"))
        log_p = torch.log_softmax(F.linear(network.batches[step].flatten(1).double(), weight, bias), dim=1)
        loss = -(0.95 * log_p[:, 0] + 0.05 * log_p[:, 1]).mean()  # smoothing 0.1 over two classes, all labels 0
        loss.backward()
        rate = 0.01 * (1 + math.cos(math.pi * step / 2)) / 2
        for key, decay in (("fc.weight", 0.1), ("fc.bias", 0.0)):
            slope = state[key].grad + decay * state[key].detach()
            velocity[key] = 0.9 * velocity.get(key, 0) + slope
            state[key] = state[key].detach() - rate * (slope + 0.9 * velocity[key])
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value.double(), state[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.995])
def test_the_average_is_the_formulas(decay, tmp_path):
    torch.manual_seed(0)
    network = _Watched(16)
    recipe = Recipe(schedule=((16, 3),), batch_size=4, ema_decay=decay, warmup_epochs=0)
    average = train(network, _plain(), _plain(), recipe, tmp_path)
    states = [*network.states, network.state_dict()]
    for key, value in average.items():
        expected = states[0][key].double()
        for step, state in enumerate(states[1:], start=1):
            memory = min(decay, (1 + step) / (10 + step))
            expected = memory * expected + (1 - memory) * state[key].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    assert len(states) == 7


def test_the_pictures_grow_as_the_schedule_says(tmp_path):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    sizes = []
    network[0].register_forward_hook(lambda module, x, _: sizes.append(x[0].shape) if module.training else None)
    made = _plain(count=9, size=20)
    train(network, made, made, Recipe(schedule=((12, 1), (24, 2)), batch_size=4), tmp_path)
    assert sizes == [(4, 3, 12, 12)] * 2 + [(4, 3, 24, 24)] * 4
    assert [row["size_px"] for row in _rows(tmp_path)] == ["12", "24", "24"]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_mixes_pictures_and_labels_alike(kind, tmp_path):
    black, white = (torch.full((8, 3, 16, 16), value, dtype=torch.uint8) for value in (0, 255))
    made = made_images(torch.cat((black, white)), torch.arange(2).repeat_interleave(8), 2)
    network = _Watched(16)
    losses = []
    recipe = Recipe(schedule=((16, 1),), batch_size=16, label_smoothing=0, bf16=False, **{kind: 1.0})
    network.register_forward_hook(lambda module, _, out: losses.append(out.detach()) if module.training else None)
    train(network, made, made, recipe, tmp_path)
    ((x,), (answer,)) = network.batches, losses
    white_part = x[:, 0] * 0.229 + 0.485  # red, from 0 in black to 1 in white
    share = white_part.mean((1, 2))
    assert ((share > 0.01) & (share < 0.99)).any()
    grey = ((white_part > 0.01) & (white_part < 0.99)).any()
    assert bool(grey) == (kind == "mixup")  # cutmix leaves every pixel black or white
    # The labels are mixed as the pictures are: white's part of the target is white's part of the picture.
    target = torch.stack((1 - share, share), dim=1)
    expected = -(target * torch.log_softmax(answer, dim=1)).sum(1).mean()
    assert float(_rows(tmp_path)[0]["train_loss"]) == pytest.approx(expected.item(), abs=1e-3)


# How a step is computed.


class _Reads(TorchDispatchMode):
    """Count how often a number is read out of a tensor, for which a GPU would be waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_numbers_are_read_once_an_epoch_not_once_a_step(tmp_path):
    counts = []
    for epochs, batch_size in ((1, 16), (1, 2), (2, 16)):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 2))
        recipe = Recipe(schedule=((16, epochs),), batch_size=batch_size)
        made = _plain(count=16)
        with _Reads() as reads:
            train(network, made, made, recipe, tmp_path / f"{epochs}-{batch_size}", validate_every=9)
        counts.append(reads.count)
    assert counts[0] == counts[1]
    assert 0 < counts[2] - counts[0] <= 2  # the loss, for the log and for the checkpoint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_step_waits_for_the_gpu(variant, tmp_path):
    network = _network(variant, width=8)
    steps = _count_steps(network)

    def watch(module, inputs):
        # From the third step to the eighth: the first ones compile kernels, and the epoch's end reads its loss.
        torch.cuda.set_sync_debug_mode("error" if module.training and 3 <= len(steps) < 8 else "default")

    network.register_forward_pre_hook(watch)
    recipe = Recipe(schedule=((16, 1),), batch_size=16, mixup=0.2, cutmix=1.0)
    made = _noise(count=16 * 8)
    try:
        train(network, made, made, recipe, tmp_path, device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 8


def test_a_compiled_network_trains_alike_under_its_own_keys_and_is_compiled_once_a_size(tmp_path, monkeypatch):
    def network():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), SoftPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, 4),
        )  # fmt: skip

    recipe = Recipe(schedule=((16, 2), (24, 2), (32, 1)), batch_size=10, cutmix=1.0, bf16=False)
    plain = train(network(), _noise(), _noise(), recipe, tmp_path / "plain")
    torch._dynamo.reset()
    counter, compiler = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compiler(module, backend=counter, **options))
    found = train(network(), _noise(), _noise(), recipe, tmp_path / "compiled", compiled=True)
    assert counter.frame_count == 3
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
    kept = load_file(tmp_path / "compiled" / "checkpoint.safetensors")
    assert kept.keys() == load_file(tmp_path / "plain" / "checkpoint.safetensors").keys()
    torch._dynamo.reset()


# What a run leaves, and how it goes on.


def test_an_epochs_seconds_are_those_of_training_alone(tmp_path, monkeypatch):
    now = 0.0

    class Slow(AsPhotos):
        def __init__(self, images, seconds):
            super().__init__(images)
            self.seconds = seconds

        def __getitem__(self, index):
            nonlocal now
            now += self.seconds
            return super().__getitem__(index)

    monkeypatch.setattr("models.train.time", SimpleNamespace(monotonic=lambda: now))
    made = _plain(count=8)
    train(_Watched(16), Slow(made, 2.0), Slow(made, 100.0), Recipe(schedule=((16, 2),), batch_size=4), tmp_path)
    assert [row["seconds"] for row in _rows(tmp_path)] == ["16.0", "16.0"]


def _noise(classes=4, count=32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator).to(torch.uint8)
    return made_images(images, torch.arange(count) % classes, classes)


def _count_steps(network):
    steps = []
    network.register_forward_pre_hook(lambda module, _: steps.append(1) if module.training else None)
    return steps


@pytest.mark.parametrize(("steps", "photos"), [(5, False), (8, False), (10, True)])
def test_a_resumed_run_continues_at_its_step_and_ends_bitwise_as_the_unbroken_one(steps, photos, tmp_path):
    recipe = Recipe(schedule=((16, 2), (24, 2)), batch_size=8, mixup=0.2, cutmix=1.0)
    images = AsPhotos(_noise()) if photos else _noise()
    whole = train(_network("lip"), images, images, recipe, tmp_path / "whole")
    broken = interrupted(_network("lip"), steps)
    with pytest.raises(KeyboardInterrupt):
        train(broken, images, images, recipe, tmp_path / "broken", checkpoint_minutes=0)
    network = resnet(18, "lip", width=4, stem="small", num_classes=4)  # other initial weights: they must not matter
    taken = _count_steps(network)
    resumed = train(network, images, images, recipe, tmp_path / "broken", resume=True)
    assert len(taken) == 4 * 4 - steps
    assert _equal(resumed, whole)
    assert _without_seconds(tmp_path / "broken") == _without_seconds(tmp_path / "whole")
    assert len(_rows(tmp_path / "whole")) == 4


def test_a_run_that_has_ended_is_resumed_without_a_step(tmp_path):
    recipe = Recipe(schedule=((16, 1),), batch_size=8)
    whole = train(_network(), _noise(), _noise(), recipe, tmp_path)
    network = _network()
    taken = _count_steps(network)
    assert _equal(train(network, _noise(), _noise(), recipe, tmp_path, resume=True), whole)
    assert not taken


def test_the_number_of_workers_changes_nothing(tmp_path):
    recipe = Recipe(schedule=((16, 2),), batch_size=8, mixup=0.2)
    photos = AsPhotos(_noise())
    alone, together = (
        train(_network(), photos, photos, recipe, tmp_path / str(workers), workers=workers) for workers in (0, 2)
    )
    assert _equal(alone, together)


def test_the_seed_decides(tmp_path):
    first, second = (
        train(
            _network(), _noise(), _noise(), Recipe(schedule=((16, 1),), batch_size=8, seed=seed), tmp_path / str(seed)
        )
        for seed in (0, 1)
    )
    assert not _equal(first, second)


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(tmp_path):
    recipe = Recipe(schedule=((16, 3),), batch_size=8, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(ValueError, match=r"the loss is nan in epoch \d, learning_rate 1e\+30 is too high"):
        train(_network(), _noise(), _noise(), recipe, tmp_path)


# The command.

_QUICK = ["--width", "4", "--batch-size", "16", "--schedule", "16x1,24x1"]


def test_the_command_leaves_weights_a_log_and_the_runs_facts(arrays, tmp_path, command):
    out = tmp_path / "run"
    ended = command(
        main, "--data", arrays, "--out", out, "--variant", "lift", "--classes", f"{WNIDS[3]},{WNIDS[1]}", *_QUICK
    )
    assert ended.status == 0, ended.err
    run = json.loads((out / "run.json").read_text())
    assert run["classes"] == [
        {"wnid": WNIDS[1], "words": "green, green thing"},
        {"wnid": WNIDS[3], "words": "yellow"},
    ]
    assert (run["variant"], run["width"], run["input_size"], run["epochs"]) == ("lift", 4, 24, 2)
    assert (run["train_images"], run["val_images"]) == (32, 16)
    assert run["recipe"]["schedule"] == [[16, 1], [24, 1]]
    network = resnet(18, "lift", width=4, stem="small", num_classes=2)
    network.load_state_dict(load_file(out / "weights.safetensors"))
    assert [(row["epoch"], row["size_px"]) for row in _rows(out)] == [("1", "16"), ("2", "24")]


def test_a_folder_per_class_trains_as_its_arrays_do(arrays, tmp_path):
    from PIL import Image

    folder = tmp_path / "folder"
    for split in ("train", "val"):
        labels = np.load(arrays / f"{split}_labels.npy")
        for index, image in enumerate(np.load(arrays / f"{split}_images.npy")):
            path = folder / split / WNIDS[labels[index]] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    recipe = Recipe(schedule=((16, 1), (24, 1)), batch_size=20, bf16=False)
    networks = {}
    for place in (arrays, folder):
        torch.manual_seed(0)
        networks[place] = nn.Sequential(nn.AdaptiveAvgPool2d(8), _Watched(8, classes=4))
        images, validation = (open_images(place, split) for split in ("train", "val"))
        train(networks[place], images, validation, recipe, tmp_path / place.name)
    (_, a), (_, b) = networks.values()
    assert len(a.batches) == len(b.batches) == 6
    for from_arrays, from_folder in zip(a.batches, b.batches, strict=True):
        assert (from_arrays - from_folder).abs().max() <= 1.01 / 255 / 0.224  # a folder's crops are rounded
    for of_arrays, of_folder in zip(_rows(tmp_path / arrays.name), _rows(tmp_path / "folder"), strict=True):
        assert float(of_arrays["train_loss"]) == pytest.approx(float(of_folder["train_loss"]), abs=0.01)
        assert of_arrays["val_top1_percent"] == of_folder["val_top1_percent"]


def test_unequal_photos_train_at_the_size_of_imagenet(tmp_path, command):
    from PIL import Image

    generator = np.random.default_rng(0)
    data, out = tmp_path / "data", tmp_path / "run"
    for split, wnid, height, width, mode in (
        ("train", WNIDS[0], 300, 200, "RGB"), ("train", WNIDS[0], 90, 400, "L"),
        ("train", WNIDS[1], 224, 225, "RGB"), ("train", WNIDS[1], 31, 57, "CMYK"),
        ("val", WNIDS[0], 500, 375, "RGB"), ("val", WNIDS[1], 64, 333, "L"),
    ):  # fmt: skip
        path = data / split / wnid / f"{height}x{width}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    options = ["--stem", "imagenet", "--schedule", "224x1", "--width", "2", "--batch-size", "4", "--workers", "2"]
    ended = command(main, "--data", data, "--out", out, "--variant", "soft", *options)
    assert ended.status == 0, ended.err
    run = json.loads((out / "run.json").read_text())
    assert (run["stem"], run["input_size"], run["train_images"], run["val_images"]) == ("imagenet", 224, 4, 2)
    (row,) = _rows(out)
    assert math.isfinite(float(row["train_loss"]))
    assert row["val_top1_percent"] in ("0.00", "50.00", "100.00")
    assert load_file(out / "weights.safetensors")["conv1.weight"].shape == (2, 3, 7, 7)
    assert (out / "curves.svg").exists()


def test_a_run_that_was_killed_ends_as_the_unbroken_one(tmp_path, command):
    data = write_arrays(tmp_path / "data", train=40)
    options = ["--data", data, "--variant", "avg", "--width", "4", "--batch-size", "8", "--schedule", "16x4"]
    assert command(main, *options, "--out", tmp_path / "whole").status == 0
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "models.train", *map(str, options), "--out", str(out)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not (out / "checkpoint.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "weights.safetensors").exists()
    ended = command(main, *options, "--out", out, "--resume")
    assert ended.status == 0, ended.err
    assert (out / "weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()
    assert _without_seconds(out) == _without_seconds(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--schedule", "48by12"], "schedule must read like \"48x12,64x4\" (pixels x epochs), got '48by12'"),
        (["--schedule", "8x1"], "schedule must have 16 pixels or more for the small stem, got '8x1'"),
        (["--classes", "n00000000,dog"], "classes must be among the 4 of the data, got ['dog']"),
        (["--classes", "absent.txt"], "classes must be WNIDs with commas between or a file"),
        (["--depth", "20"], "depth must be one of [18, 34, 50], got 20"),
        (["--variant", "blur"], "'blur' is not one of"),
        (["--batch-size", "1000"], "batch_size must be at most the number of images, got 1000 for 64"),
        (["--learning-rate", "-1"], "learning_rate must be from 0 to inf, got -1"),
        (["--device", "gpu"], "device must be one that torch finds here, such as \"cpu\", got 'gpu'"),
        (["--data", "nowhere"], "nowhere must hold train_images.npy or a folder train/, it holds neither"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(options, sentence, arrays, tmp_path, command):
    ended = command(main, "--data", arrays, "--out", tmp_path / "run", *options)
    assert ended.status == 2
    assert sentence in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


def test_train_and_val_of_other_classes_are_told(tmp_path, command):
    from PIL import Image

    for split, wnids in (("train", WNIDS[:3]), ("val", WNIDS[1:4])):
        for wnid in wnids:
            (tmp_path / "data" / split / wnid).mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(tmp_path / "data" / split / wnid / "a.png")
    ended = command(main, "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert ended.status == 2
    assert "train and val must hold the same classes" in ended.err


def test_a_folder_that_holds_a_run_is_neither_overwritten_nor_continued_otherwise(arrays, tmp_path, command):
    out = tmp_path / "run"
    options = ["--data", arrays, "--out", out, *_QUICK]
    assert command(main, *options).status == 0
    before = (out / "weights.safetensors").read_bytes()
    again = command(main, *options)
    assert again.status == 2
    assert "holds a run: continue it with --resume or name another folder with --out" in again.err
    other = command(main, *options, "--resume", "--seed", "1")
    assert other.status == 2
    assert "holds a run that differs in ['recipe']" in other.err
    assert (out / "weights.safetensors").read_bytes() == before


def test_the_published_class_list_names_thirty_classes():
    lines = (ROOT / "models" / "tinyimagenet30.txt").read_text().splitlines()
    assert len({line.split("\t")[0] for line in lines}) == len(lines) == 30
