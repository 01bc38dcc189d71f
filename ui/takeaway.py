"""A result to take along: every number as JSON, the row of maps as a picture."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.zoo import Loaded
from ui.context import NetworkSet
from ui.look import DROPPED, KEPT, Look
from ui.pictures import Framed, row_of_maps
from ui.words import ENDS, NAMES, PLACE_NAMES, percent, verdict

__all__ = ["draw_row", "numbers"]


def numbers(looks: Sequence[Look], own: NetworkSet, place: str) -> dict[str, object]:
    """Return every number of a comparison, ready for JSON.

    Args:
        looks: of some of the networks.
        own: the set of these networks.
        place: whose maps are given pixel by pixel.
    """
    known: dict[str, Loaded] = {loaded.network.variant: loaded for loaded in own.networks}
    return {
        "verdict": verdict({look.variant: look.answer for look in looks}, len(own.classes)),
        "network_set": own.name,
        "place": place,
        "networks": [_network(look, known[look.variant], place) for look in looks],
        "words": {
            "share": "of a pixel: its weights summed over all outputs, over what average pooling would give it",
            "dropped_percent": f"of all channels' pixels with a share below {DROPPED}",
            "kept_percent": f"of all channels' pixels with a share above {KEPT}",
            "share_map": "share, mean over channels, row by row; null where no window reads",
            "pooled_map": "size of the pooled numbers, mean over channels, in multiples of the map's mean",
            "time_ms": "a forward pass without trace on the machine that serves",
            "pooling_ms": "of the pooling layers in that pass; of a stock network the stem's alone",
        },
        "versions": {"python": platform.python_version(), "torch": version("torch"), "gradio": version("gradio")},
    }


def _network(look: Look, loaded: Loaded, place: str) -> dict[str, object]:
    card, answer = loaded.card, look.answer
    return {
        "variant": look.variant,
        "weights": {"name": card.name, "sha256": card.sha256, "accuracy": dict(card.accuracy)},
        "label": answer.top[0].label,
        "probability": answer.top[0].probability,
        "known": answer.known,
        "top": [guess._asdict() for guess in answer.top],
        "time_ms": round(look.time_ms, 3),
        "pooling_ms": round(look.pooling_ms, 3),
        "places": {name: _place(look, loaded, name) for name in look.places},
        "share_map": _rows(look.share(loaded, place).mean),
        "pooled_map": _rows(look.places[place].pooled),
    }


def _place(look: Look, loaded: Loaded, place: str) -> dict[str, object]:
    seen, share = look.places[place], look.share(loaded, place)
    return {
        "input_shape": seen.input_shape,
        "output_shape": seen.output_shape,
        "dropped_percent": round(share.dropped, 2),
        "kept_percent": round(share.kept, 2),
        "share_max": round(float(np.nanmax(share.mean)), 4),
        "share_min": round(float(np.nanmin(share.mean)), 4),
    }


def _rows(values: NDArray[np.float16]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 4) for value in row] for row in values]


def draw_row(
    framed: Framed, looks: Sequence[Look], own: NetworkSet, place: str, view: str, opacity: float
) -> Image.Image:
    """Return the maps of some networks side by side, as a picture to keep.

    Args:
        view: "share" or "pooled".
        opacity: of the maps, 0 ... 1.
    """
    known: dict[str, Loaded] = {loaded.network.variant: loaded for loaded in own.networks}
    maps = []
    for look in looks:
        guess = look.answer.top[0]
        values = look.share(known[look.variant], place).mean if view == "share" else look.places[place].pooled
        maps.append((NAMES[look.variant], f"{guess.label}, {percent(guess.probability)}", values))
    title = f"PoolScope: {'share' if view == 'share' else 'pooled map'} at {PLACE_NAMES[place]}; {own.title}"
    left, top, side = framed.left, framed.top, framed.side
    return row_of_maps(framed.image.crop((left, top, left + side, top + side)), maps, title, ENDS[view], opacity)
