"""The Compare tab's events without a browser: what is looked at, and what is shown when there is nothing to look at."""

from types import SimpleNamespace

import gradio as gr
import pytest

from tests.ui import made_up
from ui.compare import NO_PHOTO, NOTHING, Compare, open_example

VISITOR = SimpleNamespace(session_hash="visitor")


@pytest.fixture
def tab() -> Compare:
    context = made_up.context("max", "avg")
    return Compare(context, open_example(context))


def cards_sent(updates: list) -> int:
    return sum(isinstance(card, str) and "ps-guesses" in card for update in updates for card in update[3:])


def test_a_photo_that_is_told_of_twice_is_looked_at_once(tab: Compare):
    assert cards_sent(list(tab.run_new(made_up.photo(1), "stem", "share", VISITOR))) == 2
    assert cards_sent(list(tab.run_new(made_up.photo(1), "stem", "share", VISITOR))) == 0
    assert cards_sent(list(tab.run_new(made_up.photo(2), "stem", "share", VISITOR))) == 2


def test_another_visitor_with_the_same_photo_is_answered(tab: Compare):
    list(tab.run_new(made_up.photo(1), "stem", "share", VISITOR))
    other = SimpleNamespace(session_hash="other")
    assert cards_sent(list(tab.run_new(made_up.photo(1), "stem", "share", other))) == 2


def test_run_again_looks_again(tab: Compare):
    list(tab.run_new(made_up.photo(1), "stem", "share", VISITOR))
    assert cards_sent(list(tab.run(made_up.photo(1), "stem", "share", VISITOR))) == 2


def test_without_a_photo_nothing_is_shown_and_nothing_is_awaited(tab: Compare):
    list(tab.run_new(made_up.photo(1), "stem", "share", VISITOR))
    ((key, style, sentence, *cards),) = tab.run_new(None, "stem", "share", VISITOR)
    assert (key, style) == (NOTHING, "")
    assert NO_PHOTO in sentence
    assert len(cards) == 2
    assert not any("aria-busy" in card or "Looking" in card or "ps-map" in card for card in cards)
    with pytest.raises(gr.Error, match=NO_PHOTO):
        tab.redraw(key, "stem", "share", VISITOR)
    assert cards_sent(list(tab.run_new(made_up.photo(1), "stem", "share", VISITOR))) == 2
