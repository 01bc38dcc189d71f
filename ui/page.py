"""Put header, photo, examples and tabs together, and mount them as a web application."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import fmean
from threading import Lock

import fastapi
import gradio as gr
import torch

from models import zoo
from models.resnet import VARIANTS
from ui import compare, models, speed, subbands
from ui.context import Context, NetworkSet
from ui.examples import CHOOSE, chosen_index, draw_strip, list_examples
from ui.photo import MAX_BYTES, PhotoInput, read_photo
from ui.streams import Streams
from ui.visit import Visits

__all__ = ["build_blocks", "build_page", "load_networks", "mount"]

ASSETS = Path(__file__).parents[1] / "assets"
LONGEST_KEPT_S, TIDIED_EVERY_S = 3600, 300

HEADER = """
<header class="ps-header">
  <h1>PoolScope</h1>
  <p>Six ResNets that differ <strong>only in how they pool</strong> look at one photo.
  See what each says, and which pixels each keeps.</p>
</header>
"""
PRIVACY = """<p class="ps-note">Your photo stays on this server for at most an hour and is seen by nobody else.</p>"""


def load_networks(wanted: Sequence[str], device: str) -> tuple[NetworkSet, ...]:
    """Load the networks that are wanted, by name, variant or set, all if none is named; the sets as zoo lists them.

    Raises:
        ValueError: for a name that does not exist, naming those that do, or if there are no weights at all.
    """
    sets = zoo.list_sets()
    names = [name for members in sets.values() for name in members]
    if not names:
        raise ValueError(f"there are no weights in {zoo.WEIGHTS.parent.name}/{zoo.WEIGHTS.name}")
    groups = {variant: [name for name in names if name.endswith(f"-{variant}")] for variant in VARIANTS} | sets
    unknown = [name for name in wanted if not groups.get(name) and name not in names]
    if unknown:
        there = [name for name, members in groups.items() if members] + names
        raise ValueError(f"networks must be among {', '.join(there)}, got {', '.join(unknown)}")
    chosen = {name for one in wanted for name in groups.get(one, [one])} or set(names)
    return tuple(
        NetworkSet(title, tuple(zoo.load(name, device=device) for name in members if name in chosen))
        for title, members in sets.items()
        if chosen & set(members)
    )


def describe_sets(sets: Sequence[NetworkSet]) -> str:
    """Return how often the networks of each set are right, on average, on photos of what they know."""
    parts = []
    for own in sets:
        top1 = fmean(loaded.card.accuracy["top1"] for loaded in own.networks)
        parts.append(f"{len(own.classes)}\N{NO-BREAK SPACE}things: {top1:.0f}\N{NO-BREAK SPACE}%")
    return f"How often their first guess at one of these is right, on average. {', '.join(parts)}."


def build_blocks(sets: tuple[NetworkSet, ...], visits: Visits) -> gr.Blocks:
    """Return the page for these networks, with the opening example finished."""
    examples = list_examples()
    first = sets[0]

    strips = {own.name: draw_strip(examples, {label.wnid for label in own.classes}) for own in sets}

    def choose(event: gr.EventData) -> str:
        return str(examples[chosen_index(event, len(examples))].path)

    def draw_examples(network_set: str) -> str:
        return strips[context.find_set(network_set).name]

    def leave(request: gr.Request) -> None:
        visits.forget(request.session_hash or "")

    blocks: gr.Blocks
    with gr.Blocks(title="PoolScope", analytics_enabled=False, delete_cache=(TIDIED_EVERY_S, LONGEST_KEPT_S)) as blocks:
        gr.HTML(HEADER, apply_default_css=False)
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="side", scale=0, min_width=260):
                photo = PhotoInput(examples[0].path, label="Your photo", elem_id="photo", height=210)
                chosen = gr.Radio(
                    [(one.title, one.name) for one in sets],
                    value=first.name,
                    label="The networks know",
                    info=describe_sets(sets),
                    elem_id="network-set",
                    elem_classes="ps-pills",
                    visible=len(sets) > 1,
                )
                context = Context(sets, chosen, photo, read_photo(examples[0].path), visits, Lock())
                strip = gr.HTML(strips[first.name], js_on_load=CHOOSE, elem_id="examples", apply_default_css=False)
                gr.HTML(PRIVACY, apply_default_css=False)
            with gr.Column(elem_id="tabs"):
                for name, tab in (("Compare", compare), ("Sub-bands", subbands), ("Speed", speed), ("Models", models)):
                    with gr.Tab(name, elem_id=f"tab-{name.lower()}"):
                        tab.build(context)
        chosen.input(
            draw_examples, [chosen], [strip], api_name="draw_examples", api_visibility="private", queue=False
        )
        strip.click(
            choose, None, [photo], api_name="choose", api_visibility="private", queue=False, trigger_mode="multiple"
        )
        blocks.unload(leave)
    return blocks


@contextlib.asynccontextmanager
async def tidying(visits: Visits) -> AsyncIterator[None]:
    """Let go of old visits every now and then, whether or not anybody comes."""

    async def tidy() -> None:
        while True:
            await asyncio.sleep(TIDIED_EVERY_S)
            visits.tidy()

    task = asyncio.create_task(tidy())
    try:
        yield
    finally:
        task.cancel()


def build_page(wanted: Sequence[str], device: str) -> fastapi.FastAPI:
    """Load the networks and return the page as an application.

    Raises:
        ValueError: see `load_networks`.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return mount(load_networks(wanted, device))


def mount(sets: tuple[NetworkSet, ...]) -> fastapi.FastAPI:
    """Return the page for these networks as an application."""
    visits = Visits(longest_s=LONGEST_KEPT_S)
    blocks = build_blocks(sets, visits)
    blocks.queue(max_size=30, default_concurrency_limit=2)
    # Gradio checks that a photo's path is an upload only where this is set; launch() sets it, mounting does not.
    blocks.has_launched = True
    page = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lambda _: tidying(visits))
    page.add_middleware(Streams)
    gr.mount_gradio_app(
        page,
        blocks,
        "/",
        show_error=False,
        max_file_size=MAX_BYTES,
        ssr_mode=False,
        pwa=False,
        run_history=False,
        footer_links=["api"],
        favicon_path=str(ASSETS / "favicon.png"),
        css_paths=ASSETS / "style.css",
        theme=gr.themes.Base(
            primary_hue="indigo",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ).set(  # Base's own shades are a trifle too pale, under white text and for small print
            block_info_text_color="*neutral_600",
            block_info_text_color_dark="*neutral_300",
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_dark="*primary_600",
            button_primary_background_fill_hover_dark="*primary_700",
        ),
    )
    return page
