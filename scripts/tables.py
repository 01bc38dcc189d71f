"""Write the README's tables from the cards in models/weights and the measurements in benchmarks/results.

``python -m scripts.tables`` rewrites README.md; with ``--check`` it only says, by its exit status, whether it would.
A table stands between ``<!-- NAME: made by scripts/tables.py -->`` and ``<!-- end of NAME -->``.
"""

import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("stock", "max", "avg", "soft", "lip", "lift")
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


def accuracy() -> str:
    """Return the table of the networks: accuracy, size and work of each card."""
    cards = [json.loads(path.read_text()) for path in (ROOT / "models" / "weights").glob("*.json")]
    cards.sort(key=lambda card: VARIANTS.index(card["variant"]))
    rows = []
    for card in cards:
        seen = card["accuracy"]
        rows.append(
            [
                f"`{card['variant']}`",
                WINDOWS[card["variant"]],
                f"{seen['top1']:.1f} %",
                f"{seen['top5']:.1f} %",
                f"{seen['calibration_error']:.1f} %",
                f"{card['parameters'] / 1e6:.2f} M",
                f"{card['macs'] / 1e6:.0f} M",
                f"{card['rejection']['known_kept']:.0f} % / {card['rejection']['unknown_rejected']:.0f} %",
            ]
        )
    header = ["variant", "how it shrinks its maps", "top-1", "top-5", "calibration error", "parameters", "MACs"]
    table = _rows([*header, "known kept / unknown rejected"], rows, "llrrrrrr")
    images = sorted({card["accuracy"]["images"] for card in cards})
    error = max(_standard_error(card["accuracy"]) for card in cards)
    return (
        f"{table}\n\nTop-1 is over {' or '.join(map(str, images))} photos, so its standard error is up to {error:.1f} "
        "points: with one seed, smaller differences than twice that may be chance."
    )


def _standard_error(accuracy: dict[str, float]) -> float:
    return math.sqrt(accuracy["top1"] * (100 - accuracy["top1"]) / accuracy["images"])


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
    return f"{text}\n\nMeasured on {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}."


def _spread(times: dict[str, float]) -> str:
    return f"{times['median']:.0f} ms ({times['lower_quartile']:.0f} to {times['upper_quartile']:.0f})"


def filled(text: str) -> str:
    """Return a README with every table made anew."""
    for name, table in (("accuracy", accuracy), ("page", page)):
        begin, end = f"<!-- {name}: made by scripts/tables.py -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"README.md must hold the table {name!r} exactly once")
        section = f"{begin}\n{table()}\n{end}"
        text = pattern.sub(section.replace("\\", "\\\\"), text)
    return text


def main() -> int:
    """Rewrite README.md, or with --check compare."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    new = filled(text)
    if "--check" in sys.argv[1:]:
        return int(new != text)
    readme.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
