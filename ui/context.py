"""What the page gives to each of its tabs.

Every tab is a module with ``build(context: Context) -> None``, called inside its ``gr.Tab``, which creates the tab's
components, events and endpoint. The networks are loaded once, before the page is built, in the order stock, max, avg,
soft, lip, lift (less those that were not asked for), and nothing here changes after start but what ``visits`` holds.

Whoever runs a network for its time or its answer holds ``machine`` meanwhile, one network at a time: then two visitors
share the processor in turns, and neither's milliseconds are those of the other.
"""

from dataclasses import dataclass
from threading import Lock

from models.zoo import Loaded
from ui.photo import Photo, PhotoInput
from ui.visit import Visits

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """What the tabs share."""

    networks: tuple[Loaded, ...]
    """The networks in the page's order, in eval mode."""
    photo: PhotoInput
    """The visitor's photo. Its ``change`` event covers upload, webcam, clipboard, examples and clearing."""
    opening: Photo
    """The example with which the page opens; each tab shows it finished."""
    visits: Visits
    """What each visitor's last photo left behind, for drawing another place without another forward pass."""
    machine: Lock
    """Held while one network runs."""

    def find(self, variant: str) -> Loaded | None:
        """Return the loaded network of a variant, or None."""
        return next((loaded for loaded in self.networks if loaded.network.variant == variant), None)
