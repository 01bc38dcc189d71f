"""What one visitor's last photo left behind, kept so that another place or view needs no forward pass.

A visit holds numbers already reduced to small maps, never tensors of a network: some hundred kB. `Visits` is bounded in
number, bytes and age, and whatever it no longer holds is simply gone. A visit has a key that nobody can guess, and belongs
to the session that made it: the one without the other opens nothing.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from ui.look import Look

__all__ = ["Visit", "Visits"]


@dataclass
class Visit:
    """One photo, drawn once, and what the networks that have answered so far made of it.

    Attributes:
        session: who made it; "" for the opening example, which belongs to everybody.
        key: opens it, for that session.
    """

    session: str
    key: str
    classes: int
    looks: dict[str, Look] = field(default_factory=dict)
    made_at: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of its maps."""
        return sum(look.nbytes for look in self.looks.values())


class Visits:
    """The visits of all sessions, at most one a session, the least recently used going first.

    Args:
        most: visits kept.
        most_bytes: bytes of maps kept.
        longest_s: age in seconds after which a visit is gone, used or not.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        most: int = 200,
        most_bytes: int = 200_000_000,
        longest_s: float = 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._most_bytes, self._longest_s, self._clock = most, most_bytes, longest_s, clock
        self._visits: OrderedDict[str, Visit] = OrderedDict()  # session -> its visit, least recently used first
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._visits)
