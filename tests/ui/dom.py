"""What a visitor sees on the page, read from the browser's document."""

import io
import re
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from tests.ui.running import STEP_LIMIT_S

expect.set_options(timeout=1000 * STEP_LIMIT_S)

READ_CARDS = """() => [...document.querySelectorAll('#cards .ps-card')].map(card => ({
  variant: card.closest('[id^="card-"]').id.slice(5),
  waiting: card.classList.contains('ps-waiting'),
  guesses: [...card.querySelectorAll('.ps-guesses li')].map(
    guess => [guess.querySelector('.ps-label').innerText, guess.querySelector('.ps-percent').innerText]),
  words: card.querySelector('.ps-words')?.innerText ?? '',
  time: card.querySelector('.ps-time')?.innerText ?? '',
  unsure: card.querySelector('.ps-unsure') !== null,
  map: card.querySelector('.ps-map')?.src ?? '',
  decoded: card.querySelector('.ps-map')?.naturalWidth ?? 0,
}))"""


@dataclass(frozen=True)
class Card:
    """A network's card: label and percentage of each guess as shown, the sentence, the times, the map's address."""

    variant: str
    waiting: bool
    guesses: list[list[str]]
    words: str
    time: str
    unsure: bool
    map: str
    decoded: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The map's pixels, (H, W, 4)."""
        with Image.open(io.BytesIO(b64decode(self.map.partition("base64,")[2]))) as image:
            return np.asarray(image.convert("RGBA"))


def read_cards(page: Page) -> dict[str, Card]:
    """Return the cards in the order in which they are shown."""
    return {card["variant"]: Card(**card) for card in page.evaluate(READ_CARDS)}


def read_verdict(page: Page) -> str:
    """Return the sentence above the cards."""
    return page.locator("#verdict .ps-verdict").inner_text().strip()


def photo_shown(page: Page) -> str:
    """Return the address of the photo in the cards: it holds the picture, so no two photos share it."""
    address: str = page.evaluate("getComputedStyle(document.querySelector('.ps-photo')).backgroundImage")
    return address


def wait_for_cards(page: Page, old_photo: str | None = None) -> dict[str, Card]:
    """Wait until all networks have answered, and return their cards.

    Args:
        old_photo: what `photo_shown` gave before; then the cards are those of another photo.
    """
    if old_photo is not None:
        page.wait_for_function(
            "old => getComputedStyle(document.querySelector('.ps-photo')).backgroundImage !== old", arg=old_photo
        )
    page.wait_for_function(
        "() => !document.querySelector('.ps-waiting')"
        " && !/have answered/.test(document.querySelector('#verdict').innerText)"
    )
    return read_cards(page)


def upload(page: Page, path: Path) -> dict[str, Card]:
    """Choose a photo as a visitor does, and return the cards when all networks have answered."""
    before = photo_shown(page)
    choose_file(page, path)
    return wait_for_cards(page, before)


def choose_file(page: Page, path: Path) -> None:
    """Put a file into the photo field, empty or not."""
    field = page.locator("#photo input[type=file]")
    if field.count() == 0:
        page.locator("#photo").get_by_role("button", name=re.compile("clear|remove", re.IGNORECASE)).first.click()
        field.first.wait_for(state="attached")
    field.first.set_input_files(path)


def open_tab(page: Page, name: str) -> None:
    """Open a tab, which on a phone may lie in the menu of further tabs."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.is_visible():
        tab.click()
        return
    page.get_by_role("button", name="More tabs").click()
    page.get_by_role("button", name=name, exact=True).click()


def choose_radio(page: Page, group: str, name: str) -> None:
    """Choose one of a group of radio buttons by its words."""
    page.locator(group).get_by_text(name, exact=True).click()


def expect_toast(page: Page, words: str) -> None:
    """Expect a message with these words, and no other to be seen: the newest takes the place of those before."""
    shown = page.get_by_test_id("toast-text").filter(visible=True)
    expect(shown).to_contain_text(words)
    expect(shown).to_have_count(1)


def is_shown_as(probability: float, text: str) -> bool:
    """Tell whether a percentage on the page is this probability's, to the last digit shown."""
    if text == "<1 %":
        return probability <= 0.005 + 1e-5
    if text == ">99 %":
        return probability >= 0.995 - 1e-5
    return abs(100 * probability - int(text.removesuffix(" %"))) <= 0.5 + 1e-3


def wait_for_redraw(page: Page, old_map: str) -> None:
    """Wait until the map of the network with max pooling is another one."""
    page.wait_for_function("old => document.querySelector('#card-max .ps-map')?.src !== old", arg=old_map)


LOW_CONTRASTS = """() => {
  const parse = colour => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const over = (top, below) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map(i => alpha * top[i] + (1 - alpha) * below[i]);
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (walker.currentNode.data.trim()) texts.push(walker.currentNode);
  for (const text of texts) {
    const element = text.parentElement, range = document.createRange();
    range.selectNodeContents(text);
    if (!element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    element.scrollIntoView({block: 'center', behavior: 'instant'});
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const stack = document.elementsFromPoint(box.left + Math.min(8, box.width / 2), box.top + box.height / 2);
    const at = stack.indexOf(element);
    if (at < 0) continue;
    const below = stack.slice(at);
    const isPicture = e => e.matches('img, svg, canvas, video') || getComputedStyle(e).backgroundImage.includes('url(');
    if (below.some(isPicture)) continue;
    const grounds = below.reverse().map(e => parse(getComputedStyle(e).backgroundColor));
    const ground = grounds.reduce((ground, colour) => over(colour, ground), [255, 255, 255]);
    const style = getComputedStyle(element);
    let ink = parse(style.color), opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    ink = over([ink[0], ink[1], ink[2], (ink[3] ?? 1) * opacity], ground);
    const [low, high] = [luminance(ink), luminance(ground)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005) found.push(`${text.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  window.scrollTo(0, 0);
  return found;
}"""


def low_contrasts(page: Page) -> list[str]:
    """Return each visible text whose contrast with what lies under it is below WCAG's 4.5:1 (3:1 where large).

    Text over pictures is left out.
    """
    found: list[str] = page.evaluate(LOW_CONTRASTS)
    return found
