"""The Speed tab: on request, how long the networks and single poolings take on the machine that serves."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal, TypeAlias

import gradio as gr
import plotly.graph_objects as go
import torch

from poolcore import Backend
from ui.context import Context, NetworkSet
from ui.timing import (
    WITH_KERNEL,
    Candidate,
    Quartiles,
    Timing,
    WrongResultError,
    describe_machine,
    measure,
    network_candidates,
    pooling_candidates,
    serving,
)
from ui.words import NAMES, milliseconds

__all__ = ["build"]

Shape: TypeAlias = tuple[int, int, int, int]
Report: TypeAlias = tuple[str, str, gr.Plot, gr.Plot]

ROUNDS = 30
NETWORKS_BUDGET_S, POOLINGS_BUDGET_S = 6.5, 3.0
SHOWN_EVERY_S = 0.4

IMAGENET_STEM: Shape = (1, 64, 112, 112)
WINDOWS = {
    "max": "3 × 3, stride 2",
    "avg": "2 × 2, stride 2",
    "soft": "2 × 2, stride 2",
    "lip": "3 × 3, stride 2",
    "lift": "2 × 2, stride 2, filters of 5 taps",
}
POOLING_COLOUR, OTHER_COLOUR = "#3f6fd8", "#9aa7bd"

INTRODUCTION = """<p class="ps-note">How long does each way of pooling take? The server measures it now, in about ten
seconds: first the networks on one image, then each pooling by itself on one map. Every result is checked against a slow
computation in 64-bit numbers before it is timed.</p>"""
NOTHING_YET, STOPPED = "Nothing has been measured yet.", "Stopped."
LIP_NOTE = "LIP by itself is timed without the convolutions that make its logits; in its network they count as pooling."
REFERENCE_NOTE = (
    "Plain PyTorch is the same pooling without its GPU kernel, timed in the same rounds; the speed-up is its median"
    " over the kernel's. Max and Average are PyTorch's own."
)


@dataclass(frozen=True)
class Measured:
    """Times of the networks and of the single poolings, as far as they have got.

    Attributes:
        poolings: as they are served here; where kernels serve, those by reference too.
    """

    networks: Sequence[Timing]
    poolings: Sequence[Timing]
    shape: Shape
    network_set: NetworkSet
    machine: dict[str, str | int]
    backend: Backend

    @property
    def served(self) -> list[Timing]:
        """The single poolings as they are served here."""
        return [t for t in self.poolings if not t.by_reference]

    @property
    def references(self) -> dict[str, Timing]:
        """The single poolings that were timed as plain PyTorch too, by variant; none where nothing else serves."""
        return {t.name: t for t in self.poolings if t.by_reference}

    def speed_up(self, timing: Timing) -> float:
        """Return a kernel's speed-up: the median of the same pooling by reference over its own."""
        return self.references[timing.name].total.median / timing.total.median

    def numbers(self) -> dict[str, object]:
        """Return every number, ready for JSON."""
        size = self.network_set.input_size
        return {
            "machine": self.machine,
            "backend": self.backend._asdict(),
            "networks": {
                "network_set": self.network_set.name,
                "shape": [1, 3, size, size],
                "rounds": rounds(self.networks),
                "times": [
                    {"variant": t.name, "time_ms": _three(t.total), "pooling_ms": _three(t.pooling)}
                    for t in self.networks
                ],
            },
            "poolings": {
                "shape": list(self.shape),
                "rounds": rounds(self.poolings),
                "times": [
                    {"variant": t.name, "window": WINDOWS[t.name], "time_ms": _three(t.total)}
                    | self._reference_numbers(t)
                    for t in self.served
                ],
            },
            "words": {
                "time_ms": "of a whole forward pass, or of a pooling by itself: lower quartile, median, upper quartile",
                "pooling_ms": "of the pooling layers within the pass; of a stock network the stem's alone",
                "reference_ms": "of the same pooling as plain PyTorch, in the same rounds; only where a kernel serves",
                "speed_up": "the median of reference_ms over that of time_ms",
                "rounds": "in each, every candidate ran once, in a new random order",
                "lip": LIP_NOTE,
            },
        }

    def _reference_numbers(self, timing: Timing) -> dict[str, object]:
        reference = self.references.get(timing.name)
        if reference is None:
            return {}
        return {"reference_ms": _three(reference.total), "speed_up": round(self.speed_up(timing), 4)}

    def html(self) -> str:
        """Return the tables of what has been measured."""
        size, title = self.network_set.input_size, self.network_set.title
        parts = []
        if rounds(self.networks):
            head = ("Network", "Median", "Middle half", "In pooling", "Rest")
            rows = [
                (
                    NAMES[t.name],
                    _time(t.total.median),
                    _span(t.total),
                    _time(t.pooling.median),
                    _time(max(0, t.total.median - t.pooling.median)),
                )
                for t in self.networks
            ]
            parts.append(_table(f"One image of {size} × {size} pixels through each network: {title}", head, rows))
        if rounds(self.poolings):
            shape = " × ".join(map(str, self.shape))
            title = f"Each pooling by itself, on one map of {shape} (batch, channels, height, width)"
            columns = ("Plain PyTorch", "Speed-up") if self.references else ()
            pooling_rows = [
                (NAMES[t.name], _time(t.total.median), _span(t.total), *self._reference_cells(t), WINDOWS[t.name])
                for t in self.served
            ]
            parts.append(_table(title, ("Pooling", "Median", "Middle half", *columns, "Window"), pooling_rows))
            notes = (REFERENCE_NOTE, LIP_NOTE) if self.references else (LIP_NOTE,)
            parts.extend(f'<p class="ps-note">{note}</p>' for note in notes)
        return "".join(parts)

    def _reference_cells(self, timing: Timing) -> tuple[str, ...]:
        """Return a row's cells under "Plain PyTorch" and "Speed-up", if the table has them."""
        if not self.references:
            return ()
        reference = self.references.get(timing.name)
        if reference is None:
            return "–", "–"
        return _time(reference.total.median), _times(self.speed_up(timing))

    def summary(self) -> str:
        """Return where and how this was measured."""
        machine = self.machine
        short = min(rounds(self.networks), rounds(self.poolings)) < ROUNDS
        device = "" if machine["device"] == "cpu" else f" and {machine['device']}"
        return (
            f"Measured just now on the machine that serves, {_count(rounds(self.networks), 'round')} of the networks "
            f"and {_count(rounds(self.poolings), 'round')} of the poolings: {machine['processor']}{device}, "
            f"{_count(machine['cores'], 'core')}, {_count(machine['threads'], 'thread')}, torch {machine['torch']}."
            + (f" Time was up before all {ROUNDS} rounds: the machine is slow or busy." if short else "")
        )


