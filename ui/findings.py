"""What the cards' figures amount to, in words: how much is chance, and how the papers' claims fare."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

from models.resnet import Variant
from models.seeds import SeedRuns, deviation, standard_error
from models.zoo import Card
from ui.words import NAMES

__all__ = [
    "CLAIMS",
    "PAIRS",
    "SEED_RUNS",
    "chance_of_difference",
    "chance_points",
    "describe_chance",
    "describe_seeds",
    "describe_spread",
    "hold_claims",
    "name_data",
]

SEED_RUNS = Path(__file__).parents[1] / "benchmarks" / "results" / "seeds"
"""Where lies what `models.seeds` wrote."""
PAIRS: tuple[tuple[Variant, Variant], ...] = (("max", "lip"), ("avg", "soft"))
"""Variants whose windows are the same."""
CLAIMED: tuple[tuple[Variant, Variant], ...] = (("lip", "max"), ("soft", "avg"), ("lift", "stock"))
"""The papers' poolings, each with what it is held against."""
CLAIMS = (
    "The papers found LIP and SoftPool more accurate than the poolings they replace, and LiftPool more robust to "
    "corrupted photos, with networks and image sets far larger than these."
)


def chance_points(accuracy: float, images: int) -> float:
    """Return by how many points an accuracy in percent may be off by the choice of the images: half a 95 % interval."""
    rate = accuracy / 100
    return 196 * math.sqrt(rate * (1 - rate) / images)


def chance_of_difference(one: Card, other: Card) -> float:
    """Return by how many points the choice of the images moves the difference of two accuracies: half a 95 % interval.

    What counts are the images on which one network alone is right (McNemar 1947). Where nobody counted them it is as if
    each network had images of its own, which is more.
    """
    pair = None if one.pairs is None else one.pairs.get(other.variant)
    if pair is None:
        return math.hypot(*(chance_points(card.accuracy["top1"], card.accuracy["images"]) for card in (one, other)))
    images = one.accuracy["images"]
    return 196 * math.sqrt(pair["own"] + pair["other"] - (pair["own"] - pair["other"]) ** 2 / images) / images


def describe_chance(cards: Sequence[Card]) -> str:
    """Return in a sentence which differences between these networks' accuracies mean nothing."""
    differences = [chance_of_difference(one, other) for one, other in combinations(cards, 2)]
    points = max(differences, default=chance_points(cards[0].accuracy["top1"], cards[0].accuracy["images"]))
    trained = "trained from several seeds" if any(card.spread is not None for card in cards) else "trained once"
    return f"Each was {trained}; by the choice of images alone, accuracies may differ by up to {points:.1f} points."


def _compare(cards: Mapping[Variant, Card], one: Variant, other: Variant) -> str:
    """Return in words how far one network is ahead of another, and whether the choice of images may explain it."""
    ahead = cards[one].accuracy["top1"] - cards[other].accuracy["top1"]
    chance = chance_of_difference(cards[one], cards[other])
    images = "the choice of images"
    beyond = f"more than {images} explains" if abs(ahead) > chance else f"which {images} may explain"
    return f"{_ahead(one, other, ahead)}, {beyond} (±{chance:.1f})"


def _ahead(one: Variant, other: Variant, points: float) -> str:
    return f"{NAMES[one]} is {abs(points):.1f} points {'ahead of' if points >= 0 else 'behind'} {NAMES[other]}"


def hold_claims(cards: Sequence[Card]) -> str:
    """Return how `CLAIMS` fare with the networks of a set, in a plain paragraph; "" without all six."""
    known = {card.variant: card for card in cards}
    if len(known) < len(NAMES):
        return ""
    lip, soft, lift = (_compare(known, one, other) for one, other in CLAIMED)
    sentences = [
        f"{cards[0].knowledge}: against the networks with the same windows, {lip}, and {soft}; against the ResNet as "
        f"it is usually built, {lift}.",
    ]
    if all(card.spread is None for card in cards):
        sentences.append("All have one seed; another would give other networks.")
    errors = {card.variant: seen for card in cards if (seen := card.corruptions) is not None}
    if len(errors) == len(known):
        ranked = sorted(errors, key=lambda variant: errors[variant]["mean_error"])
        parts = ", ".join(f"{NAMES[variant]} {errors[variant]['mean_error']:.1f} %" for variant in ranked)
        fewer = [one for one in ranked if errors[one]["mean_error"] < errors["lift"]["mean_error"]]
        who = f"more often than {' and '.join(NAMES[one] for one in fewer)}" if fewer else "least often"
        chance = max(chance_points(100 - seen["mean_error"], seen["images"]) for seen in errors.values())
        sentences.append(
            f"Under corruptions LiftPool errs {who}: {parts} (each at most ±{chance:.1f} by the choice of "
            f"{errors['lift']['images']} images; the networks share them, so their order is surer than that)."
        )
    return " ".join(sentences)


def _schedule(seen: SeedRuns) -> str:
    schedule = seen["recipe"]["schedule"]
    return ", ".join(f"{epochs} epoch{'s' if epochs > 1 else ''} at {size} px" for size, epochs in schedule)


def name_data(seen: SeedRuns) -> str:
    """Return what was learnt, in the words of `models.zoo.Card.knowledge`: "10 things (Imagenette)"."""
    return f"{seen['classes']} things ({seen['data']})"


def describe_spread(card: Card, runs: Sequence[SeedRuns]) -> str:
    """Return what is known of other seeds of a network: measured on itself, on shorter trainings, or elsewhere."""
    if card.spread is not None:
        top1 = card.spread["top1"]
        return f"over {top1['seeds']} of them top-1 is {top1['mean']:.1f} ± {top1['deviation']:.1f} %"
    once = f"trained once, from seed {card.seed}"
    for seen in runs:
        if name_data(seen) == card.knowledge:
            points = deviation(seen["top1"])
            short = f"shorter trainings ({_schedule(seen)})"
            return f"{once}; by the seed, {short} have a standard deviation of {points:.2f} points"
    if not runs:
        return once
    elsewhere = " and ".join(name_data(seen) for seen in runs)
    return f"{once}; what another would change was measured on {elsewhere} alone"


def describe_seeds(seen: SeedRuns) -> str:
    """Return what was trained from several seeds, how much a seed does, and which differences are more than that."""
    top1, count = seen["top1"], len(seen["seeds"])
    single, error = deviation(top1), standard_error(top1)
    measured = f"{name_data(seen)}, {_schedule(seen)}, {count} seeds each, top-1 on {seen['val_images']} images"
    compared = [
        f"{_ahead(one, other, ahead)}, {'more than' if abs(ahead) > 2 * error else 'within'} two of these errors"
        for one, other in CLAIMED
        if {one, other} <= top1.keys()
        for ahead in [fmean(top1[one]) - fmean(top1[other])]
    ]
    return (
        f"{measured}. By its seed alone one training has a standard deviation of {single:.2f} points "
        f"and the difference of two has one of {math.sqrt(2) * single:.2f}; the difference of two means of {count} "
        f"has a standard error of {error:.2f}, the choice of the images not counted."
        + (f" {'; '.join(compared)}." if compared else "")
    )
