"""Write the READMEs' tables and plots from the cards in models/weights and the measurements in benchmarks/results.

``python -m scripts.tables`` rewrites README.md, benchmarks/README.md and assets/plots; with ``--check`` it only says,
by its exit status, whether it would. A table stands between ``<!-- NAME: made by scripts/tables.py -->`` and
``<!-- end of NAME -->``.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.roofline import OPERATIONS, Direction, weighted_work
from models.seeds import SeedRuns, read_seed_runs
from models.zoo import Card, list_sets, read_card
from poolcore.window import make_window
from ui.findings import CLAIMS, SEED_RUNS, describe_chance, describe_seeds, hold_claims
from ui.plots import plot_accuracy, plot_corruptions

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = {
    "stock": "max 3/2/1 at the stem, then strided convolutions",
    "max": "max 3/2/1",
    "avg": "average 2/2/0",
    "soft": "SoftPool 2/2/0",
    "lip": "LIP 3/2/1, learned logits",
    "lift": "LiftPool, K = 5, mean of bands",
}


def _rows(header: list[str], rows: list[list[str]], align: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _sets() -> dict[str, list[Card]]:
    """Return the cards of each set of networks."""
    return {name: [read_card(member) for member in members] for name, members in list_sets().items()}


def accuracy() -> str:
    """Return, for each set of networks, the table of their accuracy, robustness, size and work."""
    return "\n\n".join(_accuracy(cards) for cards in _sets().values())


def _accuracy(cards: Sequence[Card]) -> str:
    columns: dict[str, Callable[[Card], str]] = {
        "variant": lambda card: f"`{card.variant}`",
        "how it shrinks its maps": lambda card: WINDOWS[card.variant],
        "top-1": lambda card: f"{card.accuracy['top1']:.1f} %",
        "top-5": lambda card: f"{card.accuracy['top5']:.1f} %",
        "calibration error": lambda card: f"{card.accuracy['calibration_error']:.1f} %",
        "same after a shift: crops / circular": lambda card: (
            "" if card.shifts is None else f"{card.shifts['crops']:.1f} % / {card.shifts['circular']:.1f} %"
        ),
        "wrong if corrupted (mCE)": lambda card: (
            "" if card.corruptions is None else f"{card.corruptions['mean_error']:.1f} %{_mce(card.corruptions['mce'])}"
        ),
        "parameters": lambda card: f"{card.parameters / 1e6:.2f} M",
        "MACs": lambda card: f"{card.macs / 1e6:.0f} M",
        "known kept / unknown rejected": lambda card: (
            f"{card.rejection['known_kept']:.0f} % / {card.rejection['unknown_rejected']:.0f} %"
        ),
    }
    if all(card.shifts is None for card in cards):
        del columns["same after a shift: crops / circular"]
    if all(card.corruptions is None for card in cards):
        del columns["wrong if corrupted (mCE)"]
    rows = [[cell(card) for cell in columns.values()] for card in cards]
    first = cards[0]
    return (
        f"**{first.knowledge}**: ResNet-{first.depth}, {first.width} channels at the stem, {first.input_size} px, "
        f"{first.epochs} epochs on {first.data['train_images']} photos, seed {first.seed}.\n\n"
        f"{_rows(list(columns), rows, 'll' + 'r' * (len(columns) - 2))}\n\n"
        f"Over {first.accuracy['images']} validation photos. {describe_chance(cards)}"
    )


def _mce(mce: float | None) -> str:
    return "" if mce is None else f" ({mce:.3f})"


def findings() -> str:
    """Return what the papers claim, and for each set its plots and how the claims fare."""
    parts = [CLAIMS]
    for name, cards in _sets().items():
        for plot, svg in _plots(cards).items():
            words = svg.partition('<title id="title">')[2].partition("</title>")[0]
            parts.append(f"![{words}](assets/plots/{name}-{plot}.svg)")
        parts.append(hold_claims(cards))
    return "\n\n".join(part for part in parts if part)


def seeds() -> str:
    """Return tables of the same trainings from several seeds, and which differences are more than the seeds'."""
    runs = read_seed_runs(SEED_RUNS)
    return "\n\n".join(map(_seeds, runs)) or "Not measured yet: `python -m models.seeds` gathers it."


