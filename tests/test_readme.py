"""What the README says runs and agrees with the cards and the measurements."""

import json
import re
import statistics
from pathlib import Path

import pytest

from models.seeds import read_seed_runs, standard_error
from models.zoo import list_sets, read_card
from scripts.tables import filled
from ui.findings import SEED_RUNS, chance_of_difference

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_tables_are_those_of_the_cards_and_the_measurements():
    assert filled(README) == README


def test_what_a_photo_costs_is_told_of_every_network():
    seen = json.loads((ROOT / "benchmarks" / "results" / "networks.json").read_text())
    cards = [read_card(name) for members in list_sets().values() for name in members]
    assert sorted((row["knowledge"], row["variant"]) for row in seen["rows"]) == sorted(
        (card.knowledge, card.variant) for card in cards
    )


def code_with(word: str) -> str:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in block]
    return code


def test_the_lines_of_poolcore_run():
    names: dict[str, object] = {}
    exec(code_with("LIP2d"), names)
    assert names["y"].shape == names["z"].shape == (1, 64, 28, 28)
    assert names["kept"].shape == (1, 64, 56, 56)


def test_replacing_prints_the_table_that_is_shown(capsys):
    code = code_with("replace_pooling")
    exec(code, {})
    shown = README.partition(code)[2].split("```\n")[2]
    assert capsys.readouterr().out == shown


def test_every_local_link_leads_to_a_file():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results" / "seeds").iterdir()), ids=lambda p: p.stem)
def test_the_seeds_recipe_is_that_of_the_shipped_networks_but_for_its_schedule(path: Path):
    seen = json.loads(path.read_text())
    card = read_card(f"resnet18-w32-{path.stem}-stock")
    own = {name: value for name, value in card.recipe.items() if name not in ("schedule", "seed")}
    assert {name: value for name, value in seen["recipe"].items() if name != "schedule"} == own
    for field in ("depth", "width", "stem"):
        assert seen[field] == getattr(card, field)
    assert (seen["train_images"], seen["val_images"]) == (card.data["train_images"], card.data["val_images"])


def test_lip_is_behind_max_after_short_trainings_only():
    for seen in read_seed_runs(SEED_RUNS):
        behind = statistics.fmean(seen["top1"]["max"]) - statistics.fmean(seen["top1"]["lip"])
        assert behind > 2 * standard_error(seen["top1"])
    for name in list_sets():
        best, lip = read_card(f"{name}-max"), read_card(f"{name}-lip")
        behind = best.accuracy["top1"] - lip.accuracy["top1"]
        assert behind < chance_of_difference(best, lip)
