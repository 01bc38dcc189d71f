"""Which networks the page loads, and in which order."""

from dataclasses import replace

import pytest

import ui.page
from models.data import ClassLabel
from models.zoo import Loaded
from tests.ui import made_up
from ui.page import load_networks

SETS = {"few": ["few-max", "few-lip"], "many": ["many-stock", "many-max"]}


@pytest.fixture(autouse=True)
def _weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str) -> Loaded:
        assert device == "cpu"
        group, variant = name.split("-")
        loaded = made_up.load(variant)
        more = tuple(ClassLabel(f"n{index}", f"thing {index}") for index in range(9))
        return Loaded(loaded.network, replace(loaded.card, name=name, classes=more if group == "many" else more[:4]))

    monkeypatch.setattr(ui.page.zoo, "list_sets", lambda: SETS)
    monkeypatch.setattr(ui.page.zoo, "load", load)


@pytest.mark.parametrize(
    ("wanted", "loaded"),
    [
        ([], {"many": ["many-stock", "many-max"], "few": ["few-max", "few-lip"]}),
        (["max"], {"many": ["many-max"], "few": ["few-max"]}),
        (["lip"], {"few": ["few-lip"]}),
        (["few"], {"few": ["few-max", "few-lip"]}),
        (["many-max", "lip"], {"many": ["many-max"], "few": ["few-lip"]}),
    ],
)
def test_networks_are_chosen_by_variant_set_or_name_and_the_set_that_knows_most_comes_first(wanted, loaded):
    found = load_networks(wanted, "cpu")
    assert {own.name: [one.card.name for one in own.networks] for own in found} == loaded
    assert [own.name for own in found] == list(loaded)


@pytest.mark.parametrize("name", ["swin", "lift", "few-stock", ""])
def test_what_is_not_there_is_told_with_what_is(name):
    sentence = f"networks must be among stock, max, lip, few, many, few-max, few-lip, many-stock, many-max, got {name}"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        load_networks([name], "cpu")


def test_without_weights_the_page_cannot_be_built(monkeypatch):
    monkeypatch.setattr(ui.page.zoo, "list_sets", dict)
    with pytest.raises(ValueError, match="there are no weights in models/weights"):
        load_networks([], "cpu")