def draw_status(sentence: str) -> str:
    """Return the line that says how far the measurement is, or where and how it was made."""
    return f'<p class="ps-status" role="status">{escape(sentence)}</p>'


def draw_backend(backend: Backend) -> str:
    """Return the sentence that says which implementation of the poolings runs here, and why."""
    if backend.name == "reference":
        sentence = f"The poolings run as plain PyTorch here: {backend.reason}."
    else:
        *names, last = (NAMES[variant] for variant in WITH_KERNEL)
        sentence = f"{', '.join(names)} and {last} run as GPU kernels of their own here: {backend.reason}."
    return f'<p class="ps-note">{escape(sentence)}</p>'


def rounds(timings: Sequence[Timing]) -> int:
    """Return how many rounds are complete."""
    return min((len(timing.laps) for timing in timings), default=0)


def _count(number: int | str, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _three(times: Quartiles) -> dict[str, float]:
    return {
        "lower": round(times.lower, 4),
        "median": round(times.median, 4),
        "upper": round(times.upper, 4),
    }


def _time(time_ms: float) -> str:
    """Return a time with two digits where it is a fraction of a millisecond, as single poolings' are."""
    return milliseconds(time_ms) if time_ms >= 1 else f"{time_ms:.2g} ms"


def _times(ratio: float) -> str:
    return f"{ratio:#.2g} ×" if ratio < 9.95 else f"{ratio:.0f} ×"


def _span(times: Quartiles) -> str:
    lower, upper = _time(times.lower), _time(times.upper)
    return upper if lower == upper else f"{lower.removesuffix(' ms')} to {upper}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="ps-scroll"><table class="ps-table"><caption>{escape(title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def draw_networks(timings: Sequence[Timing], title: str) -> go.Figure:
    """Return the networks' medians as bars, split into pooling and the rest, with the quartiles of the whole.

    Args:
        title: what the networks know.
    """
    names = [NAMES[t.name] for t in timings]
    pooling = [t.pooling.median for t in timings]
    rest = [max(0.0, t.total.median - t.pooling.median) for t in timings]
    bars = [
        go.Bar(y=names, x=pooling, name="in pooling", orientation="h", marker_color=POOLING_COLOUR),
        go.Bar(
            y=names, x=rest, name="the rest", orientation="h", marker_color=OTHER_COLOUR, error_x=_whiskers(timings)
        ),
    ]
    return _figure(bars, f"Networks: {title}")


def draw_poolings(served: Sequence[Timing], references: Sequence[Timing] = ()) -> go.Figure:
    """Return the poolings' medians as bars with their quartiles; those by reference below those that serve here."""

    def bar(timings: Sequence[Timing], name: str, colour: str) -> go.Bar:
        names, times = [NAMES[t.name] for t in timings], [t.total.median for t in timings]
        whiskers = _whiskers(timings)
        return go.Bar(y=names, x=times, name=name, orientation="h", marker_color=colour, error_x=whiskers)

    bars = [bar(served, "as it runs here", POOLING_COLOUR)]
    if references:
        bars.append(bar(references, "plain PyTorch", OTHER_COLOUR))
    return _figure(bars, "Single poolings", barmode="group")


def _whiskers(timings: Sequence[Timing]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [t.total.upper - t.total.median for t in timings],
        "arrayminus": [t.total.median - t.total.lower for t in timings],
        "color": "#808080",
        "thickness": 1.5,
    }


def _figure(bars: list[go.Bar], title: str, barmode: Literal["stack", "group"] = "stack") -> go.Figure:
    """Return bars on a clear ground, for a light page as for a dark one; the style sheet inks the text."""
    figure = go.Figure(bars)
    figure.update_layout(
        barmode=barmode,
        height=320,
        margin={"l": 8, "r": 16, "t": 66, "b": 44},
        title={"text": title, "x": 0, "xref": "container", "font": {"size": 15}, "pad": {"l": 12}},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#777777"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        dragmode=False,
        bargap=0.35,
    )
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)", "fixedrange": True}
    figure.update_xaxes(title={"text": "milliseconds", "font": {"size": 13}}, rangemode="tozero", **grid)
    figure.update_yaxes(autorange="reversed", automargin=True, fixedrange=True)
    return figure


