"""The kinds under which the search finds a class: against what anybody knows, and a WordNet of five nouns."""

import json
from pathlib import Path

import pytest

from models import zoo
from scripts.make_kinds import KINDS, ancestors, read_hypernyms

ASSETS = Path(__file__).resolve().parents[1] / "assets"
OF_CLASS = json.loads((ASSETS / "kinds.json").read_text(encoding="utf-8"))
LABELS = {label.wnid: label.label for names in zoo.list_sets().values() for label in zoo.read_card(names[0]).classes}

WORDNET = """\
  1 This is a licence.
00000001 03 n 01 entity 0 000 | all there is
00000002 05 n 02 dog 0 Canis_familiaris 0 003 @ 00000001 n 0000 @ 00000004 n 0000 ~ 00000003 n 0000 | barks | a lot
00000003 05 n 01 pug 0 001 @ 00000002 n 0000 | a small one
00000004 05 n 01 pet 0 001 @ 00000001 n 0000 | at home
00000005 05 n 0a a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 Rex 0 002 ~ 00000003 n 0000 @i 00000003 n 0000 | a pug
"""


def of_kind(kind: str) -> set[str]:
    return {LABELS[wnid] for wnid, kinds in OF_CLASS.items() if kind in kinds.split(", ")}


def test_hypernyms_are_read(tmp_path):
    path = tmp_path / "data.noun"
    path.write_text(WORDNET)
    hypernyms = read_hypernyms(path)
    assert hypernyms == {
        "n00000001": [],
        "n00000002": ["n00000001", "n00000004"],
        "n00000003": ["n00000002"],
        "n00000004": ["n00000001"],
        "n00000005": ["n00000003"],
    }
    assert set(ancestors("n00000005", hypernyms)) == set(hypernyms)
    assert set(ancestors("n00000004", hypernyms)) == {"n00000004", "n00000001"}


def test_every_class_that_the_networks_know_was_looked_up():
    assert set(OF_CLASS) == set(LABELS)
    known_words = set(", ".join(KINDS.values()).split(", "))
    assert all(word in known_words for kinds in OF_CLASS.values() if kinds for word in kinds.split(", "))


@pytest.mark.parametrize(
    ("kind", "some", "none"),
    [
        ("dog", {"golden retriever", "English springer"}, {"tabby", "lion", "sports car"}),
        ("cat", {"tabby", "lion"}, {"golden retriever", "goldfish"}),
        ("fish", {"goldfish", "tench"}, {"jellyfish"}),
        ("fruit", {"orange", "lemon", "banana"}, {"pizza"}),
        ("insect", {"ladybug", "monarch"}, {"king penguin"}),
        ("vehicle", {"school bus", "sports car", "garbage truck", "bullet train"}, {"teapot"}),
        ("animal", {"koala", "king penguin", "jellyfish", "monarch"}, {"banana", "church"}),
    ],
)
def test_everyday_kinds(kind, some, none):
    assert some <= of_kind(kind)
    assert not none & of_kind(kind)


def test_its_licence_goes_along():
    assert "Copyright 2006 by Princeton University" in (ASSETS / "WORDNET.txt").read_text()
