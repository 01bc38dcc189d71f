"""What the cards' figures amount to, in words: how much is chance, and how the papers' claims fare."""

import math
from collections.abc import Mapping, Sequence

from models.resnet import Variant
from models.zoo import Card
from ui.words import NAMES

__all__ = ["PAIRS", "chance_points", "hold_claims"]

PAIRS: tuple[tuple[Variant, Variant], ...] = (("max", "lip"), ("avg", "soft"))
"""Variants whose windows are the same."""


def chance_points(accuracy: float, images: int) -> float:
    """Return by how many points an accuracy in percent may be off by the choice of the images: half a 95 % interval."""
    rate = accuracy / 100
    return 196 * math.sqrt(rate * (1 - rate) / images)


def _compare(cards: Mapping[Variant, Card], one: Variant, other: Variant) -> str:
    """Return in words by how many points of top-1 one network is ahead of another, and whether chance explains it."""
    first, second = cards[one].accuracy, cards[other].accuracy
    ahead = first["top1"] - second["top1"]
    # As if each had its own images: on the same ones, chance moves a difference by less.
    chance = math.hypot(*(chance_points(seen["top1"], seen["images"]) for seen in (first, second)))
    beyond = "more than chance explains" if abs(ahead) > chance else "which chance alone may explain"
    way = "ahead of" if ahead >= 0 else "behind"
    return f"{NAMES[one]} is {abs(ahead):.1f} points {way} {NAMES[other]}, {beyond} (±{chance:.1f})"


def hold_claims(cards: Sequence[Card]) -> str:
    """Return what the three papers claim, held against these networks, in a plain paragraph; "" without all six."""
    known = {card.variant: card for card in cards}
    if len(known) < len(NAMES):
        return ""
    sentences = [
        "The papers found LIP and SoftPool more accurate than the poolings they replace, and LiftPool more robust to "
        "corrupted photos, with networks and image sets far larger than these.",
        f"Here, against the networks with the same windows, {_compare(known, 'lip', 'max')}, and "
        f"{_compare(known, 'soft', 'avg')}; against the ResNet as it is usually built, "
        f"{_compare(known, 'lift', 'stock')}.",
    ]
    errors = {card.variant: seen for card in cards if (seen := card.corruptions) is not None}
    if len(errors) == len(known):
        ranked = sorted(errors, key=lambda variant: errors[variant]["mean_error"])
        parts = ", ".join(f"{NAMES[variant]} {errors[variant]['mean_error']:.1f} %" for variant in ranked)
        place = ranked.index("lift")
        who = "the fewest" if place == 0 else f"more than {' and '.join(NAMES[one] for one in ranked[:place])}"
        chance = max(chance_points(100 - seen["mean_error"], seen["images"]) for seen in errors.values())
        sentences.append(
            f"Under corruptions LiftPool errs {who}: {parts} (each ±{chance:.1f} by the choice of "
            f"{errors['lift']['images']} images; the networks share them, so their order is surer than that)."
        )
    return " ".join(sentences)