@dataclass(frozen=True)
class Speed:
    """What the tab's events do, from plain values to plain values."""

    context: Context

    @property
    def shapes(self) -> dict[str, Shape]:
        """The maps to choose from, by their name: an ImageNet network's stem, and these networks'."""
        cards = [one.networks[0].card for one in self.context.sets]
        sides = [card.input_size // (1 if card.stem == "small" else 2) for card in cards]
        own = [(1, card.width, side, side) for card, side in zip(cards, sides, strict=True)]
        return {"x".join(map(str, shape)): shape for shape in (IMAGENET_STEM, *own)}

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return next(self.context.sets[0].networks[0].network.parameters()).device

    def measure(self, shape: str, network_set: str) -> Iterator[Measured]:
        """Yield what is measured so far: networks first, then single poolings.

        Raises:
            gr.Error: for a shape that does not exist, and when a result is wrong.
        """
        if shape not in self.shapes:
            raise _error(f"shape must be one of {', '.join(self.shapes)}, got {shape}.")
        own, device, backend = self.context.find_set(network_set), self.device, serving(self.device)
        measured = Measured([], [], self.shapes[shape], own, describe_machine(device), backend)

        def steps(candidates: list[Candidate], budget_s: float) -> Iterator[list[Timing]]:
            return measure(candidates, ROUNDS, budget_s=budget_s, turn=self.context.machine, device=device)

        try:
            yield measured
            for timings in steps(network_candidates(own.networks, self.context.opening.image), NETWORKS_BUDGET_S):
                measured = replace(measured, networks=timings)
                yield measured
            poolings = pooling_candidates(self.shapes[shape], device, with_reference=backend.name == "triton")
            for timings in steps(poolings, POOLINGS_BUDGET_S):
                measured = replace(measured, poolings=timings)
                yield measured
        except WrongResultError as error:
            raise _error(str(error)) from error

    def run(self, shape: str, network_set: str) -> Iterator[Report]:
        """Yield the tables as they fill, and each chart when its numbers are complete."""
        shown_at, charted = 0.0, False
        measured = None
        for measured in self.measure(shape, network_set):
            done, poolings = rounds(measured.networks), rounds(measured.poolings)
            chart = gr.Plot()
            if measured.poolings and not charted:
                figure = draw_networks(measured.networks, measured.network_set.title)
                chart, charted = gr.Plot(figure, visible=True), True
            elif time.monotonic() - shown_at < SHOWN_EVERY_S:
                continue
            shown_at = time.monotonic()
            what = (
                f"the poolings, {_count(poolings, 'round')}"
                if measured.poolings
                else f"the networks, {_count(done, 'round')}"
            )
            yield draw_status(f"Checking and measuring {what} …"), measured.html(), chart, gr.Plot()
        assert measured is not None
        chart = gr.Plot(draw_poolings(measured.served, list(measured.references.values())), visible=True)
        yield draw_status(measured.summary()), measured.html(), gr.Plot(), chart

    def speed(self, shape: str, network_set: str) -> dict[str, object]:
        """Measure the networks of a set and the single poolings on the machine that serves; takes about ten seconds.

        Returns a description of the machine, which implementation of the poolings runs there and why, the rounds that
        were run, and for each network and each pooling the lower quartile, median and upper quartile in milliseconds;
        of a network also those of its pooling layers, of a pooling that a GPU kernel serves also those of the same
        pooling as plain PyTorch, and the speed-up.
        """
        *_, measured = self.measure(shape, network_set)
        return measured.numbers()


def _error(sentence: str) -> gr.Error:
    return gr.Error(escape(sentence), title="Speed", print_exception=False)


def build(context: Context) -> None:
    """Create the tab: a button that measures, one that stops, the charts and the tables."""
    tab = Speed(context)
    gr.HTML(INTRODUCTION + draw_backend(serving(tab.device)), apply_default_css=False)
    with gr.Row(elem_id="speed-controls"):
        choices = [(" × ".join(map(str, shape)), name) for name, shape in tab.shapes.items()]
        label = "Map for the single poolings (batch × channels × height × width)"
        shape = gr.Radio(choices, value=choices[0][1], label=label, elem_id="shape")
        start = gr.Button("Measure now", variant="primary", elem_id="measure")
        stop = gr.Button("Stop", elem_id="stop")
    with gr.Row(elem_id="speed-charts"):
        networks = gr.Plot(visible=False, label="Networks", show_label=False, elem_id="speed-networks")
        poolings = gr.Plot(visible=False, label="Single poolings", show_label=False, elem_id="speed-poolings")
    with gr.Column(elem_id="speed"):
        status = gr.HTML(draw_status(NOTHING_YET), apply_default_css=False)
        tables = gr.HTML(apply_default_css=False)

    running = start.click(
        tab.run,
        [shape, context.chosen],
        [status, tables, networks, poolings],
        api_name="run_speed",
        api_visibility="private",
        show_progress="hidden",
        concurrency_id="speed",
        concurrency_limit=1,
        trigger_mode="once",
    )
    stop.click(
        lambda: draw_status(STOPPED),
        None,
        [status],
        cancels=[running],
        api_name="stop_speed",
        api_visibility="private",
        show_progress="hidden",
        queue=False,
    )
    asked = [shape, context.chosen]
    gr.on([], tab.speed, asked, [gr.JSON(visible=False, label="Times")], api_name="speed", concurrency_id="speed")
