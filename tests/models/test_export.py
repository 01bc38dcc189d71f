"""Weights files made from training runs."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file

from models.export import main
from models.resnet import resnet
from models.train import main as train_main
from models.zoo import read_description

from .conftest import ABOUT, write_run


def test_convolutions_are_stored_in_int8_and_the_rest_as_it_was(tmp_path, command):
    run = write_run(tmp_path / "run", "lip")
    ended = command(main, run, "--about", ABOUT, "--name", "mine-lip", "--folder", tmp_path / "weights")
    assert (ended.status, ended.out.strip()) == (0, "mine-lip")
    path = tmp_path / "weights" / "mine-lip.safetensors"
    stored, trained = load_file(path), load_file(run / "weights.safetensors")
    network = resnet(18, "lip", width=4, stem="small", num_classes=3)
    rounded = {f"{name}.weight" for name, m in network.named_modules() if type(m).__name__ in ("Conv2d", "Linear")}
    assert stored.keys() == trained.keys() | {f"{key}_scale" for key in rounded}
    for key, value in trained.items():
        if key in rounded:
            assert stored[key].dtype == torch.int8
            for channel, steps, scale in zip(value, stored[key], stored[f"{key}_scale"], strict=True):
                assert (steps * scale - channel).abs().max() <= 0.5001 * channel.abs().max() / 127, key
        else:
            assert torch.equal(stored[key], value), key
    description = read_description("mine-lip", tmp_path / "weights")
    assert description.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert description.data["terms"] == "ImageNet's terms: research and education"
    assert "accuracy" not in json.loads(path.with_suffix(".json").read_text())


def test_a_run_that_has_not_ended_gives_its_average(arrays, tmp_path, command):
    out = tmp_path / "run"
    options = ["--data", arrays, "--width", "4", "--batch-size", "16", "--schedule", "16x3"]
    assert command(train_main, *options, "--out", out).status == 0
    averages = load_file(out / "weights.safetensors")
    (out / "weights.safetensors").unlink()
    ended = command(main, out, "--about", ABOUT, "--folder", tmp_path / "weights")
    assert ended.out.strip() == "resnet18-w4-tinyimagenet4-stock"
    stored = load_file(tmp_path / "weights" / "resnet18-w4-tinyimagenet4-stock.safetensors")
    checkpoint = load_file(out / "checkpoint.safetensors")
    assert not torch.equal(checkpoint["network.fc.bias"], checkpoint["average.fc.bias"])
    assert torch.equal(stored["fc.bias"], averages["fc.bias"])
    assert read_description("resnet18-w4-tinyimagenet4-stock", tmp_path / "weights").epochs == 3


def test_a_word_that_tells_more_comes_first(tmp_path, command):
    run = write_run(tmp_path / "run", "soft")
    words = {"n1": "hog, pig, grunter", "n2": "alp", "n3": "ox"}
    classes = [{"wnid": wnid, "words": some} for wnid, some in words.items()]
    (run / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | {"classes": classes}))
    about = tmp_path / "farm.json"
    about.write_text(json.dumps(json.loads(ABOUT.read_text()) | {"labels": {"n1": "pig"}}))
    ended = command(main, run, "--about", about, "--folder", tmp_path / "weights")
    exported = read_description(ended.out.strip(), tmp_path / "weights").classes
    assert [label.words for label in exported] == ["pig, hog, grunter", "alp", "ox"]
    about.write_text(json.dumps(json.loads(ABOUT.read_text()) | {"labels": {"n1": "cow"}}))
    refused = command(main, run, "--about", about, "--folder", tmp_path / "weights")
    assert refused.status == 2
    assert "among a class's words 'hog, pig, grunter', got 'cow'" in refused.err


def test_another_seed_ends_the_name(tmp_path, command):
    run = write_run(tmp_path / "run", "soft", seed=2)
    ended = command(main, run, "--about", ABOUT, "--folder", tmp_path / "weights")
    assert ended.out.strip() == "resnet18-w4-tinyimagenet3-soft-seed2"


@pytest.mark.parametrize("name", ["mine", "mine-max", "mine-soft", "mine-soft-seed1"])
def test_a_name_that_says_something_else_is_refused(name, tmp_path, command):
    run = write_run(tmp_path / "run", "soft", seed=2)
    ended = command(main, run, "--about", ABOUT, "--name", name, "--folder", tmp_path / "weights")
    assert ended.status == 2
    assert ended.err.strip() == f"name must be a set's name with -soft-seed2 after it, got '{name}'"
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("missing", ["run.json", "weights.safetensors"])
def test_a_folder_that_lacks_a_file_is_told(missing, tmp_path, command):
    run = write_run(tmp_path / "run", "avg")
    (run / missing).unlink()
    ended = command(main, run, "--about", ABOUT, "--folder", tmp_path / "weights")
    assert ended.status == 2
    assert "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1
