"""One running page and one Chromium for all tests of the page, and photos that no example is."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser

from tests.ui.by_hand import PHOTO_SIDE, ROOT
from tests.ui.running import Server, Visitor, chromium, open_page, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page in a process of its own; at its end it has failed at nothing and has asked nobody outside."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running
        assert "Traceback" not in running.log, running.log
        assert running.outside_addresses == set()
    assert list((running.folder / "temporary").glob("poolscope-*")) == [], "uploads outlive the page"


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another page, for calls that no visitor's browser makes: its log may tell of them."""
    with serving(tmp_path_factory.mktemp("attacked")) as running:
        yield running
        assert running.outside_addresses == set()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Open the page, once or more; at the end no console has shown an error and no page has asked anybody else."""
    visitors: list[Visitor] = []

    def open_one(width: int = 1280, height: int = 800, *, dark: bool = False, touch: bool = False) -> Visitor:
        visitors.append(open_page(browser, server, width, height, dark=dark, touch=touch))
        return visitors[-1]

    yield open_one
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        assert visitor.errors == []
        assert visitor.outside == set()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the page go: a temporary folder, or the README's if POOLSCOPE_SCREENSHOTS=1."""
    if os.environ.get("POOLSCOPE_SCREENSHOTS") == "1":
        return ROOT / "assets" / "screenshots"
    return tmp_path_factory.mktemp("screenshots")


class Photos:
    """Photos made of the examples, mirrored and cut, so that no two and no example are the same; see `by_hand.look`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def small(self, example: str, cut: int = 0) -> Image.Image:
        """Return a photo that the networks see without resizing.

        Args:
            cut: pixels taken off each side first; another number gives another photo.
        """
        with Image.open(ROOT / "assets" / "examples" / f"{example}.jpg") as image:
            mirrored = ImageOps.mirror(ImageOps.crop(image.convert("RGB"), cut))
        return ImageOps.fit(mirrored, (PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)

    def path(self, example: str, cut: int = 0) -> Path:
        """Return the file of a small photo."""
        path = self.folder / f"{example}-{cut}.png"
        self.small(example, cut).save(path)
        return path


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    return Photos(tmp_path)
