"""Accuracy and calibration against answers worked out by hand."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.data import ClassLabel
from models.evaluate import calibration_error, compare_hits, evaluate, main, measure_robustness, spread_over_seeds
from models.export import export
from models.zoo import read_card, read_description, update_card

from .conftest import ABOUT, REJECTION, WNIDS, write_arrays, write_run


def test_calibration_error_by_hand():
    # Bins of a fifth. (0.6, 0.8]: 0.7 right, 0.78 wrong -> |0.5 - 0.74|, twice; (0.4, 0.6]: 0.55 right -> 0.45;
    # (0.8, 1]: 0.99 right -> 0.01.
    best = torch.tensor([0.7, 0.78, 0.55, 0.99])
    probabilities = torch.stack((best, 1 - best), dim=1)
    labels = torch.tensor([0, 1, 0, 0])
    assert calibration_error(probabilities, labels, bins=5) == pytest.approx((2 * 0.24 + 0.45 + 0.01) / 4, abs=1e-6)


def test_figures_by_hand():
    classes = tuple(ClassLabel(f"n{index}", f"class {index}") for index in range(7))
    # Each image's answers rank the classes 0, 1, ... 6; so class 0 is first and class 5 is beyond the fifth.
    logits = torch.arange(7.0).neg().repeat(8, 1)
    labels = torch.tensor([0, 0, 0, 1, 1, 4, 5, 6])
    seen = evaluate(logits, labels, classes, "val", temperature=0.001)  # so sure that the confidence is 1
    expected = {"split": "val", "images": 8, "top1": 37.5, "top5": 75.0, "calibration_error": 62.5}
    assert seen["accuracy"] == expected
    assert seen["temperature"] == 0.001
    shares = {wnid: (row["images"], row["top1"]) for wnid, row in seen["classes"].items()}
    assert shares == {"n0": (3, 100), "n1": (2, 0), "n4": (1, 0), "n5": (1, 0), "n6": (1, 0)}


def _always(first: int, run):
    """Make a run's network answer the same to everything, ``first`` before the other classes."""
    weights = load_file(run / "weights.safetensors")
    weights["fc.weight"].zero_()
    weights["fc.bias"].zero_()[first] = 1.0
    save_file(weights, run / "weights.safetensors")


def test_the_command_counts_what_a_known_network_gets_right(tmp_path, command):
    data = write_arrays(tmp_path / "data", classes=6, val=5, size=32)
    runs = [write_run(tmp_path / variant, variant, classes=6) for variant in ("soft", "max")]
    for first, run in enumerate(runs):
        _always(first, run)
    folder = tmp_path / "weights"
    soft, biggest = (export(run, ABOUT, folder=folder) for run in runs)
    ended = command(main, "--data", data, "--folder", folder)
    assert ended.status == 0, ended.err
    seen = json.loads(ended.out)["networks"]
    assert list(seen) == [biggest, soft]
    accuracy = seen[soft]["accuracy"]
    assert (accuracy["images"], accuracy["top1"], accuracy["split"]) == (30, 16.67, "val")
    confidence = torch.softmax(torch.tensor([1.0, 0, 0, 0, 0, 0]), 0)[0].item()
    assert accuracy["calibration_error"] == pytest.approx(100 * (confidence - 1 / 6), abs=0.01)
    assert {wnid: row["top1"] for wnid, row in seen[biggest]["classes"].items()} == {
        wnid: 100.0 * (wnid == WNIDS[1]) for wnid in WNIDS
    }
    assert "accuracy" not in json.loads((folder / f"{soft}.json").read_text())
    update_card(soft, folder, temperature=0.5, rejection=REJECTION)
    ended = command(main, soft, "--data", data, "--folder", folder, "--split", "train", "--card")
    again = json.loads(ended.out)["networks"]
    assert list(again) == [soft]
    assert again[soft]["temperature"] == 0.5
    card = read_card(soft, folder)
    assert card.accuracy == again[soft]["accuracy"]
    assert (card.accuracy["split"], card.accuracy["images"]) == ("train", 96)
    assert read_description(biggest, folder).temperature == 1


