"""What one visitor's last photo left behind, kept so that another place or view needs no forward pass.

A visit holds a small picture of the photo and small maps: about a megabyte. `Visits` is bounded in number, bytes and
age, and what it no longer holds is gone. A visit has a key that nobody can guess and belongs to the session that made
it: the one without the other opens nothing.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from ui.look import Look
from ui.pictures import Framed

__all__ = ["Visit", "Visits"]


@dataclass
class Visit:
    """One photo, and what the networks that have answered so far made of it.

    Attributes:
        key: opens it, for the session that made it.
        network_set: the name of the set whose networks looked.
        place, view: what its cards show.
        number: its photo's.
        looks: by variant, in the order of the answers.
    """

    key: str
    framed: Framed
    network_set: str
    place: str
    view: str
    number: int = 0
    looks: dict[str, Look] = field(default_factory=dict)
    made_at: float = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its picture and its maps."""
        width, height = self.framed.image.size
        return 3 * width * height + sum(look.nbytes for look in list(self.looks.values()))


class Visits:
    """Every session's last visit; the least recently used goes first.

    Args:
        most: visits kept.
        most_bytes: bytes kept, in all.
        longest_s: age in seconds at which a visit is gone, used or not.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        most: int = 100,
        most_bytes: int = 100_000_000,
        longest_s: float = 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._most_bytes, self._longest_s, self._clock = most, most_bytes, longest_s, clock
        self._visits: OrderedDict[str, Visit] = OrderedDict()  # by session, least recently used first
        self._lock = Lock()

    def open(self, session: str, framed: Framed, network_set: str, place: str, view: str, number: int = 0) -> Visit:
        """Return a new visit of a session, in place of its last one."""
        with self._lock:
            visit = self._open(session, framed, network_set, place, view, number)
        self.tidy()
        return visit

    def open_for_new(
        self, session: str, framed: Framed, network_set: str, place: str, view: str, number: int = 0
    ) -> Visit | None:
        """Return a new visit of a session as `open` does; None if its last one is of a newer or this very photo.

        Of this very photo it is where the set is the same too.
        """
        with self._lock:
            last = self._visits.get(session)
            if last is not None:
                if last.network_set == network_set and last.framed.image == framed.image:
                    last.number = max(last.number, number)  # what was asked between the two is older than this
                    return None
                if number < last.number:
                    return None
            visit = self._open(session, framed, network_set, place, view, number)
        self.tidy()
        return visit

    def _open(self, session: str, framed: Framed, network_set: str, place: str, view: str, number: int) -> Visit:
        visit = Visit(secrets.token_urlsafe(16), framed, network_set, place, view, number, made_at=self._clock())
        self._visits[session] = visit
        self._visits.move_to_end(session)
        return visit

    def get(self, session: str, key: str) -> Visit | None:
        """Return the session's visit if it is still kept and this is its key, else None."""
        self.tidy()
        with self._lock:
            visit = self._visits.get(session)
            if visit is None or not secrets.compare_digest(visit.key.encode(), key.encode()):
                return None
            self._visits.move_to_end(session)
            return visit

    def last(self, session: str) -> Visit | None:
        """Return the session's visit if one is kept, whatever key the page has."""
        return self._visits.get(session)

    def forget(self, session: str, visit: Visit | None = None) -> None:
        """Let go of a session's visit, if there is one; of a certain visit, if it is the session's last."""
        with self._lock:
            if visit is None or self._visits.get(session) is visit:
                self._visits.pop(session, None)

    def tidy(self) -> None:
        """Let go of what is too old, then of the least recently used until the rest is within bounds."""
        with self._lock:
            oldest = self._clock() - self._longest_s
            for session in [session for session, visit in self._visits.items() if visit.made_at <= oldest]:
                del self._visits[session]
            while self._visits and (len(self._visits) > self._most or self.nbytes > self._most_bytes):
                self._visits.popitem(last=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all visits."""
        return sum(visit.nbytes for visit in self._visits.values())

    def __contains__(self, session: str) -> bool:
        return session in self._visits

    def __len__(self) -> int:
        return len(self._visits)
