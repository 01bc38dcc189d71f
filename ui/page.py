"""Put header, photo, examples and tabs together, and mount them as a web application."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from threading import Lock

import fastapi
import gradio as gr
import torch

from models import zoo
from ui import compare, models, speed, subbands
from ui.context import Context
from ui.examples import CHOOSE, draw_strip, list_examples
from ui.photo import MAX_BYTES, PhotoInput, read_photo
from ui.visit import Visits

__all__ = ["build_blocks", "build_page", "load_networks"]

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


def load_networks(wanted: Sequence[str], device: str) -> tuple[zoo.Loaded, ...]:
    """Load the networks that are wanted, by name or variant, in the page's order; all if none is named.

    Raises:
        ValueError: for a name that does not exist, naming those that do, or if there are no weights at all.
    """
    names = zoo.list_weights()
    if not names:
        raise ValueError(f"there are no weights in {zoo.WEIGHTS.parent.name}/{zoo.WEIGHTS.name}")
    variants = {name.rpartition("-")[2]: name for name in names}
    unknown = [name for name in wanted if name not in names and name not in variants]
    if unknown:
        raise ValueError(f"networks must be among {', '.join([*variants, *names])}, got {', '.join(unknown)}")
    chosen = {variants.get(name, name) for name in wanted} or set(names)
    return tuple(zoo.load(name, device=device) for name in names if name in chosen)


def build_blocks(networks: tuple[zoo.Loaded, ...], visits: Visits) -> gr.Blocks:
    """Return the page for these networks, with the opening example finished."""
    examples = list_examples()
    known = {label.wnid for label in networks[0].classes}

    def choose(event: gr.EventData) -> str:
        if not isinstance(event.index, int) or not 0 <= event.index < len(examples):
            raise gr.Error(f"There are {len(examples)} examples.", title="Photo", print_exception=False)
        return str(examples[event.index].path)

    def leave(request: gr.Request) -> None:
        visits.forget(request.session_hash or "")

    blocks: gr.Blocks
    with gr.Blocks(title="PoolScope", analytics_enabled=False, delete_cache=(TIDIED_EVERY_S, LONGEST_KEPT_S)) as blocks:
        gr.HTML(HEADER, apply_default_css=False)
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="side", scale=0, min_width=260):
                photo = PhotoInput(examples[0].path, label="Your photo", elem_id="photo", height=210)
                strip = gr.HTML(
                    draw_strip(examples, known), js_on_load=CHOOSE, elem_id="examples", apply_default_css=False
                )
                gr.HTML(PRIVACY, apply_default_css=False)
            with gr.Column(elem_id="tabs"):
                context = Context(networks, photo, read_photo(examples[0].path), visits, Lock())
                for name, tab in (("Compare", compare), ("Sub-bands", subbands), ("Speed", speed), ("Models", models)):
                    with gr.Tab(name, elem_id=f"tab-{name.lower()}"):
                        tab.build(context)
        strip.click(choose, None, [photo], api_name="choose", api_visibility="private", queue=False)
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
    visits = Visits(longest_s=LONGEST_KEPT_S)
    blocks = build_blocks(load_networks(wanted, device), visits)
    blocks.queue(max_size=30, default_concurrency_limit=2)
    # Gradio checks that a photo's path is an upload only where this is set; launch() sets it, mounting does not.
    blocks.has_launched = True
    page = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lambda _: tidying(visits))
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
        ).set(  # Base's own shade is a trifle too pale for white text
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_dark="*primary_600",
            button_primary_background_fill_hover_dark="*primary_700",
        ),
    )
    return page
