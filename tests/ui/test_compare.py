"""The Compare tab's events without a browser: what is looked at, and what is shown when there is nothing to look at."""

import base64
import json
from threading import Thread
from types import SimpleNamespace

import gradio as gr
import pytest
import torch

import ui.compare
from tests.ui import made_up
from ui.compare import NO_LONGER, NO_PHOTO, NOTHING, OPENING, Compare, open_example
from ui.pictures import frame

VISITOR = SimpleNamespace(session_hash="visitor")


@pytest.fixture
def tab() -> Compare:
    context = made_up.context("max", "avg")
    return Compare(context, open_example(context))


def cards_sent(updates: list) -> int:
    return len({card for update in updates for card in update[3:] if isinstance(card, str) and "ps-guesses" in card})


def test_a_photo_that_is_told_of_twice_is_looked_at_once(tab: Compare):
    assert cards_sent(list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))) == 2
    assert cards_sent(list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))) == 0
    assert cards_sent(list(tab.run_new(made_up.photo(2), made_up.SET, "stem", "share", VISITOR))) == 2


def test_another_visitor_with_the_same_photo_is_answered(tab: Compare):
    list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))
    other = SimpleNamespace(session_hash="other")
    assert cards_sent(list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", other))) == 2


def test_a_run_tells_nothing_until_the_one_before_it_has_told_all(tab: Compare):
    older = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR)
    newer = tab.run_new(made_up.photo(2), made_up.SET, "stem", "share", VISITOR)
    others = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", SimpleNamespace(session_hash="other"))
    told = []
    next(older)
    thread = Thread(target=lambda: told.extend(newer))
    thread.start()
    assert cards_sent(list(others)) == 2
    assert told == []
    assert not any(isinstance(value, str) for update in older for value in update)  # it is superseded
    thread.join(60)
    assert cards_sent(told) == 2


def test_what_a_run_tells_last_changes_nothing(tab: Compare):
    *_, last = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR)
    assert not any(isinstance(value, str) for value in last)


def test_an_abandoned_run_is_not_waited_for_for_ever(tab: Compare, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ui.compare, "LONGEST_TURN_S", 0.1)
    abandoned = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR)
    next(abandoned)
    assert cards_sent(list(tab.run_new(made_up.photo(2), made_up.SET, "stem", "share", VISITOR))) == 2
    abandoned.close()


def test_run_again_looks_again(tab: Compare):
    list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))
    assert cards_sent(list(tab.run(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))) == 2


def test_without_a_photo_nothing_is_shown_and_nothing_is_awaited(tab: Compare):
    list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))
    (key, style, sentence, *cards), last = tab.run_new(None, made_up.SET, "stem", "share", VISITOR)
    assert (key, style) == (NOTHING, "")
    assert not any(isinstance(value, str) for value in last)
    assert NO_PHOTO in sentence
    assert len(cards) == 2
    assert not any("aria-busy" in card or "Looking" in card or "ps-map" in card for card in cards)
    with pytest.raises(gr.Error, match=NO_PHOTO):
        tab.save_numbers(key, "stem", VISITOR)
    _, said, *redrawn = tab.redraw(key, "stage3", "share", VISITOR)  # a place may be chosen before the photo
    assert not isinstance(said, str)
    assert cards_sent([[None, None, None, *redrawn]]) == 0
    assert cards_sent(list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))) == 2


def test_another_set_looks_at_the_same_photo():
    other = made_up.network_set("lip", "max", name="other", seed=1)
    context = made_up.context("max", "avg", others=[other])
    tab = Compare(context, open_example(context))
    assert context.variants == ("max", "avg", "lip")
    mine = list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))
    assert mine[0][5] == ""  # the first set has no LIP
    updates = list(tab.run_new(made_up.photo(1), "other", "stem", "share", VISITOR))
    assert updates[0][4] == ""  # the other no average
    assert cards_sent(updates) == 2
    key = updates[0][0]
    numbers = json.loads(base64.b64decode(tab.save_numbers(key, "stem", VISITOR).partition(",")[2]))
    assert numbers["network_set"] == "other"
    assert [row["variant"] for row in numbers["networks"]] == ["lip", "max"]
    # Another place of that visit is drawn from the other set's looks, whatever has been chosen since.
    _, _, *cards = tab.redraw(key, "stage2", "share", VISITOR)
    assert ["ps-guesses" in card if isinstance(card, str) else None for card in cards] == [True, None, True]


