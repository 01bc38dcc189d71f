"""Weights by name: what exists, what is loaded, and what is refused."""

import json
from dataclasses import fields

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from models import zoo
from models.data import ClassLabel
from models.resnet import VARIANTS, count_macs, count_parameters, resnet
from models.zoo import (
    Card,
    WeightsName,
    list_sets,
    list_weights,
    load,
    read_card,
    read_description,
    select_weights,
    update_card,
)

from .conftest import ACCURACY, REJECTION, WNIDS, WORDS

NAMES = [f"resnet18-w4-tinyimagenet3-{variant}" for variant in VARIANTS]
KEYS = (
    "name variant depth width stem input_size preprocessing classes data recipe seed epochs parameters macs accuracy "
    "temperature threshold rejection licence date sha256 storage"
)


def test_weights_are_listed_in_the_order_of_the_variants(weights):
    assert list_weights(weights) == NAMES
    (weights / "left-over.safetensors").write_bytes(b"")  # without a card it is no set of weights
    assert list_weights(weights) == NAMES
    assert list_weights(weights / "absent") == []


def test_sets_are_named_apart_from_variants_and_seeds(weights):
    for seed in (10, 2):
        for ending in (".safetensors", ".json"):
            copied = (weights / f"{NAMES[3]}{ending}").read_bytes()
            (weights / f"{NAMES[3]}-seed{seed}{ending}").write_bytes(copied)
    assert list_weights(weights) == [*NAMES[:4], f"{NAMES[3]}-seed2", f"{NAMES[3]}-seed10", *NAMES[4:]]
    assert list_sets(weights) == {"resnet18-w4-tinyimagenet3": NAMES}
    assert WeightsName.read("mine-max-lip-seed12") == ("mine-max", "lip", 12)
    assert WeightsName.read("mine-blur") is WeightsName.read("mine-lip-seed0") is None
    assert select_weights(["resnet18-w4-tinyimagenet3"], weights) == list_weights(weights)


def test_weights_that_nobody_has_measured_belong_to_no_set(weights):
    path = weights / f"{NAMES[1]}.json"
    content = json.loads(path.read_text())
    del content["accuracy"]
    path.write_text(json.dumps(content))
    assert list_sets(weights) == {"resnet18-w4-tinyimagenet3": [NAMES[0], *NAMES[2:]]}
    assert NAMES[1] in list_weights(weights)


def test_the_opening_set_comes_first_and_then_those_that_know_more(weights, monkeypatch):
    for ending in (".safetensors", ".json"):
        (weights / f"a-max{ending}").write_bytes((weights / f"{NAMES[1]}{ending}").read_bytes())
    assert list(list_sets(weights)) == ["a", "resnet18-w4-tinyimagenet3"]  # both know three
    content = json.loads((weights / "a-max.json").read_text())
    (weights / "a-max.json").write_text(json.dumps(content | {"classes": content["classes"][:2]}))
    assert list(list_sets(weights)) == ["resnet18-w4-tinyimagenet3", "a"]
    monkeypatch.setattr(zoo, "OPENING", "a")
    assert list(list_sets(weights)) == ["a", "resnet18-w4-tinyimagenet3"]


def test_a_card_has_every_field_and_nothing_else(weights):
    content = json.loads((weights / f"{NAMES[4]}.json").read_text())
    assert set(content) == set(KEYS.split())
    assert {field.name for field in fields(Card)} == set(content) | {"pairs", "shifts", "corruptions", "spread"}
    assert set(content["data"]) == {"name", "description", "url", "terms", "train_images", "val_images"}
    card = read_card(NAMES[4], weights)
    assert (card.variant, card.depth, card.width, card.stem, card.input_size) == ("lip", 18, 4, "small", 32)
    assert card.classes == tuple(ClassLabel(w, t) for w, t in zip(WNIDS[:3], WORDS, strict=False))
    assert (card.accuracy, card.rejection, card.temperature, card.threshold) == (ACCURACY, REJECTION, 2.0, 0.4)
    assert (card.seed, card.epochs, card.data["train_images"], card.data["val_images"]) == (0, 3, 640, 30)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_loaded_as_it_was_exported(name, weights, tmp_path):
    loaded = load(name, folder=weights)
    variant = name.rpartition("-")[2]
    assert loaded.network.variant == loaded.card.variant == variant
    assert not loaded.network.training
    assert loaded.network.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert loaded.card.parameters == count_parameters(loaded.network)
    assert loaded.card.macs == count_macs(loaded.network, 32)
    # By hand: the run's network, each output channel of its convolutions and of its linear layer in 127 steps a sign.
    plain = resnet(18, variant, width=4, stem="small", num_classes=3).eval()
    plain.load_state_dict(load_file(tmp_path / "runs" / variant / "weights.safetensors"))
    for module in plain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for channel in module.weight.data:
                step = channel.abs().max() / 127
                channel.copy_((channel / step).round() * step)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(x), plain(x), rtol=1e-4, atol=1e-4)


def test_a_photo_is_prepared_as_in_evaluation(weights):
    photo = Image.new("RGB", (72, 36), (255, 0, 51))
    photo.paste((0, 255, 51), (0, 0, 18, 36))  # the left quarter lies outside of the middle
    x = load(NAMES[0], folder=weights).preprocess(photo)
    assert x.shape == (1, 3, 32, 32)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    expected = torch.tensor([(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(x, expected.view(1, 3, 1, 1).expand(1, 3, 32, 32), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18-w4-tinyimagenet3-blur", "../weights/" + NAMES[0], ""])
def test_an_unknown_name_is_told_with_those_that_exist(name, weights):
    with pytest.raises(ValueError, match=rf"name of weights must be one of \['{NAMES[0]}', .*, got '{name}'"):
        load(name, folder=weights)


def test_a_file_that_is_not_the_cards_is_refused(weights):
    path = weights / f"{NAMES[1]}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{NAMES[1]}.safetensors is not the file its card describes: its sha256"):
        load(NAMES[1], folder=weights)


def test_weights_that_nobody_has_measured_are_refused(weights):
    path = weights / f"{NAMES[2]}.json"
    content = json.loads(path.read_text())
    del content["accuracy"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"lacks \['accuracy'\]: run models.calibrate, then models.evaluate --card"):
        load(NAMES[2], folder=weights)
    assert read_description(NAMES[2], weights).variant == "avg"


def test_a_new_temperature_takes_out_what_depends_on_it_alone(weights):
    shifts = {"crops": 90.0, "circular": 80.0}
    spread = {"top1": {"seeds": 2, "mean": 40.0, "min": 39.0, "max": 41.0, "deviation": 1.4}}
    update_card(NAMES[0], weights, temperature=2.0, threshold=0.5, shifts=shifts, spread=spread)
    assert read_card(NAMES[0], weights).threshold == 0.5
    assert read_card(NAMES[0], weights).spread == spread
    update_card(NAMES[0], weights, temperature=2.5)
    content = json.loads((weights / f"{NAMES[0]}.json").read_text())
    assert {"accuracy", "spread", "shifts"} & content.keys() == {"shifts"}
    update_card(NAMES[0], weights, accuracy=ACCURACY)
    assert read_card(NAMES[0], weights).temperature == 2.5
