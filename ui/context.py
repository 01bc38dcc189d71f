"""What the page gives to each of its tabs.

Every tab is a module with ``build(context: Context) -> None``, called inside its ``gr.Tab``, which creates the tab's
components, events and endpoint. The networks are loaded once, before the page is built, and nothing here changes after
start but what ``visits`` holds.

The networks come in sets: those of a set know the same classes and differ only in how they pool. A visitor chooses
among the sets, and the first is chosen when the page opens; handlers get the chosen set's name as a value.

Whoever runs a network for its time or its answer holds ``machine`` meanwhile, one network at a time: then two visitors
share the processor in turns, and neither's milliseconds are those of the other.
"""

from dataclasses import dataclass
from threading import Lock

import gradio as gr

from models.data import ClassLabel
from models.resnet import VARIANTS, Variant
from models.zoo import Loaded
from ui.photo import Photo, PhotoInput
from ui.visit import Visits

__all__ = ["Context", "NetworkSet"]


@dataclass(frozen=True)
class NetworkSet:
    """Networks that know the same classes, at least one, in the order stock, max, avg, soft, lip, lift."""

    name: str
    networks: tuple[Loaded, ...]

    @property
    def classes(self) -> tuple[ClassLabel, ...]:
        """What the networks know."""
        return self.networks[0].classes

    @property
    def input_size(self) -> int:
        """Side in pixels of what the networks see."""
        return self.networks[0].card.input_size

    @property
    def title(self) -> str:
        """What the networks know, in a few words."""
        return self.networks[0].card.knowledge

    def find(self, variant: str) -> Loaded | None:
        """Return the network of a variant, or None."""
        return next((loaded for loaded in self.networks if loaded.network.variant == variant), None)


@dataclass(frozen=True)
class Context:
    """What the tabs share."""

    sets: tuple[NetworkSet, ...]
    """All sets, in eval mode; with the first the page opens."""
    chosen: gr.Radio
    """The set's name that the visitor has chosen."""
    photo: PhotoInput
    """The visitor's photo. Its ``change`` event covers upload, webcam, clipboard, examples and clearing."""
    opening: Photo
    """The example with which the page opens; each tab shows it finished."""
    visits: Visits
    """What each visitor's last photo left behind, for drawing another place without another forward pass."""
    machine: Lock
    """Held while one network runs."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of which there is a network in some set."""
        return tuple(variant for variant in VARIANTS if any(one.find(variant) for one in self.sets))

    def find_set(self, name: str | None) -> NetworkSet:
        """Return a set by its name.

        Raises:
            gr.Error: if there is none of that name, naming those that there are.
        """
        for one in self.sets:
            if one.name == name:
                return one
        there = ", ".join(one.name for one in self.sets)
        raise gr.Error(f"network_set must be one of {there}.", title="Networks", print_exception=False)
