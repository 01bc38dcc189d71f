"""A page with two sets of networks, in a browser: what the choice between them changes."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import uvicorn
from playwright.sync_api import Browser, Page, expect

from models.data import ClassLabel
from models.zoo import Loaded
from tests.ui import made_up
from tests.ui.dom import choose_file, choose_radio, is_shown_as, open_tab, photo_shown, read_cards, read_verdict, upload
from tests.ui.running import open_page
from ui.context import NetworkSet
from ui.page import mount
from ui.photo import read_photo

pytestmark = pytest.mark.browser

OTHER = (ClassLabel("n5", "beacon, lighthouse"), ClassLabel("n6", "alp"), ClassLabel("n7", "tench"))


def other_set() -> NetworkSet:
    """Return networks that know three other things, with no LiftPool among them."""
    own = made_up.network_set("max", "lip", name="other", seed=3)

    def of_three(loaded: Loaded) -> Loaded:
        loaded.network.fc = torch.nn.Linear(loaded.network.fc.in_features, len(OTHER))
        return Loaded(loaded.network, replace(loaded.card, classes=OTHER))

    return NetworkSet(own.name, tuple(of_three(loaded) for loaded in own.networks))


SETS = (made_up.network_set("stock", "max", "lift"), other_set())


class Here:
    """The page in a thread of this process; what `open_page` needs of a server."""

    def __init__(self) -> None:
        config = uvicorn.Config(mount(SETS), host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.05)
            assert self._thread.is_alive()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    here = Here()
    here.start()
    try:
        visitor = open_page(browser, here)
        yield visitor.page
        visitor.context.close()
        assert visitor.errors == []
    finally:
        here.stop()


def assert_answers(page: Page, own: NetworkSet, photo: Path, for_s: float = 0) -> None:
    """Assert that there are the cards of a set's networks alone, and that they say what these networks say.

    Args:
        for_s: seconds for which as many cards must stand there, so that none is still to come.
    """
    page.wait_for_function(
        """([wanted, forMs]) => {
          const answered = document.querySelectorAll('#cards .ps-guesses').length === wanted
            && !document.querySelector('.ps-waiting');
          window.since = answered ? window.since ?? performance.now() : undefined;
          return answered && performance.now() - window.since >= forMs;
        }""",
        arg=[len(own.networks), 1000 * for_s],
    )
    cards = read_cards(page)
    assert list(cards) == [loaded.network.variant for loaded in own.networks]
    for loaded in own.networks:
        with torch.no_grad():
            logits = loaded.network(loaded.preprocess(read_photo(photo).image))[0]
        probabilities = torch.softmax(logits.double() / loaded.card.temperature, 0).tolist()
        known = dict(zip([label.label for label in own.classes], probabilities, strict=True))
        for label, sure in cards[loaded.network.variant].guesses:
            assert is_shown_as(known[label], sure), (loaded.network.variant, label, sure, known[label])


def test_the_choice_of_a_set_changes_every_tab(page: Page, tmp_path: Path):
    first, other = SETS
    photo = tmp_path / "photo.png"
    made_up.photo(1, 60, 60).image.save(photo)
    upload(page, photo)
    assert_answers(page, first, photo)

    choose_radio(page, "#network-set", other.title)
    assert_answers(page, other, photo)
    assert "3 things" in read_verdict(page) or any(label.label in read_verdict(page) for label in OTHER)
    maps = [card.map for card in read_cards(page).values()]
    choose_radio(page, "#place", "Stage 3")
    page.wait_for_function(
        "old => [...document.querySelectorAll('.ps-map')].every(map => !old.includes(map.src))", arg=maps
    )
    assert_answers(page, other, photo)

    open_tab(page, "Sub-bands")
    page.locator("#source input").click()
    page.get_by_role("option", name="LiftPool network, stage 2", exact=True).click()
    expect(page.locator("#subbands")).to_contain_text("no LiftPool among them")
    choose_radio(page, "#network-set", first.title)
    expect(page.locator("#subbands")).to_contain_text("the LiftPool network's map at stage 2")

    open_tab(page, "Models")
    expect(page.locator("#models-table table")).to_have_count(2)
    page.locator("#known-search").fill("tench")
    expect(page.locator("#known li").filter(visible=True)).to_have_text(["tench"])


def test_the_set_chosen_last_is_the_one_that_answers(page: Page, tmp_path: Path):
    first, other = SETS
    photo = tmp_path / "photo.png"
    made_up.photo(2, 60, 60).image.save(photo)
    before = photo_shown(page)
    choose_file(page, photo)
    page.wait_for_function(
        "old => getComputedStyle(document.querySelector('.ps-photo')).backgroundImage !== old", arg=before
    )
    for own in (other, first, other, first, other):
        choose_radio(page, "#network-set", own.title)
    assert_answers(page, other, photo, for_s=3)
