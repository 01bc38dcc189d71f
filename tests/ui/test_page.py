"""Which networks the page loads."""

from dataclasses import replace

import pytest

import ui.page
from models.zoo import Loaded
from tests.ui import made_up
from ui.page import load_networks

SETS = {"many": ["many-stock", "many-max"], "few": ["few-max", "few-lip"]}


@pytest.fixture(autouse=True)
def _weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str) -> Loaded:
        assert device == "cpu"
        loaded = made_up.load(name.partition("-")[2])
        return Loaded(loaded.network, replace(loaded.card, name=name))

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
def test_networks_are_chosen_by_variant_set_or_name_and_sets_keep_their_order(wanted, loaded):
    found = load_networks(wanted, "cpu")
    assert {own.name: [one.card.name for one in own.networks] for own in found} == loaded
    assert [own.name for own in found] == list(loaded)


@pytest.mark.parametrize("name", ["swin", "lift", "few-stock", ""])
def test_what_is_not_there_is_told_with_what_is(name):
    sentence = f"networks must be among stock, max, lip, many, few, many-stock, many-max, few-max, few-lip, got {name}"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        load_networks([name], "cpu")


def test_without_weights_the_page_cannot_be_built(monkeypatch):
    monkeypatch.setattr(ui.page.zoo, "list_sets", dict)
    with pytest.raises(ValueError, match="there are no weights in models/weights"):
        load_networks([], "cpu")
