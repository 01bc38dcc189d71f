"""One network's look at one photo: its answer, its time, and each place's maps reduced to what a picture needs.

The maps are means over channels. LiftPool's share takes longer than the others', so it is worked out for a place when
that place is first drawn, from the place's input kept in half precision (some 0.6 MB a photo; no forward pass then).
"""

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.answer import Answer, answer
from models.zoo import Loaded
from poolcore import share, stopwatch, trace

__all__ = ["DROPPED", "KEPT", "PLACES", "Look", "PlaceLook", "Share", "look"]

PLACES = ("stem", "stage2", "stage3", "stage4", "stage2.shortcut", "stage3.shortcut", "stage4.shortcut")
DROPPED, KEPT = 1 / 4, 2
"""A pixel of one channel is called dropped below the first and kept above the second of these shares."""


@dataclass(frozen=True)
class Share:
    """What each pixel counts at a place.

    Attributes:
        mean: over channels, (H, W); NaN where no window reads.
        dropped, kept: percent of all channels' pixels below `DROPPED` and above `KEPT`.
    """

    mean: NDArray[np.float16]
    dropped: float
    kept: float

    @classmethod
    def of(cls, values: Tensor) -> "Share":
        """Reduce shares (1, C, H, W)."""
        read = values[~values.isnan()]
        dropped, kept = (read < DROPPED).float().mean(), (read > KEPT).float().mean()
        return cls(values[0].mean(0).half().cpu().numpy(), 100 * float(dropped), 100 * float(kept))


@dataclass(frozen=True)
class PlaceLook:
    """What one forward pass left behind at one place.

    Attributes:
        input_shape, output_shape: (C, H, W).
        pooled: mean size of the pooled map's numbers over channels, (H_out, W_out), in multiples of its own mean.
    """

    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    pooled: NDArray[np.float16]


@dataclass(frozen=True)
class Look:
    """What one network made of one photo.

    Attributes:
        time_ms: of a whole forward pass without trace.
        pooling_ms: of the pooling layers in that pass (for `stock` the stem's alone).
    """

    variant: str
    answer: Answer
    time_ms: float
    pooling_ms: float
    places: dict[str, PlaceLook]
    _shares: dict[str, Share] = field(default_factory=dict)
    _inputs: dict[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the maps and of the inputs that are kept."""
        maps = sum(place.pooled.nbytes for place in self.places.values())
        maps += sum(share.mean.nbytes for share in list(self._shares.values()))
        return maps + sum(x.nbytes for x in self._inputs.values())

    def share(self, loaded: Loaded, place: str) -> Share:
        """Return the share at a place, working LiftPool's out when it is asked for the first time.

        Args:
            loaded: the network whose look this is.
        """
        if place not in self._shares:
            layer = loaded.network.pooling_places()[place]
            with torch.inference_mode():
                self._shares[place] = Share.of(share(layer, self._inputs[place].float()))
        return self._shares[place]


def look(loaded: Loaded, image: Tensor) -> Look:
    """Let a network look at one image, once with a trace and once against the clock.

    Args:
        image: as ``loaded.preprocess`` gives it, (1, 3, S, S).
    """
    network = loaded.network
    places, shares, inputs = {}, {}, {}
    with torch.inference_mode():
        with trace(network) as seen:
            network(image)
        for name, place in seen.items():
            output = place.output
            assert isinstance(output, Tensor)  # bands come of a LiftPool that does not combine them; ours does
            size = output[0].abs().mean(0)
            pooled = (size / size.mean()).half().cpu().numpy()
            places[name] = PlaceLook(_shape(place.input), _shape(output), pooled)
            if network.variant == "lift":
                inputs[name] = place.input.half()
            else:
                shares[name] = Share.of(place.share)
        with stopwatch(network.pooling_modules()) as watch:
            start = time.perf_counter()
            logits = network(image)[0].cpu()
            time_ms = 1000 * (time.perf_counter() - start)
    return Look(network.variant, answer(logits, loaded.card), time_ms, watch.milliseconds, places, shares, inputs)


def _shape(x: Tensor) -> tuple[int, int, int]:
    _, c, h, w = x.shape
    return c, h, w
