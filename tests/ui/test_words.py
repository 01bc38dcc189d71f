"""The sentence above the cards, from answers made by hand."""

import pytest

from models.answer import Answer, Guess
from ui.words import milliseconds, percent, verdict


def says(label: str, probability: float, known: bool = True) -> Answer:
    return Answer((Guess("n0", f"{label}, other words", label, probability), Guess("n1", "x", "x", 0.01)), known)


def test_all_agree() -> None:
    answers = {"max": says("tabby", 0.6), "lip": says("tabby", 0.914), "avg": says("tabby", 0.3)}
    assert verdict(answers, 30) == "All 3 say tabby; LIP is surest, 91 %."


def test_most_agree_and_the_surest_is_one_of_them() -> None:
    answers = {"max": says("tabby", 0.6), "lip": says("lion", 0.99, False), "soft": says("tabby", 0.7)}
    assert verdict(answers, 30) == "2 of 3 say tabby; SoftPool is surest, 70 %."
    answers["max"], answers["lip"] = says("tabby", 0.6, False), says("lion", 0.99)
    assert verdict(answers, 30) == "2 of 3 say tabby; SoftPool is surest, 70 %. 1 of them is not sure."


def test_half_is_not_most() -> None:
    answers = {"max": says("tabby", 0.6), "lip": says("lion", 0.9), "soft": says("tabby", 0.7), "avg": says("alp", 0.5)}
    assert verdict(answers, 30) == "The networks disagree: 2 say tabby, 1 says lion, 1 says alp."
    answers["avg"] = says("lion", 0.5)
    assert verdict(answers, 30) == "The networks disagree: 2 say tabby, 2 say lion."
    answers |= {"avg": says("tabby", 0.5), "stock": says("alp", 0.5), "lift": says("lion", 0.5)}
    assert verdict(answers, 30) == "The networks disagree: 3 say tabby, 2 say lion, 1 says alp."


def test_more_than_half_unsure_is_none_of_the_things_they_know() -> None:
    answers = {"max": says("tabby", 0.2, False), "lip": says("tabby", 0.9), "soft": says("tabby", 0.1, False)}
    assert verdict(answers, 30) == "Probably none of the 30 things these networks know."
    answers["avg"] = says("tabby", 0.8)
    assert verdict(answers, 30) == "All 4 say tabby; LIP is surest, 90 %. 2 of them are not sure."


def test_one_network() -> None:
    assert verdict({"lift": says("goldfish", 0.5)}, 30) == "LiftPool says goldfish, 50 %."
    assert verdict({"lift": says("goldfish", 0.1, False)}, 200) == "Probably none of the 200 things this network knows."


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0, "<1 %"), (0.0049, "<1 %"), (0.006, "1 %"), (0.914, "91 %"), (0.9949, "99 %"), (0.996, ">99 %"), (1, ">99 %")],
)
def test_no_percentage_claims_more_than_it_is(probability: float, words: str) -> None:
    assert percent(probability) == words


def test_milliseconds_have_the_digits_that_are_true() -> None:
    shown = [milliseconds(time_ms) for time_ms in (0.04, 1.25, 9.94, 10.4, 123.4)]
    assert shown == ["0.0 ms", "1.2 ms", "9.9 ms", "10 ms", "123 ms"]
