"""The recipe: its learning rate is the formula, its schedule is read and told."""

import math

import pytest

from models.recipe import Recipe, learning_rate, parse_schedule


def test_learning_rate_follows_warm_up_and_cosine():
    recipe = Recipe(schedule=((16, 1), (32, 3)), learning_rate=0.8, warmup_epochs=2)
    rates = [learning_rate(recipe, step, 5) for step in range(20)]
    assert rates[:10] == pytest.approx([0.08 * step for step in range(1, 11)])
    assert rates[10:] == pytest.approx([0.4 * (1 + math.cos(math.pi * k / 10)) for k in range(10)])


@pytest.mark.parametrize("text", ["", "48", "48x", "48x12,", "48x0", "0x3", "axb"])
def test_a_schedule_of_another_form_is_told(text):
    with pytest.raises(ValueError, match="schedule must read like"):
        parse_schedule(text)


def test_a_schedule_is_read():
    assert parse_schedule("32x4,48x10,64x4") == ((32, 4), (48, 10), (64, 4))
    recipe = Recipe(schedule=((32, 4), (48, 10), (64, 4)))
    assert recipe.epochs == 18
    assert [recipe.size(epoch) for epoch in (0, 3, 4, 13, 14, 17)] == [32, 32, 48, 48, 64, 64]
    with pytest.raises(ValueError, match="epoch must be below 18, got 18"):
        recipe.size(18)
