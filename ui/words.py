"""Numbers in words: names of variants and places, percents, and the sentence above the cards."""

from collections import Counter
from collections.abc import Mapping, Sequence

from models.answer import Answer

__all__ = ["ENDS", "NAMES", "PLACE_NAMES", "VIEWS", "WAYS", "listed", "milliseconds", "percent", "verdict"]

NAMES: dict[str, str] = {
    "stock": "Stock",
    "max": "Max",
    "avg": "Average",
    "soft": "SoftPool",
    "lip": "LIP",
    "lift": "LiftPool",
}
WAYS: dict[str, str] = {
    "stock": "strided convolutions",
    "max": "keeps each window's largest",
    "avg": "each window's plain mean",
    "soft": "larger pixels weigh more",
    "lip": "learns what weighs more",
    "lift": "splits coarse from fine",
}
PLACE_NAMES = {
    "stem": "stem",
    "stage2": "stage 2",
    "stage3": "stage 3",
    "stage4": "stage 4",
    "stage2.shortcut": "shortcut 2",
    "stage3.shortcut": "shortcut 3",
    "stage4.shortcut": "shortcut 4",
}
VIEWS = {"share": "Share", "pooled": "Pooled map"}
ENDS = {
    "share": ("1/4 or less: dropped", "1: as averaging", "4 or more: kept"),
    "pooled": ("1/4 or less: weak", "1: the map's mean", "4 or more: strong"),
}
"""What the colour scale's beginning, middle and end mean in each view."""


def percent(probability: float) -> str:
    """Return a probability in whole percent; never 0 % or 100 %, which would claim more than it is."""
    if probability < 0.005:
        return "<1 %"
    return ">99 %" if probability >= 0.995 else f"{100 * probability:.0f} %"


def milliseconds(time_ms: float) -> str:
    """Return a time with the digits that are true of it."""
    return f"{time_ms:.1f} ms" if time_ms < 10 else f"{time_ms:.0f} ms"


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def verdict(answers: Mapping[str, Answer], classes: int) -> str:
    """Return what the networks say, all together, in one sentence or two.

    Args:
        answers: by variant, at least one.
        classes: how many things the networks know.
    """
    count = len(answers)
    if 2 * sum(not answer.known for answer in answers.values()) > count:
        return f"Probably none of the {classes} things {'these networks know' if count > 1 else 'this network knows'}."
    votes = Counter(answer.top[0].label for answer in answers.values()).most_common()
    label, most = votes[0]
    if 2 * most <= count:
        said = [f"{number} {'say' if number > 1 else 'says'} {other}" for other, number in votes]
        return f"The networks disagree: {', '.join(said)}."
    best = {variant: answer.top[0] for variant, answer in answers.items()}
    agreeing = {variant: guess.probability for variant, guess in best.items() if guess.label == label}
    surest = max(agreeing, key=lambda variant: agreeing[variant])
    if count == 1:
        return f"{NAMES[surest]} says {label}, {percent(agreeing[surest])}."
    who = f"All {count}" if most == count else f"{most} of {count}"
    unsure = sum(not answers[variant].known for variant in agreeing)
    doubt = f" {unsure} of them {'are' if unsure > 1 else 'is'} not sure." if unsure else ""
    return f"{who} say {label}; {NAMES[surest]} is surest, {percent(agreeing[surest])}.{doubt}"
