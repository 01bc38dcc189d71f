"""The weights in this repository: all six, whole, measured, and of use."""

import json
from pathlib import Path

import pytest
import torch

from models.data import read_image
from models.predict import main
from models.resnet import VARIANTS, count_macs, count_parameters
from models.zoo import WEIGHTS, WeightsName, list_sets, list_weights, load, read_card

PHOTO = Path(__file__).resolve().parents[2] / "assets" / "examples" / "tabby.jpg"
NAMES, SETS = list_weights(), list_sets()


def test_each_set_has_one_network_of_each_variant():
    assert len(SETS) > 1
    assert {one: [f"{one}-{variant}" for variant in VARIANTS] for one in SETS} == SETS
    assert sorted(name for names in SETS.values() for name in names) == sorted(NAMES)


def test_all_files_together_fit_into_a_repository():
    files = [path.stat().st_size for path in WEIGHTS.iterdir()]
    assert sum(files) < 64e6
    assert max(files) < 10e6


@pytest.mark.parametrize("one", SETS)
def test_all_six_were_trained_alike(one):
    first, *others = (read_card(name) for name in SETS[one])
    for card in others:
        for field in ("depth", "width", "stem", "input_size", "classes", "data", "recipe", "seed", "epochs", "licence"):
            assert getattr(card, field) == getattr(first, field), (card.name, field)
    assert first.seed == 0
    assert first.epochs == sum(epochs for _, epochs in first.recipe["schedule"])
    chosen = WEIGHTS.parent / f"{one.rpartition('-')[2]}.txt"  # where not all of the data's classes were
    if chosen.exists():
        lines = [line.split("\t") for line in chosen.read_text().splitlines()]
        preferred = json.loads((WEIGHTS.parent / "tinyimagenet.json").read_text())["labels"]
        for label, (wnid, words) in zip(first.classes, lines, strict=True):
            front = preferred.get(wnid, words.split(", ")[0])
            rest = [word for word in words.split(", ") if word != front]
            assert (label.wnid, label.words) == (wnid, ", ".join([front, *rest]))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_what_their_card_says(name):
    loaded = load(name)
    card = loaded.card
    parts = WeightsName.read(name)
    assert card.name == name
    assert (card.variant, card.seed) == parts[1:]
    assert card.parameters == count_parameters(loaded.network)
    assert card.macs == count_macs(loaded.network, card.input_size)
    assert all(bool(torch.isfinite(value).all()) for value in loaded.network.state_dict().values())
    accuracy, rejection = card.accuracy, card.rejection
    assert (accuracy["split"], accuracy["images"]) == ("val", card.data["val_images"])
    assert 100 / len(card.classes) < accuracy["top1"] <= accuracy["top5"] <= 100
    assert 0 <= accuracy["calibration_error"] <= 100
    assert 0.05 < card.temperature < 20
    assert 1 / len(card.classes) < card.threshold < 1
    # The set of all 200 leaves none of its image set unknown: Imagenette's ten stand in, half of them to judge.
    assert rejection["unknown_classes"] >= (5 if len(card.classes) == 200 else 85)
    assert rejection["auroc"] > 0.5
    assert rejection["known_kept"] + rejection["unknown_rejected"] > 100  # better than a coin
    assert 0 < card.shifts["circular"] <= 100
    if card.input_size == 64:
        assert len(card.corruptions["errors"]) == 15
        assert card.corruptions["mean_error"] > 100 - accuracy["top1"]  # a corruption helps no network


@pytest.mark.parametrize("name", NAMES)
def test_a_network_answers_the_photo_and_not_its_padding_or_batch(name):
    loaded = load(name)
    x = loaded.preprocess(read_image(PHOTO))
    with torch.no_grad():
        alone, together = loaded.network(x), loaded.network(torch.cat((x.flip(2), x)))
        other = loaded.network(torch.zeros_like(x))
    torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-3)
    assert (alone - other).abs().max() > 0.5


def test_predict_prints_all_six(command):
    ended = command(main, PHOTO)
    assert ended.status == 0, ended.err
    lines = [line for line in ended.out.splitlines() if not line.endswith("):")]
    assert [line.split()[0] for line in lines] == list(VARIANTS) * len(SETS)
    for line in lines:
        shares = [int(word) for word, sign in zip(line.split(), line.split()[1:], strict=False) if sign == "%"]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 103
