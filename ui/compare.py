"""The Compare tab: the networks look at one photo; what each says, which pixels each keeps, how long each takes.

A new photo is looked at by one network after the other, and each card is sent when it is finished. Another place or
view is drawn from what is kept of the visit, without a forward pass. The opacity is the browser's affair alone.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, Semaphore
from typing import TypeAlias
from weakref import WeakValueDictionary

import gradio as gr
from PIL import Image

from models.zoo import Loaded
from ui.cards import draw_card, draw_empty_card, draw_legend, draw_photo, draw_verdict, draw_waiting_card
from ui.context import Context, NetworkSet
from ui.examples import CHOOSE, chosen_index
from ui.gallery import draw_gallery, list_gallery
from ui.look import PLACES, Look, look
from ui.photo import Photo, PhotoInput
from ui.pictures import data_url, frame, png
from ui.takeaway import draw_row, numbers
from ui.visit import Visit
from ui.words import PLACE_NAMES, VIEWS

__all__ = ["build"]

Update: TypeAlias = str | dict[str, object]

OPENING = ""
"""The key of the example with which the page opens: it is everybody's."""
NOTHING = "nothing"
"""The key while there is no photo."""
FIRST_PLACE, FIRST_VIEW = "stage2", "share"
LONGEST_TURN_S = 10
"""How long a run waits for the one before it, which may have been abandoned."""
NO_LONGER = "This photo's results are no longer kept: run it again."
NO_PHOTO = "Upload a photo or choose an example."

SET_OPACITY = "opacity => { document.documentElement.style.setProperty('--ps-opacity', opacity / 100); return []; }"
SAVE = """address => {
  const link = document.createElement('a');
  link.download = 'NAME';
  link.href = address;
  link.click();
  return [];
}"""


