"""The page in a real browser: what a visitor does, and whether the numbers shown are those of the weights."""

import io
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, Route, expect

from benchmarks.page import CLICK_TO_PIXELS
from tests.ui import by_hand
from tests.ui.by_hand import VARIANTS, ByHand
from tests.ui.conftest import Photos
from tests.ui.dom import (
    Card,
    choose_file,
    choose_radio,
    expect_toast,
    is_shown_as,
    low_contrasts,
    open_tab,
    photo_shown,
    read_cards,
    read_verdict,
    upload,
    wait_for_cards,
    wait_for_redraw,
)
from tests.ui.running import Call, Server, Visitor, open_page

pytestmark = pytest.mark.browser
Visit = Callable[..., Visitor]

TABS = ("Compare", "Sub-bands", "Speed", "Models")
NAMES = {"stock": "Stock", "max": "Max", "avg": "Average", "soft": "SoftPool", "lip": "LIP", "lift": "LiftPool"}
CARDS = {name: json.loads((by_hand.WEIGHTS / f"{by_hand.SET}-{name}.json").read_text()) for name in VARIANTS}


def assert_guesses(card: Card, truth: ByHand) -> None:
    """Assert that a card shows the five best guesses with their probabilities."""
    best = sorted(truth.probabilities.values(), reverse=True)
    assert len(card.guesses) == 5
    for rank, (label, sure) in enumerate(card.guesses):
        assert truth.probabilities[label] == pytest.approx(best[rank], abs=1e-5), (card.variant, label)
        assert is_shown_as(truth.probabilities[label], sure), (card.variant, label, sure, truth.probabilities[label])
    assert card.unsure == (not truth.known)


def assert_share(card: Card, truth: ByHand, place: str) -> None:
    """Assert that a card's sentence and map are those of the shares at a place."""
    if card.variant != "avg":
        shown = [int(number) for number in re.findall(r"(\d+) %", card.words)]
        assert shown == [pytest.approx(figure, abs=0.51) for figure in truth.dropped_and_kept(place)], card.words
    mean = truth.shares[place].mean(0)
    assert card.pixels.shape[:2] == mean.shape
    read = ~np.isnan(mean)
    octaves = np.log2(np.maximum(mean[read], 1e-9))
    red, _, blue, alpha = card.pixels[read].T.astype(int)
    np.testing.assert_allclose(alpha, 255 * np.minimum(np.abs(octaves) / 2, 1), atol=1)
    clear = np.abs(octaves) > 0.02
    np.testing.assert_array_equal((red > blue)[clear], (octaves > 0)[clear])


def assert_verdict(verdict: str, cards: dict[str, Card]) -> None:
    """Assert that the sentence above the cards counts them right."""
    if 2 * sum(card.unsure for card in cards.values()) > len(cards):
        assert verdict == f"Probably none of the {len(CARDS['max']['classes'])} things these networks know."
        return
    (label, votes), *_ = Counter(card.guesses[0][0] for card in cards.values()).most_common()
    if 2 * votes > len(cards):
        who = "All 6" if votes == 6 else f"{votes} of 6"
        assert verdict.startswith(f"{who} say {label};")
        surest = re.search(r"; (\w+) is surest, ([^.]+)\.", verdict)
        assert surest
        shown = {NAMES[card.variant]: card.guesses[0] for card in cards.values()}
        assert shown[surest[1]] == [label, surest[2]]
        unsure = sum(card.unsure for card in cards.values() if card.guesses[0][0] == label)
        assert (f"{unsure} of them" in verdict) == (unsure > 0)
    else:
        assert verdict.startswith("The networks disagree:")
        assert f"{votes} say{'' if votes > 1 else 's'} {label}" in verdict


