"""Measure the page as a visitor meets it, on the machine that runs this: ``python -m benchmarks.page``.

The page runs as a process of its own. Every round brings a photo that it has not seen, and its answers are held against
those of the same networks in this process: with a wrong answer nothing is written. README.md beside this file says what
each figure includes.
"""

import json
import platform
import random
import statistics
import tempfile
import time
from base64 import b64decode
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import httpx
import torch
import typer
from PIL import Image, ImageEnhance, ImageOps
from playwright.sync_api import Page
from tqdm import tqdm

from models.answer import answer
from models.command import commit
from tests.ui.dom import upload
from tests.ui.running import Server, chromium, open_page, serving, start
from ui.page import load_networks
from ui.photo import read_photo
from ui.timing import describe_machine

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "assets" / "examples").glob("*.jpg"))
RESULTS = Path(__file__).parent / "results" / "page.json"
COLD_STARTS = 3
FIRST_PLACE, PLACES = "stage2", ("stem", "stage3", "stage4")
TOLERANCE = 1e-3  # between probabilities: another number of threads adds in another order

CLICK_TO_PIXELS = """async place => {
  const maps = () => [...document.querySelectorAll('#cards .ps-map')];
  const before = maps().map(map => map.src);
  const begun = performance.now();
  document.querySelector(`#place input[value="${place}"]`).click();
  while (!maps().every((map, index) => map.src !== before[index])) {
    if (performance.now() - begun > 10000) throw new Error('the maps were not drawn anew within 10 s');
    await new Promise(requestAnimationFrame);
  }
  await Promise.all(maps().map(map => map.decode()));
  await new Promise(requestAnimationFrame);
  return performance.now() - begun;
}"""


class Photos:
    """Photos that differ from all before: examples, mirrored or not, cut and lit at random."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._chance, self._count = folder, random.Random(0), 0

    def new(self) -> Path:
        """Return the file of another photo."""
        chance = self._chance
        with Image.open(EXAMPLES[self._count % len(EXAMPLES)]) as example:
            photo = example.convert("RGB")
        self._count += 1
        photo = ImageOps.mirror(photo) if chance.random() < 0.5 else photo
        left, top, right, bottom = (chance.randrange(1, min(photo.size) // 8) for _ in range(4))
        photo = photo.crop((left, top, photo.width - right, photo.height - bottom))
        photo = ImageEnhance.Brightness(photo).enhance(chance.uniform(0.8, 1.2))
        path = self._folder / f"{self._count}.jpg"
        photo.save(path, quality=92)
        return path


class Caller:
    """Calls the page's handlers over HTTP, as its own front end does."""

    def __init__(self, server: Server, session: str) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=120)
        self._session = session
        events = self._http.get("/config").json()["dependencies"]
        self._numbers = {event["api_name"]: event["id"] for event in events}

    def upload(self, path: Path) -> dict[str, object]:
        """Send a photo and return what stands for it in a call."""
        with path.open("rb") as file:
            sent = self._http.post("/gradio_api/upload", files={"files": (path.name, file, "image/jpeg")})
        return {"path": sent.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, data: list[object]) -> list[object]:
        """Call a handler that answers once."""
        body = {"data": data, "session_hash": self._session}
        answered: list[object] = self._http.post(f"/gradio_api/run/{name}", json=body).raise_for_status().json()["data"]
        return answered

    def stream(self, name: str, data: list[object]) -> list[object]:
        """Call a handler that answers bit by bit; return the first answer when the last has come.

        Raises:
            RuntimeError: if it fails.
        """
        body = {"data": data, "fn_index": self._numbers[name], "session_hash": self._session}
        self._http.post("/gradio_api/queue/join", json=body).raise_for_status()
        first: list[object] | None = None
        with self._http.stream("GET", f"/gradio_api/queue/data?session_hash={self._session}") as events:
            for line in events.iter_lines():
                event = json.loads(line.removeprefix("data: ")) if line else {}
                if event.get("msg") == "process_generating" and first is None:
                    first = event["output"]["data"]
                if event.get("msg") == "process_completed":
                    if not event["success"] or first is None:
                        raise RuntimeError(f"{name} failed: {event['output']}")
                    return first
        raise RuntimeError(f"{name} did not end")


