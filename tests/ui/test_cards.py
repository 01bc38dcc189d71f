"""The cards' words and escapes, from looks made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from models.answer import Answer, Guess
from ui.cards import draw_card, draw_legend, draw_verdict, draw_waiting_card, share_in_words
from ui.context import NetworkSet
from ui.look import Look, PlaceLook, Share
from ui.words import ENDS

UNSAFE = 'a "quoted" <img src=x onerror=alert(1)> & more'


def network(variant: str) -> SimpleNamespace:
    """What the cards read of a loaded network."""
    accuracy = {"split": "val", "images": 750, "top1": 77.74, "top5": 95.0, "calibration_error": 1.0}
    card = SimpleNamespace(accuracy=accuracy, input_size=64, seed=0, spread=None, pairs=None)
    return SimpleNamespace(network=SimpleNamespace(variant=variant), card=card, classes=range(30))


def of(*networks) -> NetworkSet:
    return NetworkSet("made-up", networks)


def look(variant: str, values: np.ndarray, *, label: str = "tabby", known: bool = True) -> Look:
    share = Share(values.astype(np.float16), 82.4, 17.6)
    place = PlaceLook((64, 4, 4), (64, 2, 2), np.ones((2, 2), np.float16))
    guesses = (Guess("n1", f"{label}, cat", label, 0.914), Guess("n2", "lion", "lion", 0.05))
    return Look(variant, Answer(guesses, known), 12.34, 1.26, {"stage2": place}, {"stage2": share})


def test_a_card_says_what_the_network_made_of_the_photo() -> None:
    values = np.full((6, 6), 0.5)
    values[:2, 4:] = 3
    card = draw_card(network("lip"), look("lip", values), "stage2", "share")
    assert "LIP" in card
    assert "77.7 % right" in card
    assert "91 %" in card
    assert "12 ms, of which pooling 1.3 ms" in card
    assert "82 % of all pixels dropped, 18 % count more than twice." in card
    assert 'alt="LIP, share at stage 2: 82 %' in card
    assert "Most is kept at the top right" in card
    assert "ps-unsure" not in card


def test_the_pooled_view_says_sizes() -> None:
    card = draw_card(network("max"), look("max", np.ones((4, 4))), "stage2", "pooled")
    assert "4 × 4 pixels pooled to 2 × 2, mean of 64 channels." in card


def test_an_even_map_is_called_even() -> None:
    assert "Evenly over the picture." in draw_card(network("avg"), look("avg", np.ones((6, 6))), "stage2", "share")


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (7, 3)])
def test_small_maps_and_maps_with_holes_have_words(shape: tuple[int, int]) -> None:
    values = np.ones(shape)
    values[-1, -1] = np.nan if values.size > 1 else 1
    assert "Evenly" in draw_card(network("max"), look("max", values), "stage2", "share")


def test_class_names_are_escaped() -> None:
    card = draw_card(network("max"), look("max", np.ones((4, 4)), label=UNSAFE), "stage2", "share")
    assert "<img src=x" not in card
    assert 'a "quoted"' not in card
    assert "&lt;img src=x" in card
    looks = [look("max", np.ones((4, 4)), label=UNSAFE)]
    assert "<img" not in draw_verdict(looks, of(network("max")))


def test_a_network_that_is_not_sure_says_so() -> None:
    assert "Not sure" in draw_card(network("max"), look("max", np.ones((4, 4)), known=False), "stage2", "share")


def test_stock_says_that_its_map_is_of_the_weights_alone() -> None:
    share = Share(np.ones((2, 2), np.float16), 10, 5)
    assert "the same for every photo" in share_in_words("stock", "stage2", share)
    assert "the same for every photo" not in share_in_words("stock", "stem", share)
    assert "the same for every photo" not in share_in_words("lip", "stage2", share)
    assert "absolute response" in share_in_words("lift", "stage2", share)


def test_the_verdict_waits_for_all() -> None:
    networks = of(network("max"), network("lip"))
    assert "0 of 2 networks have answered" in draw_verdict([], networks)
    assert "1 of 2 networks have answered" in draw_verdict([look("max", np.ones((4, 4)))], networks)
    assert "All 2 say tabby" in draw_verdict([look(variant, np.ones((4, 4))) for variant in ("max", "lip")], networks)


def test_a_waiting_card_shows_no_numbers_but_the_accuracy() -> None:
    card = draw_waiting_card(network("soft"))
    assert "ps-waiting" in card
    assert "ps-guesses" not in card
    assert "77.7 % right" in card


@pytest.mark.parametrize("view", ["share", "pooled"])
def test_the_legend_is_in_words(view: str) -> None:
    legend = draw_legend(view)
    assert all(words in legend for words in ENDS[view])
