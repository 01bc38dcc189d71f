"""Training by several processes: two end where one does, and leave one set of files."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from models.resnet import resnet

from .conftest import write_arrays
from .train_together import train_with_norm, train_without_norm

ROOT = Path(__file__).resolve().parents[2]


def _torchrun(logs, *arguments):
    """Run a module in two processes of one thread each; the folder ``logs`` gets their standard errors."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--redirects", "2", "--log-dir", str(logs), "-m", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    errors = {path.parent.name: path.read_text() for path in logs.glob("**/stderr.log")}
    assert ended.returncode == 0, (ended.stderr, errors)
    return errors


_DEVICES = [
    "cpu",
    pytest.param("cuda:0", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.fixture(scope="module", params=_DEVICES)
def together(request, tmp_path_factory):
    """A device, and the folder that two processes left which trained on it."""
    out = tmp_path_factory.mktemp("together")
    _torchrun(out / "logs", "tests.models.train_together", out, request.param)
    return request.param, out


def _rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_two_processes_end_where_one_does(kind, together, tmp_path):
    device, out = together
    alone = train_without_norm(tmp_path, device, kind)
    # Eight steps in fp32 whose gradients are summed in another order; GPUs round a convolution's inputs to TF32. A
    # partner taken from the process's own part moves parameters by 8e-3.
    tolerance = 1e-6 if device == "cpu" else 1e-3
    for rank in (0, 1):
        kept = load_file(out / f"{kind}-{rank}.safetensors")
        assert kept.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(kept[key], value.cpu(), rtol=10 * tolerance, atol=tolerance)
    for row, expected in zip(_rows(out / kind), _rows(tmp_path), strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(expected["train_loss"]), abs=1e-4 + tolerance)
        assert row["val_top1_percent"] == expected["val_top1_percent"]


def test_running_statistics_are_of_both_processes(together, tmp_path):
    device, out = together
    first, second = (load_file(out / f"norm-{rank}.safetensors") for rank in (0, 1))
    parts = (first.pop("seen").double(), second.pop("seen").double())
    assert parts[0].shape == (2, 8, 3, 16, 16)
    assert not torch.equal(*parts)
    assert _equal(first, second)
    mean, variance = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for step in range(2):
        batches = [part[step].transpose(0, 1).flatten(1) for part in parts]  # (3, N * 16 * 16)
        if device != "cpu":
            batches = [torch.cat(batches, dim=1)]
        mean = 0.9 * mean + 0.1 * sum(batch.mean(1) for batch in batches) / len(batches)
        variance = 0.9 * variance + 0.1 * sum(batch.var(1) for batch in batches) / len(batches)
    torch.testing.assert_close(first["0.running_mean"].double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first["0.running_var"].double(), variance, rtol=1e-5, atol=1e-6)
    if device != "cpu":
        for key, value in train_with_norm(tmp_path, device).items():
            if key != "seen":
                torch.testing.assert_close(first[key], value.cpu(), rtol=1e-4, atol=1e-5)


def test_a_run_broken_in_mid_epoch_ends_bitwise_as_the_unbroken_one(together):
    device, out = together
    whole, resumed, second = (load_file(out / f"{name}.safetensors") for name in ("whole-0", "resumed-0", "resumed-1"))
    assert _equal(resumed, second)
    # cuDNN's gradients of convolutions are not the same to the bit from run to run.
    assert _equal(whole, resumed) or device != "cpu"
    assert len(_rows(out / "broken")) == 2


def test_what_processes_cannot_share_is_told_by_each(together):
    _, out = together
    for rank in (0, 1):
        errors = json.loads((out / f"errors-{rank}.json").read_text())
        assert errors[0] == "batch_size must be a multiple of the number of processes, got 7 for 2"
        assert errors[1].startswith("out must be one folder that all processes see")


def test_the_command_under_torchrun_leaves_one_set_of_files(tmp_path):
    data, out = write_arrays(tmp_path / "data"), tmp_path / "run"
    options = ["--data", data, "--out", out, "--width", 2, "--batch-size", 16, "--schedule", "16x2"]
    errors = _torchrun(tmp_path / "logs", "models.train", *options)
    assert "epoch 2/2" in errors["0"]
    assert "epoch" not in errors["1"]
    names = {"checkpoint.safetensors", "curves.svg", "log.csv", "run.json", "weights.safetensors"}
    assert {path.name for path in out.iterdir()} == names
    assert [row["epoch"] for row in _rows(out)] == ["1", "2"]
    with safe_open(out / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "8"  # 64 images, 16 a step, twice
    network = resnet(18, "stock", width=2, stem="small", num_classes=4)
    network.load_state_dict(load_file(out / "weights.safetensors"))
    assert all(value.isfinite().all() for value in network.state_dict().values())
