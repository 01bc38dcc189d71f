"""Plots: each dot lies where its number says, and says its number."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from models.resnet import VARIANTS
from tests.ui import made_up
from ui.plots import COLOURS, plot_accuracy, plot_corruptions

SVG = "{http://www.w3.org/2000/svg}"
KINDS = ("fog", "glass_blur")


def made_up_cards():
    cards = []
    for rank, loaded in enumerate(made_up.network_set(*VARIANTS).networks):
        errors = {"fog": 20.0 + rank, "glass_blur": 60.0 - 3 * rank}
        corruptions = {"images": 50, "errors": errors, "mean_error": sum(errors.values()) / 2}
        cards.append(replace(loaded.card, corruptions=corruptions))
    return cards


def read(svg: str):
    """Return the drawing, and a function from a place along the axis to the number that its ticks give it."""
    root = ET.fromstring(svg)  # a drawing of our own
    ticks = [(float(t.get("x")), float(t.text)) for t in root.iter(f"{SVG}text") if t.get("text-anchor") == "middle"]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    return root, lambda x: v0 + (v1 - v0) * (x - x0) / (x1 - x0)


def test_accuracy_and_its_chance_lie_where_the_axis_says():
    cards = made_up_cards()
    root, value = read(plot_accuracy(cards))
    dots = list(root.iter(f"{SVG}circle"))
    assert [value(float(dot.get("cx"))) for dot in dots] == pytest.approx(list(made_up.TOP1.values()), abs=0.05)
    assert [dot.get("fill") for dot in dots] == [COLOURS[variant] for variant in VARIANTS]
    (first, *_) = (line for line in root.iter(f"{SVG}line") if line.get("class") == "chance")
    # 1.96 sqrt(0.8 * 0.2 / 600) is 3.2 points.
    assert [value(float(first.get(end))) for end in ("x1", "x2")] == pytest.approx([76.8, 83.2], abs=0.05)
    assert "Stock 80.0 % ± 3.2; Max 81.2 %" in root.find(f"{SVG}title").text


def test_errors_under_corruptions_lie_where_the_axis_says():
    root, value = read(plot_corruptions(made_up_cards()))
    dots = [dot for dot in root.iter(f"{SVG}circle") if dot.find(f"{SVG}title") is not None]
    assert len(dots) == len(VARIANTS) * len(KINDS)
    for dot in dots:
        said = float(re.search(r"([\d.]+) %", dot.find(f"{SVG}title").text)[1])
        assert value(float(dot.get("cx"))) == pytest.approx(said, abs=0.1)
    assert "LiftPool, glass blur: 45.0 %" in {dot.find(f"{SVG}title").text for dot in dots}
    assert "Stock 40.0 %; Max 39.0 %" in root.find(f"{SVG}title").text


def test_nothing_is_drawn_of_what_was_not_measured():
    assert plot_corruptions([loaded.card for loaded in made_up.network_set("max").networks]) == ""
