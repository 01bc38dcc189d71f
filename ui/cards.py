"""The Compare tab's pictures and sentences as HTML, drawn from what is kept of a visit.

The photo is sent once, as the background that one style sheet gives to every card; each map once, as a small picture
with transparency above it. The browser stacks them, so that their opacity needs no server.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from models.answer import Guess
from models.zoo import Loaded
from ui.context import NetworkSet
from ui.findings import describe_chance
from ui.look import Look, Share
from ui.pictures import Framed, colour, data_url, jpeg, legend, png
from ui.words import ENDS, NAMES, PLACE_NAMES, VIEWS, WAYS, milliseconds, percent, verdict

__all__ = [
    "draw_card",
    "draw_empty_card",
    "draw_legend",
    "draw_photo",
    "draw_verdict",
    "draw_waiting_card",
    "share_in_words",
]

TALLEST = 300  # of a card's picture, in CSS pixels


def draw_photo(framed: Framed) -> str:
    """Return the style that puts a photo into every card: dimmed, but for the networks' square, which is grey."""
    (width, height), side = framed.image.size, framed.side
    photo = data_url(jpeg(framed.image), "image/jpeg")
    return f"""<style>
.ps-photo {{ aspect-ratio: {width} / {height}; width: min(100%, {round(TALLEST * width / height)}px); }}
.ps-photo, .ps-square::before {{ background-image: url({photo}); }}
.ps-square::before {{ background-size: {100 * width / side:.3f}% {100 * height / side:.3f}%; }}
.ps-square {{
  left: {100 * framed.left / width:.3f}%; top: {100 * framed.top / height:.3f}%;
  width: {100 * side / width:.3f}%; height: {100 * side / height:.3f}%;
}}
</style>"""


def draw_verdict(looks: Sequence[Look], own: NetworkSet) -> str:
    """Return the sentence above the cards (before all have answered, how many have), and what it is worth."""
    count, size, cards = len(own.networks), own.input_size, [loaded.card for loaded in own.networks]
    if len(looks) < count:
        sentence = f"{len(looks)} of {count} networks have answered …"
    else:
        sentence = verdict({look.variant: look.answer for look in looks}, len(own.classes))
    return (
        f'<p class="ps-verdict" role="status">{escape(sentence[:1].upper() + sentence[1:])}</p>'
        f'<p class="ps-note">The networks see the grey square at {size} × {size} pixels. {describe_chance(cards)}</p>'
    )


def draw_card(loaded: Loaded, look: Look, place: str, view: str) -> str:
    """Return a network's card.

    Args:
        loaded: the network whose look it is.
        place: whose map is drawn.
        view: "share" or "pooled".
    """
    seen = look.places[place]
    if view == "share":
        share = look.share(loaded, place)
        values: NDArray[np.float16] = share.mean
        words = share_in_words(look.variant, place, share)
    else:
        values = seen.pooled
        sizes, channels = f"{_size(seen.input_shape)} pixels pooled to {_size(seen.output_shape)}", seen.output_shape[0]
        words = f"{sizes}, mean of {channels} channels."
    picture = data_url(png(colour(values)))
    described = f"{NAMES[look.variant]}, {VIEWS[view].lower()} at {PLACE_NAMES[place]}: {words}"
    if view == "share":
        described += f" {_where(values)}"
    unsure = "" if look.answer.known else '<p class="ps-unsure">Not sure of any of these.</p>'
    return f"""<article class="ps-card">
{_head(loaded)}
<div class="ps-photo"><div class="ps-square"><img class="ps-map" src="{picture}" alt="{escape(described)}"></div></div>
<ol class="ps-guesses">{"".join(_guess(guess) for guess in look.answer.top)}</ol>
{unsure}
<p class="ps-words">{escape(words)}</p>
<p class="ps-time">{milliseconds(look.time_ms)}, of which pooling {milliseconds(look.pooling_ms)}</p>
</article>"""


def draw_waiting_card(loaded: Loaded) -> str:
    """Return the card of a network that has not answered yet."""
    return _blank_card(loaded, 'aria-busy="true"', "Looking …")


def draw_empty_card(loaded: Loaded) -> str:
    """Return the card of a network that has nothing to look at."""
    return _blank_card(loaded, "", "")


def _blank_card(loaded: Loaded, state: str, words: str) -> str:
    return f"""<article class="ps-card ps-waiting" {state}>
{_head(loaded)}
<div class="ps-photo"><div class="ps-square"></div></div>
<div class="ps-blank"></div>
<p class="ps-words">{words}</p>
</article>"""


def _head(loaded: Loaded) -> str:
    variant, accuracy = loaded.network.variant, loaded.card.accuracy
    return (
        f"<header><h3>{NAMES[variant]}</h3>"
        f'<span title="on {accuracy["images"]} photos that it was not trained on">{accuracy["top1"]:.1f} % right</span>'
        f'</header><p class="ps-way">{WAYS[variant]}</p>'
    )


def _guess(guess: Guess) -> str:
    sure = percent(guess.probability)
    return (
        f'<li title="{escape(guess.words)}"><span class="ps-label">{escape(guess.label)}</span> '
        f'<span class="ps-percent">{escape(sure)}</span>'
        f'<span class="ps-bar" style="width:{100 * guess.probability:.1f}%"></span></li>'
    )


def share_in_words(variant: str, place: str, share: Share) -> str:
    """Return what a share map shows, in a sentence."""
    if variant == "avg":
        return "Every pixel counts alike: this is what the others are held against."
    words = f"{share.dropped:.0f} % of all pixels dropped, {share.kept:.0f} % count more than twice."
    if variant == "stock":
        stem = " At the stem this network has max pooling, too."
        words += stem if place == "stem" else " A strided convolution's weights: the same for every photo."
    if variant == "lift":
        words += " By absolute response."
    return words


def _where(values: NDArray[np.floating]) -> str:
    """Return where on the map most is kept, of nine regions."""
    rows, columns = (np.array_split(np.arange(n), 3) for n in values.shape)
    names = (
        ("at the top left", "at the top", "at the top right"),
        ("at the left", "in the middle", "at the right"),
        ("at the bottom left", "at the bottom", "at the bottom right"),
    )
    means = {
        name: float(np.nanmean(values[np.ix_(row, column)].astype(np.float32)))
        for row, line in zip(rows, names, strict=True)
        for column, name in zip(columns, line, strict=True)
        if row.size and column.size and not np.isnan(values[np.ix_(row, column)]).all()
    }
    most = max(means, key=lambda name: means[name])
    least = min(means, key=lambda name: means[name])
    if means[most] - means[least] < 0.1:
        return "Evenly over the picture."
    return f"Most is kept {most}, least {least}."


def draw_legend(view: str) -> str:
    """Return the colour scale of all maps, with its meaning in words."""
    meaning = {
        "share": "What a pixel counts in the pooled map, against plain averaging; mean over channels.",
        "pooled": "How strong the pooled map is, against its own mean; mean size over channels.",
    }[view]
    marks = "".join(f"<span>{words}</span>" for words in ENDS[view])
    return f"""<figure class="ps-legend">
<img src="{data_url(png(legend()))}" alt="Colour scale: blue below 1, clear at 1, orange above, in steps of doubling">
<div class="ps-marks">{marks}</div>
<figcaption>{meaning}</figcaption>
</figure>"""


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]} × {shape[2]}"
