"""The Models tab's words against the cards, the search's list, and snippets that are run."""

import contextlib
import io
import json
import re
from dataclasses import replace
from html import unescape

import pytest
import torch
from torch import nn

from models.resnet import VARIANTS
from models.zoo import Loaded
from poolcore.share import window_of
from tests.ui import made_up
from ui.context import NetworkSet
from ui.findings import PAIRS, chance_points
from ui.models import (
    compare_macs,
    describe_recipe,
    describe_unknown,
    describe_windows,
    draw_card,
    draw_cards,
    draw_known,
    draw_seeds,
    draw_snippets,
    draw_table,
)
from ui.snippets import SNIPPETS


@pytest.fixture(scope="module")
def networks() -> tuple[Loaded, ...]:
    return made_up.network_set(*VARIANTS).networks


def text(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


class TestTable:
    def test_each_row_is_a_cards(self, networks):
        html = draw_table([loaded.card for loaded in networks])
        rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', html)
        assert [name for name, _ in rows] == ["Stock", "Max", "Average", "SoftPool", "LIP", "LiftPool"]
        for loaded, (_, row) in zip(networks, rows, strict=True):
            top1, top5, error, parameters, macs = re.findall(r"<td>([\d.]+)", row)
            card = loaded.card
            assert (float(top1), float(top5), float(error)) == (made_up.TOP1[card.variant], 97.5, 1.7)
            assert float(parameters) == round(sum(p.numel() for p in loaded.network.parameters()) / 1e6, 2)
            assert float(macs) == round(card.macs / 1e6)

    def test_arithmetic_is_compared_with_max(self, networks):
        cards = {loaded.card.variant: loaded.card for loaded in networks}
        made = [replace(cards[name], macs=macs) for name, macs in (("stock", 750), ("max", 1000), ("avg", 1000))]
        made += [replace(cards[name], macs=macs) for name, macs in (("lip", 1334), ("lift", 1002))]
        sentence = compare_macs(made)
        assert sentence == (
            "Against Max in multiply-adds: Stock 25 % fewer, Average the same, LIP 33 % more, "
            "LiftPool the same within 1 %."
        )
        assert compare_macs([cards["stock"], cards["lip"]]) == ""

    def test_one_seed_and_chance_are_said(self, networks):
        words = text(draw_table([loaded.card for loaded in networks]))
        assert "with one seed (0)" in words
        assert "may differ by up to 4.5 points" in words  # 1.96 sqrt(2 * 0.8 * 0.2 / 600)
        assert "Max with LIP and Average with SoftPool" in words

    def test_chance_is_that_of_drawing_images(self):
        """Draw many sets of images of which a share is right, and see how far off 95 % of them stay."""
        draws = torch.rand(4000, 400, generator=torch.Generator().manual_seed(0)) < 0.8
        off = (100 * draws.float().mean(1) - 80).abs()
        assert chance_points(80, 400) == pytest.approx(float(off.quantile(0.95)), rel=0.1)

    def test_pairs_have_the_same_windows(self, networks):
        by_variant = {loaded.network.variant: loaded.network for loaded in networks}
        for one, other in PAIRS:
            windows = [
                [window_of(layer) for layer in by_variant[variant].pooling_places().values()]
                for variant in (one, other)
            ]
            assert windows[0] == windows[1]

    def test_what_was_measured_has_a_column(self, networks):
        cards = [replace(loaded.card, shifts={"crops": 61.25, "circular": 70.0}) for loaded in networks]
        words = text(draw_table(cards))
        assert words.count("61.2 %") == 6
        assert "Wrong if corrupted" not in words
        assert "how often two crops of a photo" in words

    def test_seeds_are_told_where_there_are_several(self, networks):
        spread = {"top1": {"seeds": 3, "mean": 83.44, "min": 82.0, "max": 85.0, "deviation": 1.26}}
        words = text(draw_table([replace(networks[2].card, spread=spread)]))
        assert "mean and standard deviation of top-1: Average 83.4 ± 1.3 %" in words
        assert "one seed" not in words

    def test_it_stands_with_one_network(self, networks):
        words = text(draw_table([networks[4].card]))
        assert "cleanest" not in words
        assert "84.8 %" in words


class TestCards:
    def test_a_card_says_what_is_known(self, networks):
        lip = networks[4]
        words = text(draw_card(lip, []))
        for fact in (
            f"{lip.card.parameters:,} parameters",
            "for one image of 32 × 32 pixels",
            "84.8 % (±2.9) right at first guess, 97.5 % among five, on 600 images (val)",
            "after a temperature of 1.25 they are off by 1.7 points",
            "4321 images: pictures of nothing",
            "seed 0; 2026-01-02",
            "SHA-256 begins 0123456789ab",
            "int8 convolutions",
            "Gao et al. 2019",
        ):
            assert fact in words, fact

    def test_unknown_photos(self, networks):
        assert describe_unknown(networks[0].card) == (
            "Below a probability of 43 % it says “probably none of the things I know”. That turns away 80 % of 4000 "
            "photos of 80 things that it never saw, and keeps 82 % of 300 photos of things that it knows."
        )

    def test_unknown_photos_that_were_smaller_are_told(self, networks):
        card = replace(networks[0].card, input_size=128)
        assert describe_unknown(card).endswith("photos of things that it knows, all of 64 pixels only.")

    def test_recipe_names_every_argument(self, networks):
        recipe = "8 epochs, 3 at 24 pixels; 5 at 32 pixels, learning rate 0.05, bf16 yes"
        assert describe_recipe(networks[0].card) == recipe

    def test_windows(self, networks):
        words = {loaded.network.variant: describe_windows(loaded) for loaded in networks}
        assert words["max"] == words["lip"] == "3 × 3, stride 2, padding 1"
        assert words["avg"] == words["soft"] == "2 × 2, stride 2"
        assert words["stock"].startswith("3 × 3, stride 2, padding 1 (stem, stage 2, stage 3, stage 4)")
        assert "1 × 1, stride 2 (shortcut 2, shortcut 3, shortcut 4)" in words["stock"]

    def test_all_networks_have_one(self, networks):
        assert draw_cards(NetworkSet("made-up", networks), []).count("<article") == 6


class TestSeeds:
    def test_every_training_is_in_the_table_and_what_it_is_worth_below(self):
        recipe = {"schedule": [[64, 16]]}
        top1 = {"stock": [70.04, 72], "lift": [74, 77]}
        seen = {"data": "Cats", "classes": 9, "seeds": [0, 7], "top1": top1, "recipe": recipe, "val_images": 50}
        html = draw_seeds([seen])
        cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", html)
        assert cells[:5] == ["Network", "Seed 0", "Seed 7", "Mean", "Standard deviation"]
        assert cells[5:10] == ["Stock", "70.0 %", "72.0 %", "71.0 %", "1.4"]  # 1.96 / sqrt(2)
        assert cells[10:] == ["LiftPool", "74.0 %", "77.0 %", "75.5 %", "2.1"]
        assert "9 things (Cats), 16 epochs at 64 px, 2 seeds each" in html
        both = draw_seeds([seen, seen | {"data": "Dogs"}])
        assert (both.count("<table"), both.count("<h2"), draw_seeds([])) == (2, 1, "")


class TestKnown:
    def test_every_class_is_listed_with_all_its_words(self):
        html = draw_known([made_up.network_set("max")], {})
        items = [text(item).strip() for item in re.findall(r"<li [^>]*>(.*?)</li>", html)]
        assert items == ["<b>fish & chips</b>", "Alp", "golden retriever", "tabby tabby cat"]
        assert "<b>" not in html
        assert "All 4 are listed." in html

    def test_what_two_sets_know_counts_once(self):
        one = made_up.network_set("max")
        assert "All 4 are listed." in draw_known([one, made_up.network_set("lip", name="other")], {})

    def test_a_class_bears_its_kinds(self):
        html = draw_known([made_up.network_set("max")], {"n2": "animal, dog"})
        kinds = dict(re.findall(r'<li data-wnid="(\w+)" data-kinds="([^"]*)">', html))
        assert kinds == {"n1": "", "n2": "animal, dog", "n3": "", "n4": ""}

    def test_the_field_has_a_label(self):
        html = draw_known([made_up.network_set("max")], {})
        assert '<label for="known-search">' in html
        assert '<input id="known-search" type="search"' in html


class TestSnippets:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_it_runs_and_prints_what_it_says(self, variant):
        torch.manual_seed(0)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(SNIPPETS[variant], variant, "exec"), {})
        printed = re.sub(r"\s+", "", out.getvalue())
        said = [line.split("#")[1] for line in SNIPPETS[variant].splitlines() if line.startswith("print")]
        results = [re.sub(r"\s+", "", re.search(r"(torch\.Size\(.*|tensor\(.*|\d+|True)", line)[1]) for line in said]
        assert results
        assert "".join(result.removesuffix("parameters") for result in results) == printed

    def test_they_use_the_layers_of_the_networks(self, networks):
        kinds = {loaded.network.variant: type(loaded.network.pool).__name__ for loaded in networks}
        for variant, kind in kinds.items():
            if variant != "stock":
                assert f"{kind}(" in SNIPPETS[variant]
        assert "nn.Conv2d(" in SNIPPETS["stock"]
        assert isinstance(networks[0].network.pooling_places()["stage2"], nn.Conv2d)

    def test_the_page_shows_them_as_they_stand(self):
        shown = [unescape(code) for code in re.findall(r"<pre[^>]*>(.*?)</pre>", draw_snippets(), re.DOTALL)]
        assert shown == list(SNIPPETS.values())


def test_the_endpoint_gives_the_cards_as_json():
    import gradio as gr

    import ui.models

    with gr.Blocks() as blocks:
        ui.models.build(made_up.context("avg"))
    (event,) = [fn for fn in blocks.fns.values() if fn.api_name == "models"]
    (card,) = json.loads(json.dumps(event.fn(), allow_nan=False))
    assert card["variant"] == "avg"
    assert card["accuracy"]["top1"] == made_up.TOP1["avg"]
    assert card["classes"][0] == {"wnid": "n1", "words": "tabby, tabby cat"}