class TestFirstSight:
    def test_the_page_opens_with_a_finished_example(self, visit: Visit, screenshots: Path):
        visitor = visit(1280, 800)
        cards = read_cards(visitor.page)
        assert list(cards) == list(VARIANTS)
        for card in cards.values():
            assert not card.waiting
            assert len(card.guesses) == 5
            assert card.decoded > 0
            assert visitor.page.locator(f"#card-{card.variant} .ps-map").bounding_box()["width"] > 100
        assert (cards["max"].pixels[..., 3] > 0).any()
        assert_verdict(read_verdict(visitor.page), cards)
        expect(visitor.page.locator("[aria-busy=true]")).to_have_count(0)
        trackers = visitor.page.locator("[data-testid=status-tracker]").filter(has_text=re.compile(r"\S"))
        expect(trackers.filter(visible=True)).to_have_count(0)
        assert visitor.called == []
        save_for_readme(visitor.page, screenshots)

    def test_a_phone_shows_every_tab_without_sideways_scroll(self, visit: Visit, screenshots: Path):
        visitor = visit(390, 844, touch=True)
        for tab in TABS:
            open_tab(visitor.page, tab)
            widest = visitor.page.evaluate("document.documentElement.scrollWidth")
            assert widest <= 390, f"{tab} is {widest} pixels wide"
            visitor.page.screenshot(path=screenshots / f"phone-{tab.lower()}.png")

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_all_text_can_be_read(self, visit: Visit, screenshots: Path, dark: bool):
        visitor = visit(1280, 800, dark=dark)
        for tab in TABS:
            open_tab(visitor.page, tab)
            visitor.page.screenshot(path=screenshots / f"{'dark' if dark else 'light'}-{tab.lower()}.png")
            assert low_contrasts(visitor.page) == [], tab

    def test_the_keyboard_reaches_everything(self, visit: Visit):
        page = visit().page
        wanted = ["photo", "examples", "place", "view", "opacity", "again", "save-row", "save-numbers"]
        reached = set()
        for _ in range(70):
            page.keyboard.press("Tab")
            inside = "ids => ids.filter(id => document.getElementById(id)?.contains(document.activeElement))"
            reached.update(page.evaluate(inside, wanted))
        assert [part for part in wanted if part not in reached] == []
        before = photo_shown(page)
        page.locator("#examples button").nth(2).focus()
        page.keyboard.press("Enter")
        wait_for_cards(page, before)
        old = read_cards(page)["max"].map
        page.locator("#place input[value=stem]").focus()
        page.keyboard.press("Space")
        wait_for_redraw(page, old)

    def test_camera_and_clipboard_are_offered(self, visit: Visit):
        photo = visit().page.locator("#photo")
        for name in ("Upload file", "Capture from camera", "Paste from clipboard"):
            expect(photo.get_by_role("button", name=name)).to_be_visible()


def save_for_readme(page: Page, folder: Path) -> None:
    """Save the Compare tab as a picture of at most 600 kB."""
    content = page.screenshot(full_page=True)
    with Image.open(io.BytesIO(content)) as image:
        colours = image.convert("RGB")
        picture = colours.quantize(256, palette=colours.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    assert picture.width == 1280
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / "compare.png", optimize=True)
    assert (folder / "compare.png").stat().st_size < 600_000


OWN_PHOTO = ("koala", 5)


@pytest.fixture(scope="class")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ByHand]:
    photo = Photos(tmp_path_factory.mktemp("truth")).small(*OWN_PHOTO)
    return {variant: by_hand.look(variant, photo) for variant in VARIANTS}