class TestSetThatCouldNotLook:
    """After a set that could not look at the photo, other sets' answers go, and newer ones stay."""

    @pytest.fixture
    def tab(self) -> Compare:
        context = made_up.context("max", "avg", others=[made_up.network_set("max", name="other", seed=1)])
        return Compare(context, open_example(context))

    def is_cleared(self, update: tuple) -> bool:
        assert update[0] == NOTHING or not any(isinstance(value, str) for value in update)
        return update[0] == NOTHING

    @pytest.mark.parametrize("network_set", [made_up.SET, "other"])
    def test_nothing_of_the_opening_example_stays(self, tab: Compare, network_set: str):
        assert self.is_cleared(tab.clear_old(OPENING, network_set, VISITOR))

    def test_another_sets_answers_go(self, tab: Compare):
        key = next(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))[0]
        assert self.is_cleared(tab.clear_old(key, "other", VISITOR))
        assert self.is_cleared(tab.clear_old(NOTHING, made_up.SET, VISITOR))
        assert NO_LONGER not in str(tab.redraw(NOTHING, "stage3", "share", VISITOR))

    def test_a_photo_that_came_since_stays(self, tab: Compare):
        old = next(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))[0]
        (new, *_), *answers = tab.run_new(made_up.photo(2), made_up.SET, "stem", "share", VISITOR)
        assert cards_sent(answers) == 2
        for key, network_set in ((old, "other"), (old, made_up.SET), (new, made_up.SET)):
            assert not self.is_cleared(tab.clear_old(key, network_set, VISITOR))
        assert cards_sent([[None, None, None, *tab.redraw(new, "stem", "share", VISITOR)[2:]]]) == 2

    def test_a_network_that_failed_leaves_nothing_awaited(self, tab: Compare, monkeypatch: pytest.MonkeyPatch):
        run = tab.run_new(made_up.photo(1), "other", "stem", "share", VISITOR)
        key = next(run)[0]
        monkeypatch.setattr(ui.compare, "look", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(run)
        assert self.is_cleared(tab.clear_old(key, "other", VISITOR))

    def test_a_network_that_failed_leaves_the_next_photo_alone(self, tab: Compare, monkeypatch: pytest.MonkeyPatch):
        run = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR)
        next(run)
        framed = frame(made_up.photo(2).image)
        newer = tab.context.visits.open(VISITOR.session_hash, framed, made_up.SET, "stem", "share")
        monkeypatch.setattr(ui.compare, "look", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(run)
        assert tab.context.visits.last(VISITOR.session_hash) is newer


def test_what_is_chosen_while_a_run_waits_for_its_turn_holds_for_it(tab: Compare):
    (key, *_), *_ = list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))
    run = tab.run_new(made_up.photo(2), made_up.SET, "stem", "share", VISITOR)
    newer, *_ = next(run)
    # The page has the older key still: nothing of the older photo is drawn, and nothing is said to be gone.
    _, said, *redrawn = tab.redraw(key, "stage3", "share", VISITOR)
    assert not isinstance(said, str)
    assert cards_sent([[None, None, None, *redrawn]]) == 0
    tab.settle(newer, "stage3", "share", VISITOR)
    *_, (_, _, _, *cards), _ = run
    at_stage3 = [card for card in tab.redraw(newer, "stage3", "share", VISITOR)[2:] if isinstance(card, str)]
    assert cards == at_stage3
    # Once all is as it was chosen, nothing is drawn again.
    assert cards_sent([[None, None, None, *tab.settle(newer, "stage3", "share", VISITOR)[2:]]]) == 0


def test_a_place_chosen_while_a_card_is_drawn_holds_for_it(tab: Compare, monkeypatch: pytest.MonkeyPatch):
    run = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR)
    key = next(run)[0]
    drawn = ui.compare.draw_card

    def choose_meanwhile(loaded, seen, place, view):
        card = drawn(loaded, seen, place, view)
        tab.settle(key, "stage3", "share", VISITOR)
        return card

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(ui.compare, "draw_card", choose_meanwhile)
        told = [card for update in run for card in update[3:] if isinstance(card, str)]
    cards = told[:2]
    assert told == 2 * cards  # one by one, and at last all again
    assert cards == [card for card in tab.redraw(key, "stage3", "share", VISITOR)[2:] if isinstance(card, str)]


def test_the_opening_example_is_not_drawn_over_a_newer_photo(tab: Compare):
    assert cards_sent([[None, None, None, *tab.redraw(OPENING, "stem", "share", VISITOR)[2:]]]) == 2
    run = tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR)
    next(run)  # its key is on its way to the page
    assert cards_sent([[None, None, None, *tab.redraw(OPENING, "stem", "share", VISITOR)[2:]]]) == 0


def test_of_a_photo_that_is_no_longer_kept_that_is_said(tab: Compare):
    (key, *_), *_ = list(tab.run_new(made_up.photo(1), made_up.SET, "stem", "share", VISITOR))
    tab.context.visits.forget(VISITOR.session_hash)
    legend, said, *cards = tab.redraw(key, "stage3", "pooled", VISITOR)
    assert NO_LONGER in said
    assert not isinstance(legend, str)  # the maps on the page are still the old ones
    assert cards_sent([[None, None, None, *cards]]) == 0


def test_the_endpoint_asks_the_set_that_is_named():
    context = made_up.context("max", "avg", others=[made_up.network_set("max", name="other", seed=1)])
    tab = Compare(context, open_example(context))
    numbers, _ = tab.compare(made_up.photo(1), ["max", "avg"], "stem", "other")
    other = context.find_set("other").networks[0]
    with torch.no_grad():
        logits = other.network(other.preprocess(made_up.photo(1).image))[0]
    expected = torch.softmax(logits.double() / other.card.temperature, 0).max()
    assert [row["variant"] for row in numbers["networks"]] == ["max"]
    assert numbers["networks"][0]["probability"] == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(gr.Error, match="This set has max"):
        tab.compare(made_up.photo(1), ["avg"], "stem", "other")
