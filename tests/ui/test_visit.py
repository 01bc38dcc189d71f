"""What is kept of visitors: how much, how long, and for whom."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from models.answer import Answer, Guess
from ui.look import Look, PlaceLook, Share
from ui.pictures import Framed
from ui.visit import Visit, Visits

PICTURE_BYTES = 3 * 10 * 20


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def picture(shade: int = 0) -> Framed:
    return Framed(Image.new("RGB", (10, 20), (shade, shade, shade)), 0, 5, 10)


def begin(visits: Visits, session: str) -> Visit:
    return visits.open(session, picture(), "a set", "stage2", "share")


def some_look(side: int = 8) -> Look:
    """A look whose maps take 2 side^2 bytes for the share and 2 (side/2)^2 for the pooled map."""
    share = Share(np.ones((side, side), np.float16), 0, 0)
    place = PlaceLook((1, side, side), (1, side // 2, side // 2), np.ones((side // 2, side // 2), np.float16))
    answer = Answer((Guess("n1", "tabby, cat", "tabby", 0.9),), True)
    return Look("max", answer, 1.0, 0.1, {"stage2": place}, {"stage2": share})


def test_a_visit_opens_with_its_key_for_its_session_alone() -> None:
    visits = Visits()
    mine, yours = begin(visits, "me"), begin(visits, "you")
    assert visits.get("me", mine.key) is mine
    assert visits.get("you", yours.key) is yours
    assert visits.get("you", mine.key) is None, "a key of another session"
    assert visits.get("me", yours.key) is None
    assert visits.get("me", "") is None, "a replayed session without its key"
    assert visits.get("nobody", mine.key) is None
    assert visits.get("me", "ключ") is None, "a key that is no ASCII"


def test_keys_are_long_and_differ() -> None:
    visits = Visits(most=1000)
    keys = {begin(visits, str(number)).key for number in range(300)}
    assert len(keys) == 300
    assert min(map(len, keys)) >= 20


def test_a_new_photo_ends_the_last_run() -> None:
    visits = Visits()
    first = begin(visits, "me")
    assert visits.last("me") is first
    second = begin(visits, "me")
    assert visits.last("me") is not first
    assert visits.last("me") is second
    assert visits.get("me", first.key) is None
    assert len(visits) == 1


def test_who_leaves_is_forgotten() -> None:
    visits = Visits()
    mine, yours = begin(visits, "me"), begin(visits, "you")
    visits.forget("me")
    visits.forget("me")
    assert visits.get("me", mine.key) is None
    assert visits.last("me") is not mine
    assert visits.get("you", yours.key) is yours


def test_number_is_bounded_and_the_least_recently_used_goes_first() -> None:
    visits = Visits(most=3)
    a, b, c = (begin(visits, session) for session in "abc")
    assert visits.get("a", a.key) is a
    begin(visits, "d")
    assert len(visits) == 3
    assert visits.get("b", b.key) is None
    assert visits.get("a", a.key) is a
    assert visits.get("c", c.key) is c


def test_bytes_are_bounded_and_counted_by_hand() -> None:
    visits = Visits(most_bytes=3 * PICTURE_BYTES)
    one = begin(visits, "one")
    two = begin(visits, "two")
    assert visits.nbytes == 2 * PICTURE_BYTES
    one.looks["max"] = some_look(8)
    assert visits.nbytes == 2 * PICTURE_BYTES + 2 * 64 + 2 * 16
    two.looks["max"] = some_look(32)  # 2048 + 512 bytes more: together above 1800
    visits.tidy()
    assert visits.get("one", one.key) is None
    assert visits.nbytes <= 3 * PICTURE_BYTES


def test_age_is_bounded_though_the_visit_is_used(clock: Clock) -> None:
    visits = Visits(longest_s=3600, clock=clock)
    visit = begin(visits, "me")
    for clock.now in (1000, 2000, 3599):
        assert visits.get("me", visit.key) is visit
    clock.now = 3600
    assert visits.get("me", visit.key) is None
    assert len(visits) == 0


def test_what_is_old_goes_without_anybody_asking_for_it(clock: Clock) -> None:
    visits = Visits(longest_s=3600, clock=clock)
    begin(visits, "gone")
    clock.now = 3000
    begin(visits, "here")
    clock.now = 4000
    visits.tidy()
    assert len(visits) == 1
    assert visits.nbytes == PICTURE_BYTES


def test_of_two_who_tell_of_one_photo_at_once_one_gets_the_visit():
    visits, start = Visits(), Barrier(8)

    def tell() -> Visit | None:
        start.wait()
        return visits.open_for_new("session", picture(), "a set", "stage2", "share")

    with ThreadPoolExecutor(8) as tellers:
        told = [teller.result() for teller in [tellers.submit(tell) for _ in range(8)]]
    (opened,) = [visit for visit in told if visit is not None]
    assert visits.last("session") is opened


def test_a_photo_that_was_decoded_later_than_a_newer_one_is_let_be():
    visits = Visits()
    newer = visits.open_for_new("session", picture(1), "a set", "stage2", "share", number=2)
    assert visits.open_for_new("session", picture(2), "a set", "stage2", "share", number=1) is None
    assert newer is not None
    assert visits.last("session") is newer
    assert visits.open_for_new("session", picture(2), "a set", "stage2", "share", number=3) is not None
    assert visits.open_for_new("another", picture(2), "a set", "stage2", "share", number=1) is not None


def test_what_was_asked_before_a_repeated_wish_is_let_be():
    """The sets b, a, b are chosen at once, and the second b comes before the a."""
    visits = Visits()
    first = visits.open_for_new("session", picture(), "b", "stage2", "share", number=1)
    assert visits.open_for_new("session", picture(), "b", "stage2", "share", number=3) is None
    assert visits.open_for_new("session", picture(), "a", "stage2", "share", number=2) is None
    assert first is not None
    assert visits.last("session") is first
    assert visits.open_for_new("session", picture(), "a", "stage2", "share", number=4) is not None
