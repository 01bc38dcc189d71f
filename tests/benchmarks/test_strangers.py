"""What a set's answers to a stranger's photos are counted as."""

import json
from pathlib import Path

import pytest

from benchmarks.framing import Labelled
from benchmarks.strangers import RESULTS, count
from models.answer import Answer, Guess
from models.zoo import list_sets


def says(*wnids: str, known: bool = True) -> Answer:
    """An answer whose guesses are these classes, best first."""
    return Answer(tuple(Guess(wnid, wnid, wnid, 0.5 / (place + 1)) for place, wnid in enumerate(wnids)), known)


def shows(wnid: str) -> Labelled:
    return Labelled(Path("photo.jpg"), wnid)


def test_all_photos_count_and_only_first_guesses_are_named():
    said = [
        says("cat", "dog"),                 # right, and named
        says("cat", "dog", known=False),    # right, yet not named
        says("cat", "dog"),                 # right only among the five: named wrongly
        says("cat", "dog", known=False),    # a thing that it was never taught, rightly not named
        says("dog", "cat"),                 # the same, named
    ]
    photos = [shows("cat"), shows("cat"), shows("dog"), shows("teapot"), shows("")]
    assert count(said, photos) == pytest.approx({"top1": 40, "top5": 60, "named_right": 20, "named_wrong": 40})


def test_the_page_opens_with_the_set_that_names_most_of_them_rightly():
    rows = json.loads(RESULTS.read_text())["rows"]
    assert {row["set"] for row in rows} == set(list_sets())
    assert max(rows, key=lambda row: row["named_right"])["set"] == next(iter(list_sets()))
