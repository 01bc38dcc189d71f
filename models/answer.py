"""What a network's logits say: its best guesses with their probabilities, and whether it knows such a photo at all."""

from typing import NamedTuple

import torch
from torch import Tensor

from models.zoo import Description

__all__ = ["Answer", "Guess", "answer"]


class Guess(NamedTuple):
    """A class with its probability, from 0 to 1; ``label`` is the first of its words."""

    wnid: str
    words: str
    label: str
    probability: float


class Answer(NamedTuple):
    """The best guesses, best first; not ``known`` means "probably none of the things I know"."""

    top: tuple[Guess, ...]
    known: bool


def answer(logits: Tensor, card: Description, k: int = 5) -> Answer:
    """Read logits as the card's network means them.

    The probabilities are ``softmax(logits / temperature)`` (Guo et al. 2017, arXiv 1706.04599); a photo is known if the
    largest is at least the card's threshold (Hendrycks & Gimpel 2017, arXiv 1610.02136).

    Args:
        logits: of one photo.
        card: of the network that gave them.
        k: number of guesses, at most the number of classes.

    Shape:
        logits: (num_classes,).

    Raises:
        ValueError: if there is not one logit for each class of the card, or k is less than 1.
    """
    if logits.shape != (len(card.classes),):
        raise ValueError(f"logits must have shape ({len(card.classes)},), one a class, got {tuple(logits.shape)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    probabilities = torch.softmax(logits.detach().double() / card.temperature, dim=0)
    best = probabilities.topk(min(k, len(card.classes)))
    guesses = []
    for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        label = card.classes[index]
        guesses.append(Guess(label.wnid, label.words, label.label, probability))
    return Answer(tuple(guesses), guesses[0].probability >= card.threshold)