def _seeds(seen: SeedRuns) -> str:
    rows = [
        [f"`{variant}`", *(f"{one:.1f} %" for one in top1), f"{statistics.fmean(top1):.1f} %", f"{deviation:.1f}"]
        for variant, top1 in seen["top1"].items()
        for deviation in [statistics.stdev(top1)]
    ]
    header = ["variant", *(f"seed {seed}" for seed in seen["seeds"]), "mean", "standard deviation"]
    return f"{_rows(header, rows, 'l' + 'r' * (len(header) - 1))}\n\n{describe_seeds(seen)}"


def _plots(cards: Sequence[Card]) -> dict[str, str]:
    """Return a set's plots as SVG, by name."""
    plots = {"accuracy": plot_accuracy(cards), "corruptions": plot_corruptions(cards)}
    return {plot: svg for plot, svg in plots.items() if svg}


def plot_files() -> dict[str, str]:
    """Return what stands in each drawing of ``assets/plots``, by its path."""
    return {
        f"assets/plots/{name}-{plot}.svg": svg for name, cards in _sets().items() for plot, svg in _plots(cards).items()
    }


def framing() -> str:
    """Return the table of the ways to bring a photo to a square."""
    seen = _results("framing")
    if seen is None:
        return "Not measured yet: `python -m benchmarks.framing` does."
    things = {row["framing"]: row for row in seen["pooled_without_scenes"]}
    rows = [[row["framing"], *_framed(row), *_framed(things[row["framing"]])] for row in seen["pooled"]]
    count, fewer = seen["pooled"][0]["photos"], seen["pooled_without_scenes"][0]["photos"]
    header = ["framing", f"top-1, {count} photos", "gain", f"top-1, {fewer} without land and sea", "gain"]
    return f"{_rows(header, rows, 'lrrrr')}\n\nMeans over the six networks of {seen['set']}, commit {seen['commit']}."


def strangers() -> str:
    """Return the table of how each set does with photos of anything."""
    seen = _results("strangers")
    if seen is None:
        return "Not measured yet: `python -m benchmarks.strangers` does."
    shares = ("top1", "top5", "named_right", "named_wrong")
    rows = [[row["knowledge"], f"{row['taught']}", *(f"{row[name]:.1f} %" for name in shares)] for row in seen["rows"]]
    header = ["networks", "photos of what they know", "top-1", "top-5", "named rightly", "named wrongly"]
    table = _rows(header, rows, "lrrrrr")
    return f"{table}\n\nMeans over each set's six networks, of all {seen['photos']} photos; commit {seen['commit']}."


def _framed(row: dict[str, float]) -> tuple[str, str]:
    gain = f"{row['gain']:+.2f} ± {row['gain_standard_error']:.2f}" if row["gain"] else ""
    return f"{row['top1']:.1f} %", gain


def networks() -> str:
    """Return the table of what one photo costs each network on a processor."""
    seen = _results("networks")
    if seen is None:
        return "Not measured yet: `python -m benchmarks.networks` does."
    rows = [
        [row["knowledge"], f"`{row['variant']}`", _milliseconds(row["time_ms"]), _milliseconds(row["pooling_ms"])]
        for row in seen["rows"]
    ]
    machine = seen["machine"]
    where = f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}"
    table = _rows(["networks", "variant", "one photo", "of which in pooling"], rows, "llrr")
    return f"{table}\n\nMedians (quartiles) of {seen['rounds']} interleaved rounds on {where}."


def _milliseconds(times: dict[str, float]) -> str:
    return f"{times['median']:.1f} ms ({times['lower']:.1f} to {times['upper']:.1f})"