@dataclass(frozen=True)
class Compare:
    """What the tab's events do, from plain values to plain values."""

    context: Context
    opening: Visit
    drawing: Semaphore = field(default_factory=lambda: Semaphore(2))
    """Held while maps are drawn anew."""
    turns: WeakValueDictionary[str, Lock] = field(default_factory=WeakValueDictionary)
    """By session, held by the run that tells its page what it found."""
    turning: Lock = field(default_factory=Lock)

    def run_new(
        self, photo: Photo | None, network_set: str, place: str, view: str, request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        """Do as `run`, unless the visit is of a newer photo, which was decoded sooner, or of this very one.

        Gradio tells of each upload twice, at the same time.
        """
        visits, session = self.context.visits, _session(request)
        if photo is None:
            visits.forget(session)
            with self._turn(session):
                if visits.last(session) is None:
                    yield self._clear(network_set)
                yield self._unchanged()
        elif visit := visits.open_for_new(session, frame(photo.image), network_set, place, view, photo.number):
            yield from self._run(visit, photo, session)
        else:
            yield self._unchanged()

    def run(
        self, photo: Photo | None, network_set: str, place: str, view: str, request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        """Yield the visit's key, the photo's style, the verdict and the cards: at first waiting, then one by one.

        Ends early when the visitor has gone or has begun another run.
        """
        if photo is None:
            raise gr.Error(NO_PHOTO, title="Photo", print_exception=False)
        session = _session(request)
        visit = self.context.visits.open(session, frame(photo.image), network_set, place, view, photo.number)
        yield from self._run(visit, photo, session)

    def _run(self, visit: Visit, photo: Photo, session: str) -> Iterator[tuple[Update, ...]]:
        with self._turn(session):
            try:
                for update in self._tell(visit, photo):
                    if self.context.visits.last(session) is not visit:
                        break
                    yield update
            except Exception:
                self.context.visits.forget(session, visit)
                raise
            yield self._unchanged()

    def _tell(self, visit: Visit, photo: Photo) -> Iterator[tuple[Update, ...]]:
        own = self.context.find_set(visit.network_set)
        waiting = self.cards(own.name, draw_waiting_card)
        yield visit.key, draw_photo(visit.framed), draw_verdict([], own), *waiting
        for loaded, seen in self._looks(photo, own):
            visit.looks[seen.variant] = seen
            drawn, card = ("", ""), ""
            while drawn != (visit.place, visit.view):  # another was chosen while this one was drawn
                drawn = visit.place, visit.view
                card = draw_card(loaded, seen, *drawn)
            cards: list[Update] = [gr.skip() for _ in self.context.variants]
            cards[self.context.variants.index(loaded.network.variant)] = card
            yield gr.skip(), gr.skip(), draw_verdict(list(visit.looks.values()), own), *cards
        # Where runs come close a page may miss an update (Gradio 6.31): at last it is told all cards again.
        yield gr.skip(), gr.skip(), gr.skip(), *self._draw_looks(visit, visit.place, visit.view)

    @contextmanager
    def _turn(self, session: str) -> Iterator[None]:
        """Wait until the session's run before this one has ended, for what it still tells would come after this one's.

        A run goes on, or ends, when what it told has been sent.
        """
        with self.turning:
            turn = self.turns.setdefault(session, Lock())
        is_held = turn.acquire(timeout=LONGEST_TURN_S)
        try:
            yield
        finally:
            if is_held:
                turn.release()

    def clear_old(self, key: str, network_set: str, request: gr.Request) -> tuple[Update, ...]:
        """Return what `run` yields without a photo, and let go of the visit, unless there is a newer one by now.

        Newer is one of this set, and one whose key the page did not know.
        """
        visits, session = self.context.visits, _session(request)
        last = visits.last(session)
        if last is not None and (last.network_set == network_set or last.key != key):
            return self._unchanged()
        if last is not None:
            visits.forget(session, last)
        return self._clear(network_set)

    def _clear(self, network_set: str) -> tuple[Update, ...]:
        empty = self.cards(network_set, draw_empty_card)
        return NOTHING, "", f'<p class="ps-verdict" role="status">{NO_PHOTO}</p>', *empty

    def cards(self, network_set: str, draw: Callable[[Loaded], str]) -> list[str]:
        """Return a card for each variant on the page, empty for those that the set lacks."""
        own = self.context.find_set(network_set)
        networks = (own.find(variant) for variant in self.context.variants)
        return ["" if loaded is None else draw(loaded) for loaded in networks]

    def _unchanged(self) -> tuple[Update, ...]:
        """Return what a run sends last: that is sent once more when it ends, and the next may have begun by then."""
        return gr.skip(), gr.skip(), gr.skip(), *(gr.skip() for _ in self.context.variants)

    def _looks(self, photo: Photo, own: NetworkSet, variants: list[str] | None = None) -> Iterator[tuple[Loaded, Look]]:
        image = own.networks[0].preprocess(photo.image)
        for loaded in own.networks:
            if variants is None or loaded.network.variant in variants:
                with self.context.machine:
                    seen = look(loaded, image)
                yield loaded, seen

    def redraw(self, key: str, place: str, view: str, request: gr.Request) -> tuple[Update, ...]:
        """Return the legend, the verdict and the cards for another place or view, from what is kept of the visit.

        Of a visit whose key is not on the page yet, `settle` draws them as soon as it is.
        """
        visit = self._find(key, request)
        if visit is None:
            is_gone = key != NOTHING and _session(request) not in self.context.visits
            said = f'<p class="ps-verdict" role="status">{NO_LONGER}</p>'
            legend = [gr.skip(), said] if is_gone else [draw_legend(view), gr.skip()]
            return *legend, *(gr.skip() for _ in self.context.variants)
        if visit is not self.opening:
            visit.place, visit.view = place, view
        return draw_legend(view), gr.skip(), *self._draw_looks(visit, place, view)

    def _draw_looks(self, visit: Visit, place: str, view: str) -> list[Update]:
        """Return a card for each variant on the page, those that have not answered as they are."""
        own = self.context.find_set(visit.network_set)
        networks = (own.find(variant) for variant in self.context.variants)
        with self.drawing:
            return [
                draw_card(loaded, visit.looks[loaded.network.variant], place, view)
                if loaded is not None and loaded.network.variant in visit.looks
                else gr.skip()
                for loaded in networks
            ]

    def settle(self, key: str, place: str, view: str, request: gr.Request) -> tuple[Update, ...]:
        """Do as `redraw` if another place or view was chosen while the visit's run waited for its turn."""
        visit = self._find(key, request)
        if visit is None or (visit.place, visit.view) == (place, view):
            return gr.skip(), gr.skip(), *(gr.skip() for _ in self.context.variants)
        return self.redraw(key, place, view, request)

    def save_numbers(self, key: str, place: str, request: gr.Request) -> str:
        """Return every number of the visit as the address of a JSON file."""
        visit = self._visit(key, request)
        content = numbers(list(visit.looks.values()), self.context.find_set(visit.network_set), place)
        return data_url(json.dumps(content, indent=1, allow_nan=False).encode(), "application/json")

    def save_row(self, key: str, place: str, view: str, opacity: float, request: gr.Request) -> str:
        """Return the row of maps as the address of a PNG file."""
        visit = self._visit(key, request)
        looks, own = list(visit.looks.values()), self.context.find_set(visit.network_set)
        return data_url(png(draw_row(visit.framed, looks, own, place, view, opacity / 100)))

    def compare(
        self, photo: Photo | None, networks: list[str], place: str, network_set: str
    ) -> tuple[dict[str, object], Image.Image]:
        """Let networks of a set look at a photo.

        Returns the numbers of each network as JSON (its label with probability and whether it is known, the five best
        guesses, milliseconds in all and in pooling, shapes and share figures at every place, the maps at the place
        asked for) and the picture of the share maps at that place, side by side.
        """
        if photo is None:
            raise gr.Error(NO_PHOTO, title="Photo", print_exception=False)
        if not networks:
            raise gr.Error("Name at least one network.", title="Networks", print_exception=False)
        if place not in PLACES:
            sentence = f"place must be one of {', '.join(PLACES)}, got {place}."
            raise gr.Error(sentence, title="Place", print_exception=False)
        own = self.context.find_set(network_set)
        looks = [seen for _, seen in self._looks(photo, own, networks)]
        if not looks:
            there = ", ".join(loaded.network.variant for loaded in own.networks)
            raise gr.Error(f"This set has {there}.", title="Networks", print_exception=False)
        row = draw_row(frame(photo.image), looks, own, place, "share", 1)
        return numbers(looks, own, place), row

    def _find(self, key: str, request: gr.Request) -> Visit | None:
        session, visits = _session(request), self.context.visits
        if key == OPENING:
            return None if session in visits else self.opening  # its first photo's key is not on the page yet
        return visits.get(session, key)

    def _visit(self, key: str, request: gr.Request) -> Visit:
        if key == NOTHING:
            raise gr.Error(NO_PHOTO, title="Photo", print_exception=False)
        visit = self._find(key, request)
        if visit is None:
            raise gr.Error(NO_LONGER, title="Results", print_exception=False)
        return visit


def _session(request: gr.Request) -> str:
    return request.session_hash or ""


def open_example(context: Context) -> Visit:
    """Return the visit with which the page opens, finished."""
    first = context.sets[0]
    visit = Visit(OPENING, frame(context.opening.image), first.name, FIRST_PLACE, FIRST_VIEW)
    image = first.networks[0].preprocess(context.opening.image)
    for loaded in first.networks:
        visit.looks[loaded.network.variant] = look(loaded, image)
    return visit


def build(context: Context) -> None:
    """Create the tab: the opening example's verdict and cards, what steers them, what can be taken along."""
    tab = Compare(context, open_example(context))
    first, looks = context.sets[0], tab.opening.looks

    said = gr.HTML(draw_verdict(list(looks.values()), first), elem_id="verdict", apply_default_css=False)
    photos = list_gallery(context.variants)
    galleries = {own.name: draw_gallery(photos, own.name) for own in context.sets}
    gallery = gr.HTML(galleries[first.name], js_on_load=CHOOSE, elem_id="gallery", apply_default_css=False)
    places = [(PLACE_NAMES[place].capitalize(), place) for place in PLACES]
    place = gr.Radio(places, value=FIRST_PLACE, label="Place", elem_id="place", elem_classes="ps-pills")
    with gr.Row(elem_id="controls"):
        views = [(words, view) for view, words in VIEWS.items()]
        view = gr.Radio(views, value=FIRST_VIEW, label="Map", elem_id="view", elem_classes="ps-pills", scale=0)
        opacity = gr.Slider(0, 100, 100, step=5, label="Opacity", elem_id="opacity", scale=0, buttons=[])
        colours = gr.HTML(draw_legend(FIRST_VIEW), elem_id="legend", apply_default_css=False)
    style = gr.HTML(draw_photo(tab.opening.framed), elem_id="photo-style", apply_default_css=False)
    with gr.Row(elem_id="cards"):
        drawn = tab.cards(
            first.name, lambda loaded: draw_card(loaded, looks[loaded.network.variant], FIRST_PLACE, FIRST_VIEW)
        )
        cards = [
            gr.HTML(card, elem_id=f"card-{variant}", apply_default_css=False)
            for variant, card in zip(context.variants, drawn, strict=True)
        ]
    with gr.Row(elem_id="take-along"):
        again = gr.Button("Run again", size="sm", scale=0, elem_id="again")
        row = gr.Button("Save the maps (PNG)", size="sm", scale=0, elem_id="save-row")
        report = gr.Button("Save all numbers (JSON)", size="sm", scale=0, elem_id="save-numbers")
    visit_key = gr.Textbox(OPENING, visible="hidden")
    file = gr.Textbox(visible="hidden")

    shown = [visit_key, style, said, *cards]
    runs = {
        name: event(
            run,
            [context.photo, context.chosen, place, view],
            shown,
            api_name=name,
            api_visibility="private",
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_id="networks",
            concurrency_limit=2,
        )
        for event, run, name in (
            (context.photo.change, tab.run_new, "run"),
            (context.chosen.input, tab.run_new, "run_set"),
            (again.click, tab.run, "run_again"),
        )
    }
    # Where the photo could not be read, or a network failed, the answers on the page are not those of this set.
    runs["run_set"].failure(
        tab.clear_old,
        [visit_key, context.chosen],
        shown,
        api_name="clear_old",
        api_visibility="private",
        show_progress="hidden",
        queue=False,
    )
    for triggers, draw in (([place.input, view.input], tab.redraw), ([visit_key.change], tab.settle)):
        gr.on(
            triggers,
            draw,
            [visit_key, place, view],
            [colours, said, *cards],
            api_name=draw.__name__,
            api_visibility="private",
            show_progress="hidden",
            trigger_mode="always_last",
            queue=False,  # an answer through the queue is told late while the page's stream ends, see ui/streams.py
        )
    opacity.input(None, [opacity], [], js=SET_OPACITY, api_name="opacity", api_visibility="private")
    for button, save, inputs, name in (
        (row, tab.save_row, [visit_key, place, view, opacity], "poolscope.png"),
        (report, tab.save_numbers, [visit_key, place], "poolscope.json"),
    ):
        made = button.click(
            save, inputs, [file], api_name=save.__name__, api_visibility="private", show_progress="hidden"
        )
        made.success(
            None,
            [file],
            [],
            js=SAVE.replace("NAME", name),
            api_name=f"{save.__name__}_file",
            api_visibility="private",
        )

    def show_gallery(network_set: str) -> str:
        return galleries[context.find_set(network_set).name]

    def open_disagreement(event: gr.EventData) -> str:
        return str(photos[chosen_index(event, len(photos))].path)

    context.chosen.input(
        show_gallery, [context.chosen], [gallery], api_name="show_gallery", api_visibility="private", queue=False
    )
    gallery.click(
        open_disagreement,
        None,
        [context.photo],
        api_name="open_disagreement",
        api_visibility="private",
        queue=False,
        trigger_mode="multiple",
    )

    variants = list(context.variants)
    asked_photo = PhotoInput(label="Photo", visible=False)
    asked = gr.CheckboxGroup(variants, value=variants, label="Networks", visible=False)
    gr.on(
        [],
        tab.compare,
        [asked_photo, asked, place, context.chosen],
        [gr.JSON(visible=False, label="Numbers"), gr.Image(visible=False, format="png", label="Share maps")],
        api_name="compare",
        concurrency_id="networks",
    )