@pytest.fixture(scope="class")
def koala(browser: Browser, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    visitor = open_page(browser, server)
    upload(visitor.page, Photos(tmp_path_factory.mktemp("koala")).path(*OWN_PHOTO))
    yield visitor
    visitor.context.close()
    assert visitor.errors == []
    assert visitor.outside == set()


class TestAnOwnPhoto:
    """One visitor's photo, looked at in every way; each test begins from the share at stage 2."""

    @pytest.fixture(autouse=True)
    def _from_the_beginning(self, koala: Visitor) -> None:
        for group, value in (("#place", "stage2"), ("#view", "share")):
            if not koala.page.locator(f"{group} input[value='{value}']").is_checked():
                old = read_cards(koala.page)["max"].map
                koala.page.locator(f"{group} input[value='{value}']").click(force=True)
                wait_for_redraw(koala.page, old)
        koala.forget()

    def test_every_number_is_that_of_the_weights(self, koala: Visitor, truth: dict[str, ByHand]):
        cards = read_cards(koala.page)
        assert list(cards) == list(VARIANTS)
        for variant, card in cards.items():
            assert_guesses(card, truth[variant])
        assert_verdict(read_verdict(koala.page), cards)
        for variant in ("max", "avg", "soft", "lip"):
            assert_share(cards[variant], truth[variant], "stage2")

    def test_another_place_is_drawn_without_a_forward_pass(self, koala: Visitor, truth: dict[str, ByHand]):
        before = read_cards(koala.page)
        for place, name in (("stem", "Stem"), ("stage3.shortcut", "Shortcut 3")):
            old = read_cards(koala.page)["max"].map
            koala.forget()
            choose_radio(koala.page, "#place", name)
            wait_for_redraw(koala.page, old)
            cards = read_cards(koala.page)
            assert koala.called == ["redraw"]
            for variant in VARIANTS:
                assert cards[variant].time == before[variant].time
                assert cards[variant].guesses == before[variant].guesses
            for variant in ("max", "avg", "soft", "lip"):
                assert_share(cards[variant], truth[variant], place)
        assert cards["lift"].map != before["lift"].map

    def test_the_pooled_map(self, koala: Visitor):
        before = read_cards(koala.page)
        choose_radio(koala.page, "#view", "Pooled map")
        wait_for_redraw(koala.page, before["max"].map)
        cards = read_cards(koala.page)
        assert koala.called == ["redraw"]
        for variant, card in cards.items():
            assert card.pixels.shape == (16, 16, 4)
            assert card.time == before[variant].time
            assert "32 × 32 pixels pooled to 16 × 16" in card.words
        expect(koala.page.locator("#legend")).to_contain_text("weak")

    def test_opacity_asks_the_server_nothing(self, koala: Visitor):
        slider = koala.page.locator("#opacity input[type=range]")
        for percent in (40, 100):
            slider.fill(str(percent))
            koala.page.wait_for_function(
                "wanted => [...document.querySelectorAll('.ps-map')].every(m => getComputedStyle(m).opacity == wanted)",
                arg=percent / 100,
            )
        slider.focus()
        koala.page.keyboard.press("ArrowLeft")
        koala.page.wait_for_function("getComputedStyle(document.querySelector('.ps-map')).opacity < 1")
        slider.fill("100")
        assert koala.addresses == []

    def test_all_numbers_can_be_taken_along(self, koala: Visitor, truth: dict[str, ByHand]):
        with koala.page.expect_download() as saved:
            koala.page.locator("#save-numbers").click()
        assert saved.value.suggested_filename == "poolscope.json"
        content = json.loads(saved.value.path().read_text())
        cards = read_cards(koala.page)
        assert content["verdict"].lower() == read_verdict(koala.page).lower()
        assert content["place"] == "stage2"
        assert set(content["versions"]) >= {"torch", "gradio"}
        assert [network["variant"] for network in content["networks"]] == list(VARIANTS)
        for network in content["networks"]:
            variant = network["variant"]
            card, by_loops = cards[variant], truth[variant]
            assert network["weights"]["name"] == CARDS[variant]["name"]
            assert network["weights"]["sha256"] == CARDS[variant]["sha256"]
            assert [guess["label"] for guess in network["top"]] == [label for label, _ in card.guesses]
            for guess in network["top"]:
                assert guess["probability"] == pytest.approx(by_loops.probabilities[guess["label"]], abs=1e-4)
            shown = [float(number) for number in re.findall(r"([\d.]+) ms", card.time)]
            assert [network["time_ms"], network["pooling_ms"]] == [pytest.approx(ms, abs=0.51) for ms in shown]
            if variant in ("max", "soft", "lip"):
                figures = network["places"]["stage2"]
                wanted = by_loops.dropped_and_kept("stage2")
                assert (figures["dropped_percent"], figures["kept_percent"]) == pytest.approx(wanted, abs=0.011)
                found = np.array(network["share_map"], float)
                np.testing.assert_allclose(found, by_loops.shares["stage2"].mean(0), rtol=1e-3, atol=1e-4)

    def test_the_maps_can_be_taken_along(self, koala: Visitor):
        with koala.page.expect_download() as saved:
            koala.page.locator("#save-row").click()
        assert saved.value.suggested_filename == "poolscope.png"
        with Image.open(saved.value.path()) as image:
            row = np.asarray(image.convert("RGB")).astype(int)
        cards = read_cards(koala.page)
        height, width, _ = row.shape
        assert width > 6 * 200
        # Where a map hides the photo the picture has exactly its colour, and at one place all of these are right.
        pixels, side = cards["max"].pixels.astype(int), 240
        opaque = np.argwhere(pixels[..., 3] == 255)
        assert len(opaque) > 0
        fits = np.ones((height - side, width - side), bool)
        for r, c in opaque:
            y, x = (int((i + 0.5) * side / len(pixels)) for i in (r, c))
            fits &= (row[y : y + height - side, x : x + width - side] == pixels[r, c, :3]).all(-1)
        assert fits.any()

    def test_the_next_example_replaces_it(self, koala: Visitor, truth: dict[str, ByHand]):
        before, photo = read_cards(koala.page), photo_shown(koala.page)
        koala.page.get_by_role("button", name="espresso").first.click()
        cards = wait_for_cards(koala.page, photo)
        assert koala.called[:2] == ["choose", "run"]
        assert cards["max"].guesses != before["max"].guesses
        assert cards["max"].map != before["max"].map


LATE_END = """const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (!String(asked[0]?.url ?? asked[0]).includes('/queue/data')) return answer;
  const late = new TransformStream({async transform(part, out) {
    if (new TextDecoder().decode(part).includes('close_stream')) await new Promise(then => setTimeout(then, 150));
    out.enqueue(part);
  }});
  return new Response(answer.body.pipeThrough(late), answer);
};"""
"""The browser hears of a stream's end 150 ms late, as over a slow net."""


class TestSlowNet:
    def test_what_is_asked_while_the_last_stream_ends_is_answered(self, visit: Visit):
        page = visit().page
        page.add_init_script(LATE_END)
        page.reload()
        page.locator("#cards .ps-card").first.wait_for()
        for _ in range(3):
            with page.expect_download():
                page.locator("#save-numbers").click()


class TestBadFiles:
    def test_each_gets_its_sentence_and_the_next_photo_works(self, visit: Visit, photos: Photos, tmp_path: Path):
        visitor = visit()
        page = visitor.page
        photo = io.BytesIO()
        photos.small("tabby", 3).save(photo, "JPEG")
        bad = {
            "text.jpg": (b"hello\n", "This file holds text, not a picture"),
            "empty.jpg": (b"", "This file is empty"),
            "truncated.jpg": (photo.getvalue()[:900], "This JPEG file is cut off or damaged"),
            "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "This is an SVG drawing"),
        }
        for name, (content, sentence) in bad.items():
            (tmp_path / name).write_bytes(content)
            choose_file(page, tmp_path / name)
            expect_toast(page, sentence)
        # Other networks have not seen the photo whose answers still stand there.
        page.locator("#network-set label:has(input:not(:checked))").first.click()
        expect(page.locator("#verdict")).to_have_text("Upload a photo or choose an example.")
        expect(page.locator("#cards .ps-guesses")).to_have_count(0)
        # Nor do they take away the answers to a photo that comes while their failure is on its way.
        held: list[Route] = []

        def clears(request: Request) -> bool:
            call = visitor.read_call(request)
            return call is not None and call.name == "clear_old"

        page.route("**/run/*", lambda route: held.append(route) if clears(route.request) else route.continue_())
        with page.expect_request(clears):
            page.locator("#network-set label").first.click()
        cards = upload(page, photos.path("goldfish", 3))
        with page.expect_response(lambda response: clears(response.request)):
            held[0].continue_()
        page.wait_for_timeout(500)
        assert read_cards(page) == cards
        truth = by_hand.look("stock", photos.small("goldfish", 3))
        assert_guesses(cards["stock"], truth)


class TestGallery:
    def test_a_photo_on_which_they_split_opens_with_the_answers_that_it_promises(self, visit: Visit):
        page = visit().page
        page.locator("#gallery summary").click()
        photos = page.locator("#gallery li")
        entries = json.loads((by_hand.ROOT / "assets" / "gallery.json").read_text())["sets"][by_hand.SET]
        expect(photos).to_have_count(len(entries))
        for index in (1, 0):
            before = photo_shown(page)
            photos.nth(index).locator("button").click()
            cards = wait_for_cards(page, before)
            assert {variant: card.guesses[0][0] for variant, card in cards.items()} == entries[index]["says"]
            assert_verdict(read_verdict(page), cards)


class TestVisitors:
    def test_two_at_once_see_only_their_own(self, visit: Visit, photos: Photos, server: Server):
        visitors = {name: visit() for name in ("tabby", "red-panda")}
        before = {name: photo_shown(visitor.page) for name, visitor in visitors.items()}
        for name, visitor in visitors.items():
            choose_file(visitor.page, photos.path(name, 9))
        for name, visitor in visitors.items():
            wait_for_cards(visitor.page, before[name])
        truths = {name: by_hand.look("max", photos.small(name, 9)) for name in visitors}
        for name, visitor in visitors.items():
            visitor.forget()
            old = read_cards(visitor.page)["max"].map
            choose_radio(visitor.page, "#place", "Stage 3")
            wait_for_redraw(visitor.page, old)
            card = read_cards(visitor.page)["max"]
            assert_guesses(card, truths[name])
            assert_share(card, truths[name], "stage3")
        redraws = [next(call for call in v.calls if call.name == "redraw") for v in visitors.values()]
        self.replay(server, *redraws)

    def replay(self, server: Server, mine: Call, theirs: Call) -> None:
        """Open each visit by its key from both sessions: only its own may."""
        for call, other in ((mine, theirs), (theirs, mine)):
            for session in (call.session, other.session, ""):
                body = {"data": call.data, "session_hash": session}
                answer = httpx.post(f"{server.url}/gradio_api/run/redraw", json=body, timeout=60)
                assert answer.status_code == 200, answer.text[:300]
                assert ("ps-map" in answer.text) == (session == call.session)
                assert ("no longer kept" in answer.text) == (session == "")

    def test_a_place_chosen_in_the_frame_of_an_answer_is_drawn(self, visit: Visit, photos: Photos):
        """While the other tab's answer was on its way, one that came through Gradio's queue was lost now and then."""
        page = visit().page
        for turn in range(10):
            upload(page, photos.path("koala", 30 + turn))
            for place in (("stem", "stage3", "stage4")[turn % 3], "stage2"):
                assert page.evaluate(CLICK_TO_PIXELS, place) > 0

    def test_a_place_chosen_before_the_first_answer_holds_for_all(self, visit: Visit, photos: Photos):
        page = visit().page
        before = photo_shown(page)
        choose_file(page, photos.path("red-panda", 5))
        choose_radio(page, "#place", "Stem")
        cards = wait_for_cards(page, before)
        for variant in ("stock", "max", "avg", "soft", "lip"):
            truth = by_hand.look(variant, photos.small("red-panda", 5))
            assert_guesses(cards[variant], truth)
            assert_share(cards[variant], truth, "stem")

    def test_the_last_of_several_photos_is_the_one_shown(self, visit: Visit, photos: Photos):
        visitor = visit()
        before = photo_shown(visitor.page)
        for index in (4, 7, 3):
            visitor.page.locator("#examples button").nth(index).click()
        wait_for_cards(visitor.page, before)
        choose_file(visitor.page, photos.path("orange", 2))
        visitor.page.locator("#again").click()
        visitor.page.locator("#again").click()
        truth = by_hand.look("max", photos.small("orange", 2))
        label = max(truth.probabilities, key=lambda label: truth.probabilities[label])
        expect(visitor.page.locator("#card-max .ps-label").first).to_have_text(label)
        cards = wait_for_cards(visitor.page)
        assert_guesses(cards["max"], truth)
        choose_radio(visitor.page, "#place", "Stem")
        wait_for_redraw(visitor.page, cards["max"].map)
        assert_share(read_cards(visitor.page)["max"], truth, "stem")


def is_rounded(number: float, text: str) -> bool:
    """Tell whether a text such as "2.1 %" is a number, rounded to the digits shown."""
    shown = text.split()[0]
    return abs(number - float(shown)) <= 0.501 * 10.0 ** -len(shown.partition(".")[2])


class TestSubbands:
    def read_energy(self, page: Page) -> dict[str, str]:
        figures = page.locator("#subbands figure").filter(has=page.locator("b"))
        return {figure.locator("strong").inner_text(): figure.locator("b").inner_text() for figure in figures.all()}

    def assert_energy(self, page: Page, truth: dict[str, float]) -> None:
        shown = self.read_energy(page)
        assert set(shown) == set(truth)
        for band, energy in truth.items():
            assert is_rounded(energy, shown[band]), (band, energy, shown[band])

    def test_energies_are_those_of_the_photo_and_of_the_weights(self, visit: Visit, photos: Photos):
        visitor = visit()
        page, photo = visitor.page, photos.small("pagoda", 11)
        open_tab(page, "Sub-bands")
        old = page.locator("#subbands img").first.get_attribute("src")
        choose_file(page, photos.path("pagoda", 11))
        expect(page.locator("#subbands img").first).not_to_have_attribute("src", old)
        self.assert_energy(page, by_hand.haar_energy(photo))
        expect(page.locator("#subbands")).to_contain_text("mere rounding")

        for band in ("LH", "HL", "HH"):
            page.locator("#keep").get_by_text(band, exact=True).click()
        expect(page.locator("#subbands")).to_contain_text("from LL: PSNR")
        psnr = re.search(r"from LL: PSNR ([\d.]+) dB", page.locator("#subbands").inner_text())
        assert psnr
        assert is_rounded(by_hand.psnr_of_means_db(photo), psnr[1])

        page.locator("#source input").click()
        page.get_by_role("option", name="stage 3").click()
        expect(page.locator("#subbands")).to_contain_text("map at stage 3")
        self.assert_energy(page, by_hand.look("lift", photo).energy["stage3"])


class TestSpeed:
    def test_measures_when_asked_and_can_be_stopped(self, visit: Visit):
        visitor = visit()
        page = visitor.page
        open_tab(page, "Speed")
        assert visitor.called == []
        page.locator("#measure").click()
        expect(page.locator("#speed")).to_contain_text("Measured just now")
        networks, poolings = (
            [[cell.inner_text() for cell in row.locator("th, td").all()] for row in table.locator("tbody tr").all()]
            for table in page.locator("#speed table").all()
        )
        assert [row[0] for row in networks] == [NAMES[variant] for variant in VARIANTS]
        assert [row[0] for row in poolings] == [NAMES[variant] for variant in VARIANTS[1:]]
        for name, median, _, pooling, rest in networks:
            total, part, remainder = (float(cell.removesuffix(" ms")) for cell in (median, pooling, rest))
            assert total > 0, name
            assert part + remainder == pytest.approx(total, abs=1.6), name
        for chart in ("#speed-networks", "#speed-poolings"):
            expect(page.locator(f"{chart} .js-plotly-plot")).to_be_visible()

        page.locator("#measure").click()
        expect(page.locator("#speed")).to_contain_text("measuring")
        page.locator("#stop").click()
        expect(page.locator("#speed")).to_contain_text("Stopped")


class TestModels:
    def test_tells_what_the_weights_are_and_what_they_know(self, visit: Visit):
        page = visit().page
        open_tab(page, "Models")
        rows = [
            [cell.inner_text() for cell in row.locator("th, td").all()]
            for row in page.locator("#models-table table").first.locator("tr").all()
        ]
        head, *rows = rows
        assert [row[0] for row in rows] == [NAMES[variant] for variant in VARIANTS]
        for variant, row in zip(VARIANTS, rows, strict=True):
            card, shown = CARDS[variant], dict(zip(head, row, strict=True))
            assert is_rounded(card["accuracy"]["top1"], shown["Top-1"])
            assert is_rounded(card["accuracy"]["top5"], shown["Top-5"])
            assert is_rounded(card["accuracy"]["calibration_error"], shown["Calibration error"])
            assert is_rounded(card["shifts"]["crops"], shown["Same after a shift"])
            assert is_rounded(card["corruptions"]["mean_error"], shown["Wrong if corrupted"])
            assert is_rounded(by_hand.count_parameters(variant) / 1e6, shown["Parameters"])

        folder = by_hand.ROOT / "benchmarks" / "results" / "seeds"
        trained = [json.loads(path.read_text())["top1"] for path in sorted(folder.iterdir())]
        accuracies = [top1[variant] for top1 in trained for variant in VARIANTS]
        for top1, row in zip(accuracies, page.locator("#models-seeds tbody tr").all(), strict=True):
            for number, shown in zip(
                [*top1, statistics.fmean(top1), statistics.stdev(top1)], row.locator("td").all(), strict=True
            ):
                assert is_rounded(number, shown.inner_text())

        sets = {path.stem.rpartition("-")[0]: path for path in by_hand.WEIGHTS.glob("*.json")}
        labels = [label for path in sets.values() for label in json.loads(path.read_text())["classes"]]
        kinds = json.loads((by_hand.ROOT / "assets" / "kinds.json").read_text())
        named = {label["wnid"]: f"{label['words']} {kinds.get(label['wnid'], '')}" for label in labels}
        for asked, pattern in (
            ("cat", r"\bcats?\b"),
            ("a Dog", r"\bdog\b"),
            ("car", r"\bcar\b"),           # not the goldfish, Carassius auratus
            ("sea-coast", r"\bsea.?coast"),
            ("butterflies", r"\bbutterfly\b"),
            ("buses", r"\bbus\b"),
            ("gold", r"\bgold"),            # no word of its own, so all that begin with it
            ("quagga", r"\bquagga\b"),
        ):
            page.locator("#known-search").fill(asked)
            wanted = [label for label in labels if re.search(pattern, named[label["wnid"]], re.IGNORECASE)]
            shown = page.locator("#known li").filter(visible=True)
            expect(shown).to_have_count(len(wanted))
            assert sorted(item.get_attribute("data-wnid") for item in shown.all()) == sorted(
                label["wnid"] for label in wanted
            )
            answer = page.locator("#known output").inner_text()
            known, all_known = (len({label["wnid"] for label in some}) for some in (wanted, labels))
            yes = f"Yes: {known} of {all_known}."
            begin = f"Of {all_known}, {known} have a name or a kind that begins so."
            expected = {"gold": begin, "quagga": "No: no name or kind of what they know begins so."}.get(asked, yes)
            assert answer == expected
