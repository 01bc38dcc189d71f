"""Put header, photo, examples and tabs together, and mount them as a web application."""

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import fastapi
import gradio as gr
import torch

from models import zoo
from ui import compare, models, speed, subbands
from ui.context import Context
from ui.examples import list_examples
from ui.photo import PhotoInput
from ui.visit import Visits

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build_blocks", "build_page", "load_networks"]

ASSETS = Path(__file__).parents[1] / "assets"
UPLOAD_LIMIT = "20mb"
LONGEST_KEPT_S = 3600

HEADER = """
<header class="ps-header">
  <h1>PoolScope</h1>
  <p>Six ResNets that differ <strong>only in how they pool</strong> look at one photo.
  See what each says, and which pixels each keeps.</p>
</header>
"""
PRIVACY = """<p class="ps-note">Your photo stays on this server for at most an hour and is seen by nobody else.</p>"""


def load_networks(wanted: "Sequence[str]", device: str) -> tuple[zoo.Loaded, ...]:
    """Load the networks that are wanted, by name or variant, in the page's order; all if none is named.

    Raises:
        ValueError: for a name that does not exist, naming those that do.
    """
    names = zoo.list_weights()
    variants = {name.rpartition("-")[2]: name for name in names}
    unknown = [name for name in wanted if name not in names and name not in variants]
    if unknown:
        raise ValueError(f"networks must be among {', '.join([*variants, *names])}, got {', '.join(unknown)}")
    chosen = {variants.get(name, name) for name in wanted} or set(names)
    return tuple(zoo.load(name, device=device) for name in names if name in chosen)


def build_blocks(networks: tuple[zoo.Loaded, ...]) -> gr.Blocks:
    """Return the page's Blocks for these networks, with the opening example finished."""
    examples = list_examples()
    with gr.Blocks(title="PoolScope", analytics_enabled=False, delete_cache=(600, LONGEST_KEPT_S)) as blocks:
        gr.HTML(HEADER)
        with gr.Row(elem_id="ps-main"):
            with gr.Column(elem_id="ps-side", scale=0, min_width=280):
                photo = PhotoInput(value=examples[0].path, label="Photo", elem_id="photo", height=220)
                gr.HTML(PRIVACY)
            with gr.Column(elem_id="ps-tabs"):
                context = Context(networks, photo, Visits(longest_s=LONGEST_KEPT_S), Lock())
                for name, tab in (("Compare", compare), ("Sub-bands", subbands), ("Speed", speed), ("Models", models)):
                    with gr.Tab(name, elem_id=f"tab-{name.lower()}"):
                        tab.build(context)
        blocks.unload(context.visits.forget)
    return blocks


def build_page(wanted: "Sequence[str]", device: str) -> fastapi.FastAPI:
    """Load the networks and return the page as an application.

    Raises:
        ValueError: see `load_networks`.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    blocks = build_blocks(load_networks(wanted, device))
    blocks.queue(max_size=30, default_concurrency_limit=2)
    # Gradio checks that a photo's path is an upload only where this is set; launch() sets it, mounting does not.
    blocks.has_launched = True
    page = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    return gr.mount_gradio_app(
        page,
        blocks,
        "/",
        show_error=False,
        max_file_size=UPLOAD_LIMIT,
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
        ),
    )