def test_labels_follow_the_networks_classes_not_the_image_sets(tmp_path, command):
    data = write_arrays(tmp_path / "data", classes=6, val=5, size=32)
    run = write_run(tmp_path / "run", "avg")
    facts = json.loads((run / "run.json").read_text())
    facts["classes"] = [{"wnid": WNIDS[k], "words": ""} for k in (5, 2, 4)]
    (run / "run.json").write_text(json.dumps(facts))
    _always(0, run)
    name = export(run, ABOUT, folder=tmp_path / "weights")
    seen = json.loads(command(main, "--data", data, "--folder", tmp_path / "weights").out)["networks"][name]
    assert {wnid: row["top1"] for wnid, row in seen["classes"].items()} == {WNIDS[5]: 100, WNIDS[2]: 0, WNIDS[4]: 0}


@pytest.fixture
def constant_weights(tmp_path):
    """Networks of 64 px that always give the first of six classes: `stock`, and `lip` trained with two seeds."""
    folder = tmp_path / "weights"
    for name, variant in (("mine-stock", "stock"), ("mine-lip", "lip"), ("mine-lip-seed2", "lip")):
        run = write_run(tmp_path / name, variant, classes=6, size=64, seed=2 if name.endswith("seed2") else 0)
        _always(0, run)
        export(run, ABOUT, name=name, folder=folder)
    return folder


def test_the_command_measures_shifts_and_corruptions(constant_weights, tmp_path, command):
    data = write_arrays(tmp_path / "data", classes=6, val=5, size=64)
    out = tmp_path / "robust.json"
    arguments = ["--data", data, "--folder", constant_weights, "--limit", "6", "--corruptions", "--out", out]
    ended = command(main, "mine-stock", "mine-lip", "mine-lip-seed2", *arguments)
    assert (ended.status, ended.out) == (0, ""), ended.err
    seen = json.loads(out.read_text())
    assert list(seen["networks"]) == ["mine-stock", "mine-lip", "mine-lip-seed2"]
    for network in seen["networks"].values():
        assert network["accuracy"]["images"] == 6
        assert {row["images"] for row in network["classes"].values()} == {1}  # of photos in order of their classes
        assert network["shifts"] == {"crops": 100, "circular": 100}
        assert set(network["corruptions"]["errors"].values()) == {83.33}
        assert all(shares == [83.33] * 5 for shares in network["corruptions"]["severities"].values())
        assert len(network["corruptions"]["severities"]) == 15
        assert network["corruptions"]["mean_error"] == 83.33
        assert network["corruptions"]["mce"] == 1
    assert list(seen["seeds"]) == ["mine-lip"]
    assert seen["seeds"]["mine-lip"]["top1"] == {"seeds": 2, "mean": 16.67, "min": 16.67, "max": 16.67, "deviation": 0}
    assert set(seen["seeds"]["mine-lip"]) == {
        *("top1", "top5", "calibration_error", "crops", "circular", "mean_error", "mce")
    }
    assert seen["data"] == {"name": "data", "split": "val", "limit": 6}
    assert seen["command"].startswith(
        "python -m models.evaluate mine-stock mine-lip mine-lip-seed2 --data data --split val"
    )
    assert "--limit 6 --shifts --corruptions" in seen["command"]
    assert "synthetic" in seen["methods"]["differences"]["frost"]
    assert seen["machine"]["torch"] == torch.__version__
    assert str(tmp_path) not in out.read_text()


def test_cards_get_all_that_was_measured(constant_weights, tmp_path, command):
    data = write_arrays(tmp_path / "data", classes=6, val=1, size=64)
    names = ["mine-stock", "mine-lip", "mine-lip-seed2"]
    arguments = ["--data", data, "--folder", constant_weights, "--corruptions", "--corrupted", "2", "--card"]
    ended = command(main, *names, *arguments)
    assert ended.status == 0, ended.err
    seen = json.loads(ended.out)
    stock, lip, other = (json.loads((constant_weights / f"{name}.json").read_text()) for name in names)
    for card, name in zip((stock, lip, other), names, strict=True):
        for key in ("accuracy", "pairs", "shifts", "corruptions"):
            assert card[key] == seen["networks"][name][key]
        assert (card["accuracy"]["images"], card["corruptions"]["images"]) == (6, 2)
        # Photos of six classes, of which the first and the fourth are taken: the first is always answered.
        assert card["corruptions"]["mean_error"] == 50
    # All give the same answer; the other seed is compared with nobody.
    assert (stock["pairs"], other["pairs"]) == ({"lip": {"own": 0, "other": 0}}, {})
    assert "spread" not in stock
    assert "spread" not in other
    assert lip["spread"] == seen["seeds"]["mine-lip"]