class Truth:
    """The same networks in this process: those of the set with which the page opens."""

    def __init__(self) -> None:
        first = load_networks([], "cpu")[0]
        self.network_set, self._networks = first.name, first.networks

    def check(self, path: Path, numbers: list[dict[str, object]]) -> None:
        """Hold the page's answers against this process's.

        Raises:
            RuntimeError: if they differ.
        """
        photo = read_photo(path).image
        if [entry["variant"] for entry in numbers] != [loaded.network.variant for loaded in self._networks]:
            raise RuntimeError(f"the page shows {[entry['variant'] for entry in numbers]}, not all networks")
        for loaded, entry in zip(self._networks, numbers, strict=True):
            with torch.inference_mode():
                best = answer(loaded.network(loaded.preprocess(photo))[0], loaded.card).top[0]
            shown = float(str(entry["probability"]))
            if abs(best.probability - shown) > TOLERANCE:
                says = f"{best.label}, {best.probability:.4f}"
                raise RuntimeError(f"{loaded.card.name} says {says}; the page {entry['label']}, {shown:.4f}")


def _rounded(times: Sequence[float]) -> dict[str, float]:
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return {
        "median": round(median, 2),
        "lower_quartile": round(lower, 2),
        "upper_quartile": round(upper, 2),
        "rounds": len(times),
    }


def measure_cold_start_s(folder: Path, photo: Path, network_set: str) -> float:
    """Return the seconds from the start of the process to the first comparison answered."""
    begun = time.perf_counter()
    server = start(folder)
    try:
        while not server.is_ready():
            time.sleep(0.05)
        caller = Caller(server, "first")
        caller.stream("run", [caller.upload(photo), network_set, FIRST_PLACE, "share"])
        return time.perf_counter() - begun
    finally:
        server.stop()


def measure_handlers(server: Server, photos: Photos, truth: Truth, rounds: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each comparison and of each redraw that followed it."""
    caller = Caller(server, "handlers")
    compare_ms, redraw_ms = [], []
    for index in tqdm(range(-2, rounds), desc="comparing and redrawing"):  # the first two are not counted
        path = photos.new()
        photo = caller.upload(path)
        begun = time.perf_counter()
        key = caller.stream("run", [photo, truth.network_set, FIRST_PLACE, "share"])[0]
        compared = time.perf_counter()
        caller.call("redraw", [key, PLACES[index % len(PLACES)], "share"])
        redrawn = time.perf_counter()
        saved = str(caller.call("save_numbers", [key, FIRST_PLACE])[0])
        truth.check(path, json.loads(b64decode(saved.partition("base64,")[2]))["networks"])
        if index >= 0:
            compare_ms.append(1000 * (compared - begun))
            redraw_ms.append(1000 * (redrawn - compared))
    return compare_ms, redraw_ms


def measure_clicks(page: Page, photos: Photos, rounds: int) -> list[float]:
    """Return the milliseconds from each choice of another place to the frame in which all its maps are drawn."""
    click_ms = []
    for index in tqdm(range(-1, rounds), desc="clicking"):
        upload(page, photos.new())
        milliseconds: float = page.evaluate(CLICK_TO_PIXELS, PLACES[index % len(PLACES)])
        page.evaluate(CLICK_TO_PIXELS, FIRST_PLACE)
        if index >= 0:
            click_ms.append(milliseconds)
    return click_ms


def main(
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of each measurement; 30 or more count.")] = 30,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS,
) -> None:
    """Measure the page and write the figures as JSON."""
    truth = Truth()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = Photos(folder)
        cold_starts = [
            measure_cold_start_s(folder / f"cold-{index}", photos.new(), truth.network_set)
            for index in tqdm(range(COLD_STARTS), desc="starting cold")
        ]
        with serving(folder / "server") as server:
            compare_ms, redraw_ms = measure_handlers(server, photos, truth, rounds)
            with chromium() as browser:
                click_ms = measure_clicks(open_page(browser, server).page, photos, rounds)
                chromium_version = browser.version
            memory_mib, peak_mib = server.memory_mib(), server.memory_mib("VmHWM")
    machine = describe_machine(torch.device("cpu"))
    figures = {
        "network_set": truth.network_set,
        "compare_ms": _rounded(compare_ms),
        "redraw_handler_ms": _rounded(redraw_ms),
        "redraw_click_to_pixels_ms": _rounded(click_ms),
        "cold_start_s": round(statistics.median(cold_starts), 2),
        "resident_memory_mib": round(memory_mib),
        "peak_memory_mib": round(peak_mib),
        "machine": machine
        | {"gradio": version("gradio"), "python": platform.python_version(), "chromium": chromium_version},
        "commit": commit(),
        "date": date.today().isoformat(),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=1) + "\n")
    typer.echo(output.read_text())


if __name__ == "__main__":
    typer.run(main)
