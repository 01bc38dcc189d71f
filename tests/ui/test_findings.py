"""What the figures amount to: sentences held against sums done by hand."""

from dataclasses import replace

import pytest
import torch

from models.resnet import VARIANTS
from tests.ui import made_up
from ui.findings import chance_of_difference, describe_chance, describe_seeds, describe_spread, hold_claims

ERRORS = dict(zip(VARIANTS, (60.0, 50.0, 40.0, 45.0, 55.0, 30.0), strict=True))


def cards(errors=None, **top1):
    made = []
    for loaded in made_up.network_set(*VARIANTS).networks:
        card = loaded.card
        if card.variant in top1:
            card = replace(card, accuracy={**card.accuracy, "top1": top1[card.variant]})
        if errors is not None:
            card = replace(card, corruptions={"images": 100, "mean_error": errors[card.variant]})
        made.append(card)
    return made


def test_a_difference_within_chance_is_called_so():
    # 1.96 sqrt((0.8 * 0.2 + 0.78 * 0.22) / 600) = 4.6 points
    words = hold_claims(cards(lip=80.0, max=78.0))
    assert "LIP is 2.0 points ahead of Max, which the choice of images may explain (±4.6)" in words


def test_a_difference_beyond_chance_is_called_so_whichever_way_it_falls():
    # 1.96 sqrt((0.7 * 0.3 + 0.8 * 0.2) / 600) = 4.9 points
    words = hold_claims(cards(soft=70.0, avg=80.0))
    assert "SoftPool is 10.0 points behind Average, more than the choice of images explains (±4.9)" in words


def test_the_largest_difference_by_chance_is_told():
    # The least accurate two, 80.0 and 81.2 %: 1.96 sqrt((0.8 * 0.2 + 0.812 * 0.188) / 600) = 4.5 points
    assert describe_chance(cards()).startswith("Each was trained once; by the choice of images alone")
    assert "may differ by up to 4.5 points" in describe_chance(cards())


def test_two_networks_of_the_same_accuracy_differ_by_chance_as_often_as_it_is_said():
    """Draw pairs of accuracies of two networks that are right on 80 % of all photos, each on 600 of its own."""
    draws = torch.rand(4000, 2, 600, generator=torch.Generator().manual_seed(0)) < 0.8
    off = (100 * draws.float().mean(2)).diff(dim=1).abs()
    stock, *_ = cards()
    assert chance_of_difference(stock, stock) == pytest.approx(float(off.quantile(0.95)), rel=0.1)


def test_on_the_same_images_a_difference_moves_as_often_as_it_is_said():
    """Draw sets of 600 images of which both networks know most; the interval from one set holds for the others."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.multinomial(torch.tensor([0.7, 0.1, 0.06, 0.14]), 4000 * 600, True, generator=generator)
    kinds = kinds.view(4000, 600)  # both right, the first alone, the second alone, neither
    difference = 100 * ((kinds == 1).float() - (kinds == 2).float()).mean(1)
    stock, most, *_ = cards()
    alone = {"own": int((kinds[0] == 1).sum()), "other": int((kinds[0] == 2).sum())}
    said = chance_of_difference(replace(stock, pairs={"max": alone}), most)
    assert said == pytest.approx(float((difference - 4).abs().quantile(0.95)), rel=0.1)
    assert said < 0.8 * chance_of_difference(stock, most)


def test_liftpools_robustness_is_told_as_it_was_found():
    assert "corruptions" not in hold_claims(cards())
    assert "LiftPool errs least often: LiftPool 30.0 %, Average 40.0 %, SoftPool 45.0 %" in hold_claims(cards(ERRORS))
    # 1.96 sqrt(0.5 * 0.5 / 100) = 9.8 points
    assert "at most ±9.8 by the choice of 100 images" in hold_claims(cards(ERRORS))
    worse = hold_claims(cards(ERRORS | {"lift": 47.0}))
    assert "LiftPool errs more often than Average and SoftPool: Average 40.0 %" in worse


def test_without_all_six_nothing_is_claimed():
    assert hold_claims(cards()[:5]) == ""


def test_differences_over_seeds_are_held_against_what_seeds_do():
    top1 = {"stock": [70, 72], "max": [80, 82], "avg": [80, 82], "soft": [83, 83], "lip": [75, 77], "lift": [74, 76]}
    recipe = {"schedule": [[48, 1], [64, 16]]}
    words = describe_seeds(
        {"data": "Cats", "classes": 9, "seeds": [0, 7], "top1": top1, "recipe": recipe, "val_images": 50}
    )
    assert words.startswith("9 things (Cats), 1 epoch at 48 px, 16 epochs at 64 px, 2 seeds each, top-1 on 50 images.")
    # Five variances of 2 and one of 0: their mean is 5 / 3, its root 1.29; twice the mean is 10 / 3, its root 1.83; and
    # that over two seeds is 5 / 3 again.
    assert "one training has a standard deviation of 1.29 points and the difference of two has one of 1.83" in words
    assert "the difference of two means of 2 has a standard error of 1.29, the choice of the images not" in words
    assert "LIP is 5.0 points behind Max, more than two of these errors" in words
    assert "SoftPool is 2.0 points ahead of Average, within two of these errors" in words
    assert words.endswith("LiftPool is 4.0 points ahead of Stock, more than two of these errors.")
    alone = describe_seeds(
        {"data": "Cats", "classes": 9, "seeds": [0, 7], "top1": {"max": [80, 82]}, "recipe": recipe, "val_images": 50}
    )
    assert alone.endswith("has a standard error of 1.41, the choice of the images not counted.")


def test_of_other_seeds_is_told_what_was_measured_and_where():
    card, *_ = cards()
    top1 = {"stock": [70, 72], "max": [80, 84]}  # variances 2 and 8, the root of their mean 2.24
    seen = {"data": card.data["name"], "classes": len(card.classes), "seeds": [0, 7], "top1": top1}
    seen |= {"recipe": {"schedule": [[64, 16]]}}
    cats, few = seen | {"data": "Cats", "classes": 9}, seen | {"classes": 1}
    words = describe_spread(card, [cats, seen])
    assert words.startswith("trained once, from seed 0; by the seed, shorter trainings (16 epochs at 64 px)")
    assert words.endswith("a standard deviation of 2.24 points")
    elsewhere = f"was measured on 9 things (Cats) and 1 things ({card.data['name']}) alone"
    assert describe_spread(card, [cats, few]).endswith(elsewhere)
    assert describe_spread(card, []) == "trained once, from seed 0"
    spread = {"top1": {"seeds": 3, "mean": 83.44, "min": 82.0, "max": 85.0, "deviation": 1.26}}
    assert describe_spread(replace(card, spread=spread), [seen]) == "over 3 of them top-1 is 83.4 ± 1.3 %"