def test_what_was_not_asked_for_is_not_there(constant_weights, tmp_path, command):
    data = write_arrays(tmp_path / "data", classes=6, val=5, size=64)
    arguments = ["--data", data, "--folder", constant_weights]
    seen = json.loads(command(main, "mine-stock", *arguments).out)
    assert {"shifts", "corruptions"} & set(seen["networks"]["mine-stock"]) == {"shifts"}
    assert set(seen["methods"]) == {"shifts"}
    bare = json.loads(command(main, "mine-stock", *arguments, "--no-shifts").out)
    assert {"shifts", "corruptions"} & set(bare["networks"]["mine-stock"]) == set()
    assert bare["methods"] == {}
    assert bare["networks"]["mine-stock"]["accuracy"]["images"] == 30


def test_robustness_by_hand():
    errors = {
        "stock-seed1": {"fog": [0.1, 0.3], "snow": [0.1, 0.1]},
        "stock-seed2": {"fog": [0.3, 0.5], "snow": [0.3, 0.3]},  # the two together: fog 0.3, snow 0.2
        "lip": {"fog": [0.1, 0.2], "snow": [0.2, 0.2]},
    }
    seen = measure_robustness(errors, ["stock-seed1", "stock-seed2"], 200)
    assert seen["lip"] == {
        "images": 200,
        "severities": {"fog": [10, 20], "snow": [20, 20]},
        "errors": {"fog": 15, "snow": 20},
        "mean_error": 17.5,
        "mce": 0.75,
    }
    assert (seen["stock-seed1"]["mce"], seen["stock-seed2"]["mce"]) == (0.5833, 1.4167)
    assert measure_robustness(errors, [], 200)["lip"]["mce"] is None


def test_images_on_which_one_alone_is_right_by_hand():
    own, other = torch.tensor([True, True, False, True, False]), torch.tensor([True, False, True, False, False])
    assert compare_hits(own, other) == {"own": 2, "other": 1}


def test_spread_over_seeds_by_hand():
    labels = torch.arange(4)
    classes = tuple(ClassLabel(f"n{index}", f"class {index}") for index in labels)

    def right(count: int):
        logits = torch.eye(4)
        logits[count:] = logits[count:].roll(1, 1)
        return evaluate(logits, labels, classes, "val")

    evaluations = {"a-lip": right(1), "a-soft-seed1": right(0), "a-lip-seed1": right(2), "a-lip-seed12": right(4)}
    seen = spread_over_seeds(evaluations)
    assert list(seen) == ["a-lip"]  # soft has no second seed
    # 25, 50 and 100: mean 58 1/3, squares of the distances 1111.1 + 69.4 + 1736.1, over two
    assert seen["a-lip"]["top1"] == {"seeds": 3, "mean": 58.3333, "min": 25, "max": 100, "deviation": 38.1881}


def test_a_folder_without_weights_is_told(arrays, tmp_path, command):
    ended = command(main, "--data", arrays, "--folder", tmp_path / "empty")
    assert (ended.status, ended.err.strip()) == (2, f"{tmp_path / 'empty'} holds no weights")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere"], "nowhere must hold val_images.npy or a folder val/"),
        (["--data", "nowhere", "mine"], "name of weights must be one of ['resnet18-w4-tinyimagenet3-stock'"),
        (["--data", "nowhere", "--device", "gpu"], "device must be one that torch finds here"),
        (["--data", "nowhere", "--limit", "9", "--card"], "limit must be left out with card"),
        (["--data", "nowhere", "--out", "nowhere/seen.json"], "out must lie in a folder that exists, got nowhere/"),
        (["--data", "nowhere", "--corruptions"], "corruptions must be left out for networks that do not see 64 px"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(arguments, sentence, weights, command):
    ended = command(main, *arguments, "--folder", weights)
    assert ended.status == 2
    assert sentence in ended.err
    assert len(ended.err.strip().splitlines()) == 1
