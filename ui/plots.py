"""The cards' figures as drawings: one SVG each, for the Models tab and for the README alike.

The whole is told in an SVG's title, and where it is opened by itself each dot tells its number. It follows the
reader's dark mode.
"""

from collections.abc import Iterable, Sequence
from html import escape

from models.zoo import Card
from ui.findings import chance_points
from ui.words import NAMES

__all__ = ["COLOURS", "plot_accuracy", "plot_corruptions"]

COLOURS = {
    "stock": "#808080",
    "max": "#0072b2",
    "avg": "#b58900",
    "soft": "#d55e00",
    "lip": "#009e73",
    "lift": "#cc79a7",
}
"""Okabe and Ito's for the most part, which read on white and on black, also to those who tell fewer apart."""

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 720, 136, 20, 46, 26
_STYLE = """
svg { background: #ffffff; color: #1c1e22; font: 13px system-ui, sans-serif; font-variant-numeric: tabular-nums }
text { fill: currentColor } .heading { font-weight: 600 } .quiet { opacity: 0.7 }
.grid { stroke: currentColor; opacity: 0.15 } .chance { stroke-width: 2; opacity: 0.55 }
@media (prefers-color-scheme: dark) { svg { background: #1a1d24; color: #eceef2 } }
"""


def plot_accuracy(cards: Sequence[Card]) -> str:
    """Return the networks' top-1 as dots, with the range in which chance alone may move it (95 %)."""
    seen = [
        (card, card.accuracy["top1"], chance_points(card.accuracy["top1"], card.accuracy["images"])) for card in cards
    ]
    axis = _Axis([value for _, top1, points in seen for value in (top1 - points, top1 + points)], len(cards))
    words, marks = [], []
    for row, (card, top1, points) in enumerate(seen):
        y, colour = _TOP + _ROW * (row + 0.5), COLOURS[card.variant]
        said = f"{NAMES[card.variant]} {top1:.1f} % ± {points:.1f}"
        words.append(said)
        marks.append(f'<text x="{_LEFT - 12}" y="{y + 4:g}" text-anchor="end">{NAMES[card.variant]}</text>')
        ends = f'x1="{axis.x(top1 - points)}" x2="{axis.x(top1 + points)}"'
        marks.append(f'<line class="chance" stroke="{colour}" {ends} y1="{y:g}" y2="{y:g}"/>')
        marks.append(_dot(axis.x(top1), y, colour, said))
    heading = f"{cards[0].knowledge}: top-1 in percent, {cards[0].accuracy['images']} images; lines: chance, 95 %"
    return _svg(heading, words, [*axis.marks(), *marks], axis.bottom)


def plot_corruptions(cards: Sequence[Card]) -> str:
    """Return the networks' mean errors under each corruption as dots; "" if none was measured."""
    seen = [(card, card.corruptions) for card in cards if card.corruptions is not None]
    if not seen:
        return ""
    kinds = sorted(seen[0][1]["errors"], key=lambda kind: seen[0][1]["errors"][kind])
    axis = _Axis([error for _, corruptions in seen for error in corruptions["errors"].values()], len(kinds))
    marks, words = [], []
    for row, kind in enumerate(kinds):
        y = _TOP + _ROW * (row + 0.5)
        marks.append(f'<text x="{_LEFT - 12}" y="{y + 4:g}" text-anchor="end">{kind.replace("_", " ")}</text>')
        for card, corruptions in seen:
            error = corruptions["errors"][kind]
            said = f"{NAMES[card.variant]}, {kind.replace('_', ' ')}: {error:.1f} %"
            marks.append(_dot(axis.x(error), y, COLOURS[card.variant], said))
    for place, (card, corruptions) in enumerate(seen):
        words.append(f"{NAMES[card.variant]} {corruptions['mean_error']:.1f} %")
        x = _LEFT + 96 * place
        marks.append(f'<circle cx="{x + 5}" cy="{axis.bottom + 40}" r="5" fill="{COLOURS[card.variant]}"/>')
        marks.append(f'<text x="{x + 16}" y="{axis.bottom + 44}">{NAMES[card.variant]}</text>')
    first, corruptions = seen[0]
    what = f"% wrong, {len(kinds)} corruptions, mean of 5 severities, {corruptions['images']} images"
    heading = f"{first.knowledge}: {what}"
    return _svg(heading, words, [*axis.marks(), *marks], axis.bottom + 34)


class _Axis:
    """A horizontal axis of percents in steps of 1, 2, 5, 10 or 20, around the given values."""

    def __init__(self, values: Sequence[float], rows: int) -> None:
        low, high = min(values), max(values)
        self.step = next((step for step in (1, 2, 5, 10) if (high - low) / step <= 8), 20)
        self.low, self.high = int(low // self.step) * self.step, (int(high // self.step) + 1) * self.step
        self.bottom = _TOP + _ROW * rows

    def x(self, value: float) -> float:
        return round(_LEFT + (_WIDTH - _RIGHT - _LEFT) * (value - self.low) / (self.high - self.low), 1)

    def marks(self) -> Iterable[str]:
        for tick in range(self.low, self.high + 1, self.step):
            yield f'<line class="grid" x1="{self.x(tick)}" x2="{self.x(tick)}" y1="{_TOP}" y2="{self.bottom}"/>'
            yield f'<text x="{self.x(tick)}" y="{self.bottom + 18}" text-anchor="middle">{tick}</text>'


def _dot(x: float, y: float, colour: str, said: str) -> str:
    return (
        f'<circle cx="{x}" cy="{y:g}" r="5" fill="{colour}" fill-opacity="0.85"><title>{escape(said)}</title></circle>'
    )


def _svg(heading: str, words: Sequence[str], marks: Sequence[str], bottom: float) -> str:
    box = f"0 0 {_WIDTH} {bottom + 30:g}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-labelledby="title">'
    title = f'<title id="title">{escape(heading)}: {escape("; ".join(words))}</title>'
    lines = [head, title, f"<style>{_STYLE}</style>", f'<text class="heading" x="12" y="24">{escape(heading)}</text>']
    return "\n".join([*lines, *marks, "</svg>"]) + "\n"
