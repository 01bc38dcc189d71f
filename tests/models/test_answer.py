"""An answer against the softmax worked out by hand."""

import math

import pytest
import torch

from models.answer import answer
from models.zoo import read_card, update_card

NAME = "resnet18-w4-tinyimagenet3-stock"


def test_probabilities_are_the_softmax_after_the_temperature(weights):
    said = answer(torch.tensor([1.0, 3.0, 2.0]), read_card(NAME, weights))  # the temperature is 2
    terms = [math.exp(0.5), math.exp(1.5), math.exp(1.0)]
    assert [guess.label for guess in said.top] == ["green", "blue", "red"]
    assert said.top[0].words == "green, green thing"
    assert said.top[0].wnid == "n00000001"
    expected = [term / sum(terms) for term in (terms[1], terms[2], terms[0])]
    assert [guess.probability for guess in said.top] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("threshold", "known"), [(0.49, True), (0.5, True), (0.51, False)])
def test_a_photo_is_known_from_the_threshold_on(threshold, known, weights):
    update_card(NAME, weights, temperature=1.0, threshold=threshold)
    update_card(NAME, weights, accuracy={"split": "val", "images": 1, "top1": 0, "top5": 0, "calibration_error": 0})
    said = answer(torch.tensor([0.0, 0.0, -1e4]), read_card(NAME, weights))
    assert said.top[0].probability == 0.5
    assert said.known is known


def test_as_many_guesses_as_asked_and_no_more_than_there_are_classes(weights):
    card = read_card(NAME, weights)
    assert [len(answer(torch.zeros(3), card, k=k).top) for k in (1, 2, 3, 5)] == [1, 2, 3, 3]
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        answer(torch.zeros(3), card, k=0)


def test_logits_of_another_length_are_told(weights):
    with pytest.raises(ValueError, match=r"logits must have shape \(3,\), one a class, got \(1, 3\)"):
        answer(torch.zeros(1, 3), read_card(NAME, weights))


def test_large_logits_in_half_precision_are_fine(weights):
    said = answer(torch.tensor([60000.0, 0.0, -60000.0], dtype=torch.float16), read_card(NAME, weights))
    assert [guess.probability for guess in said.top] == [1, 0, 0]