def page() -> str:
    """Return the table of the page's speed."""
    seen = json.loads((ROOT / "benchmarks" / "results" / "page.json").read_text())
    compare, redraw, click = seen["compare_ms"], seen["redraw_handler_ms"], seen["redraw_click_to_pixels_ms"]
    rows = [
        ["one comparison, all six networks, a new photo each round", _spread(compare)],
        ["another place: the server's part", _spread(redraw)],
        ["another place: click to pixels", _spread(click)],
        ["start of the process to its first answer", f"{seen['cold_start_s']:.1f} s"],
        ["resident memory after the rounds", f"{seen['resident_memory_mib'] / 1024:.2f} GiB"],
    ]
    machine = seen["machine"]
    text = _rows(["what", "median (quartiles)"], rows, "lr")
    where = f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"
    return f"{text}\n\nMeasured with {seen['network_set']} on {where}, commit {seen['commit']}."


def _spread(times: dict[str, float]) -> str:
    return f"{times['median']:.0f} ms ({times['lower_quartile']:.0f} to {times['upper_quartile']:.0f})"


NOT_MEASURED = "Not measured yet: no GPU was at hand."
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


def _results(name: str) -> Any:
    """Return what a benchmark wrote, None if it has not been run."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def roofline() -> str:
    """Return the table of what each operation needs at least for one output, in bf16."""
    rows = []
    for name, work_of in OPERATIONS.items():
        size = {"soft_pool1d 2/2/0": (1024,), "soft_pool3d 2/2/0": (64, 64, 64)}.get(name, (1024, 1024))
        for direction in DIRECTIONS:
            work = work_of(direction, (1, 1, *size), 2)
            rows.append([f"`{name}`", direction, *_needs(work)])
            if direction == "backward" and name.endswith("3/2/1"):
                window = make_window(3, 2, 1)
                shape = (1, 1, *size)
                work = weighted_work(direction, shape, 2, window=window, has_logit=name.startswith("lip"), gathers=True)
                rows.append([f"`{name}`", "backward, gathered", *_needs(work)])
    header = ["operation", "direction", "bytes", "fp32", "special", "loads, stores", "break-even, bytes a clock"]
    return _rows(header, rows, "llrrrrr")


def _needs(work: Any) -> list[str]:
    counts = (work.moved_bytes, work.fp32, work.special, work.access)
    return [*(f"{count / work.outputs:.1f}" for count in counts), f"{work.break_even:.1f}"]


def gpu_ops() -> str:
    """Return the table of the poolings on a GPU."""
    seen = _results("gpu_ops")
    if seen is None:
        return NOT_MEASURED
    rows = []
    for row in seen["rows"]:
        named = [f"`{row['op']}`", row["direction"], "x".join(map(str, row["shape"])), row["dtype"], row["layout"]]
        if "error" in row:
            rows.append([*named, row["error"], *[""] * 7])
            continue
        times = [row[f"{name}_ms"] for name in ("floor", "eager", "compile", "native_avg", "native_max")]
        cells = [_ms(row["ms"]), *map(_ms, times), f"{row['ratio_to_floor']:.2f}"]
        rows.append([*named, *cells, "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f} MiB"])
    header = ["operation", "direction", "shape", "dtype", "layout", "ms", "floor", "eager", "compiled"]
    table = _rows([*header, "average", "max", "over floor", "memory"], rows, "lllllrrrrrrrr")
    return f"{table}\n\n{_device(seen)}, copies {seen['copy_gb_s']:.0f} GB/s."


def gpu_networks() -> str:
    """Return the table of the networks on a GPU."""
    seen = _results("gpu_networks")
    if seen is None:
        return NOT_MEASURED
    rows = []
    for row in seen["rows"]:
        named = [f"ResNet-{row['depth']}", str(row["batch"]), row["mode"], row["how"], f"`{row['variant']}`"]
        if "error" in row:
            rows.append([*named, row.get("by", ""), row["error"], "", ""])
            continue
        over = "" if row["over_avg"] is None else f"{100 * (row['over_avg'] - 1):+.1f} %"
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f} MiB"
        rows.append([*named, row["by"], _ms(row["ms"]), over, peak])
    header = ["network", "batch", "mode", "how", "variant", "pooled by", "ms", "over `avg`", "memory"]
    left_out = f" Left out: {'; '.join(seen['left_out'])}." if seen["left_out"] else ""
    return f"{_rows(header, rows, 'lrllllrrr')}\n\n{_device(seen)}.{left_out}"


def kernels() -> str:
    """Return the table of the compiled kernels: the most that each takes on each capability."""
    seen = _results("kernels")
    if seen is None:
        return "Not compiled yet: `make kernels` does."
    compiled = [dict(zip(seen["fields"], row, strict=True)) for row in seen["kernels"]]
    rows = []
    for capability in sorted({kernel["capability"] for kernel in compiled}):
        for name in sorted({kernel["kernel"] for kernel in compiled}):
            some = [k for k in compiled if (k["capability"], k["kernel"]) == (capability, name)]
            if some:
                most = [str(max(kernel[field] for kernel in some)) for field in ("registers", "shared", "local")]
                seconds = statistics.median(kernel["seconds"] for kernel in some)
                rows.append([f"{capability / 10:.1f}", f"`{name}`", str(len(some)), *most, f"{seconds:.1f} s"])
    header = ["capability", "kernel", "compiled", "registers", "shared, bytes", "local, bytes", "median time"]
    return f"{_rows(header, rows, 'rlrrrrr')}\n\nTriton {seen['triton']}, torch {seen['torch']}."


def dispatch() -> str:
    """Return the table of what a call costs by the way an operator is registered."""
    seen = _results("dispatch")
    if seen is None:
        return "Not measured yet: `python -m benchmarks.dispatch` does."
    modes = list(next(iter(seen["microseconds"].values())))
    rows = [[name, *(f"{row[mode]['median']:.1f}" for mode in modes)] for name, row in seen["microseconds"].items()]
    machine = seen["machine"]
    table = _rows(["operator", *modes], rows, "l" + "r" * len(modes))
    where = f"{seen['rounds']} rounds on {machine['processor']}, torch {machine['torch']}"
    return f"{table}\n\nMedians in microseconds a call, {where}."


def _ms(time_ms: float | None) -> str:
    return "" if time_ms is None else f"{time_ms:.3g}"


def _device(seen: Mapping[str, Any]) -> str:
    return f"Medians on {seen['device']}, driver {seen['driver']}, torch {seen['torch']}, commit {seen['commit']}"


Tables = Mapping[str, Callable[[], str]]
README: Tables = {"accuracy": accuracy, "findings": findings, "seeds": seeds, "networks": networks, "page": page}
BENCHMARKS: Tables = {
    "strangers": strangers,
    "framing": framing,
    "roofline": roofline,
    "gpu_ops": gpu_ops,
    "gpu_networks": gpu_networks,
    "dispatch": dispatch,
    "kernels": kernels,
}
FILES: Mapping[str, Tables] = {"README.md": README, "benchmarks/README.md": BENCHMARKS}


def filled(text: str, tables: Tables = README) -> str:
    """Return a README with every table made anew."""
    for name, table in tables.items():
        begin, end = f"<!-- {name}: made by scripts/tables.py -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the text must hold the table {name!r} exactly once")
        section = f"{begin}\n{table()}\n{end}"
        text = pattern.sub(section.replace("\\", "\\\\"), text)
    return text


def main() -> int:
    """Rewrite the READMEs, or with --check compare."""
    texts = {name: (ROOT / name).read_text() for name in FILES}
    new = {name: filled(text, FILES[name]) for name, text in texts.items()}
    plots = plot_files()
    if "--check" in sys.argv[1:]:
        return int(new != texts or any((ROOT / name).read_text() != svg for name, svg in plots.items()))
    for name, text in (new | plots).items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
