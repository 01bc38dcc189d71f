"""Break each kernel on purpose, one small patch at a time, and expect its tests to go red: ``make mutations``.

A patch that no test notices is a hole in the tests. Each runs in a copy of the library and its tests.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """A patch of one place, and the tests that must notice."""

    what: str
    file: str
    old: str
    new: str
    tests: str


def _weighted(what: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(what, f"poolcore/kernels/{file}.py", old, new, "tests/poolcore/kernels/test_weighted_kernels.py")


def _lift(what: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(what, f"poolcore/kernels/{file}.py", old, new, "tests/poolcore/kernels/test_lift_kernels.py")


MUTATIONS = (
    _weighted(
        "pixels beyond the input weigh something",
        "weighted_window",
        'weight = tl.where(exists, weight, float("-inf"))',
        "weight = tl.where(exists, weight, 0.0)",
    ),
    _weighted("pixels left of the input are read", "weighted_window", "& (w >= 0)", ""),
    _weighted("pixels above the input are read", "weighted_window", "& (h >= 0)", ""),
    _weighted("pixels below the input are read", "weighted_window", "& (h < H)", ""),
    _weighted("slices behind the input are read", "weighted_window", "(d < D) & ", ""),
    _weighted(
        "the window's maximum is not subtracted", "weighted_window", "tl.exp2((level - top) *", "tl.exp2(level *"
    ),
    _weighted("no room above the largest pixels", "weighted_window", " - SCALE)", ")"),
    _weighted(
        "rows of a window are taken for columns", "weighted_window", "cell // KERNEL[2] % KERNEL[1]", "cell % KERNEL[1]"
    ),
    _weighted("slices are strided as rows are", "weighted_window", "d * stride_d", "d * stride_h"),
    _weighted("channels share their offsets", "weighted_window", "c * stride_c", "0 * stride_c"),
    _weighted("offsets in 32 bits", "weighted_window", "n.to(tl.int64), c.to(tl.int64)", "n, c.to(tl.int64)"),
    _weighted(
        "the last tile writes on", "weighted_window", "(outer < rows) & (inner < inner_size)", "inner < inner_size"
    ),
    _weighted(
        "the last columns are not cut off", "weighted_window", "(outer < rows) & (inner < inner_size)", "outer < rows"
    ),
    _weighted("the window ignores its padding", "weighted_forward", "w * STRIDE[2] - PADDING[2]", "w * STRIDE[2]"),
    _weighted("rows step as columns do", "weighted_forward", "h * STRIDE[1]", "h * STRIDE[2]"),
    _weighted("a window is not whole, but taken for it", "weighted", "CHECKED=not geometry.is_whole", "CHECKED=False"),
    _weighted(
        "the second term of SoftPool's gradient is dropped",
        "weighted_backward",
        "both = sent + sent_apart",
        "both = sent",
    ),
    _weighted("the logit's gradient is halved", "weighted_backward", "sent_apart * 2.0),)", "sent_apart),)"),
    _weighted(
        "a window beyond the last sends gradients",
        "weighted_backward",
        "sent += tl.where(is_read, flow, 0.0)\n                sent_apart += tl.where(is_read, flow * (value * 0.5 - h",
        "sent += flow\n                sent_apart += tl.where(is_read, flow * (value * 0.5 - h",
    ),
    _weighted(
        "windows of the row before are not handed on",
        "weighted_backward",
        "kept += (windows[j],)",
        "kept += (earlier[j],)",
    ),
    _weighted(
        "a program begins with the row before",
        "weighted_backward",
        "(d, h * STEPS, w), size",
        "(d, h * STEPS - 1, w), size",
    ),
    _weighted("one window too few is asked", "weighted", "tuple(-(-k // s) for", "tuple(k // s for"),
    _weighted("the last pixels get no gradient", "weighted", "(n - 1 + p) // s + 1", "(n - 1 + p) // s"),
    _weighted(
        "a window sends to pixels that it does not read",
        "weighted_backward",
        "is_read &= step_w + back_w * STRIDE[2] < KERNEL[2]",
        "is_read &= step_w + back_w * STRIDE[2] < KERNEL[2] + 1",
    ),
    _weighted(
        "means of other windows are read back", "weighted_backward", "sums[0][2] + summed", "sums[0][2] + summed * 0"
    ),
    _lift(
        "U is applied to the odd pixels, not the detail", "lift_pair", "b_new = b - guess(", "b_new = b - 0 * guess("
    ),
    _lift(
        "an end is not repeated before the axis",
        "lift_pair",
        "place <= 0, value, window[t]",
        "place < 0, value, window[t]",
    ),
    _lift(
        "an end is not repeated behind the axis",
        "lift_pair",
        "place < length, value, window[SIZE",
        "place <= length, value, window[SIZE",
    ),
    _lift(
        "zeros beyond an end are values", "lift_pair", "(place >= 0) & (place < length), value", "place < length, value"
    ),
    _lift(
        "NaN passes for zero in the rectifier", "lift_pair", "tl.where(z <= 0, 0.0, z) +", "tl.where(z > 0, z, 0.0) +"
    ),
    _lift(
        "the rectifier's gradient is 1",
        "lift_pair",
        "tl.where(z <= 0, 0.0, at_shift * numbers[K + 1])",
        "at_shift * numbers[K + 1]",
    ),
    _lift("tanh's gradient is 1", "lift_pair", "grad * (1 - y * y)", "grad"),
    _lift(
        "LH and HL change places", "lift_forward", "lh, hl, hh = low_b[REACH], high", "hl, lh, hh = low_b[REACH], high"
    ),
    _lift("the last row is read twice as far", "lift_forward", "tl.minimum(2 * odd_at + 1, H - 1)", "2 * odd_at + 1"),
    _lift("the first segment alone is right", "lift_forward", "done = at - 2 * REACH", "done = step - 4 * REACH"),
    _lift("the mean is the sum", "lift_forward", "total = total / 4", "total = total / 1"),
    _lift(
        "an odd axis has no last pixel",
        "lift",
        "length - 1 if size % 2 else -1,\n                SYNTHESIS",
        "-1,\n                SYNTHESIS",
    ),
    _lift("what was sent before the axis is lost", "lift_backward", "tl.where(place < 0, sums[0], 0.0)", "0.0"),
    _lift(
        "what was sent behind the axis is lost", "lift_backward", "tl.where(place == length - 1, sums[t], 0.0)", "0.0"
    ),
    _lift(
        "warm-up steps count for the filters",
        "lift_backward",
        "& (m >= begin) & (m < begin + SEGMENT), LEARNED",
        ", LEARNED",
    ),
    _lift(
        "the pixel taken twice gets one gradient",
        "lift_backward",
        "at_m & (m == lone), grad_of_b",
        "at_m & (m == -2), grad_of_b",
    ),
    _lift("a mean's gradient is a sum's", "lift", '1 / count if combine == "mean" else 1.0', "1.0"),
    _lift("P's gradients go to U", "lift", "total.roll(numbers // 2, 0) if synthesis", "total if synthesis"),
)


def is_noticed(mutation: Mutation) -> bool:
    """Return whether the tests fail with this patch.

    Raises:
        ValueError: if the place that it patches is not there, or not once.
    """
    source = (ROOT / mutation.file).read_text()
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file} must hold {mutation.old!r} once, found {source.count(mutation.old)}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("poolcore", "tests", "pyproject.toml"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        (copy / mutation.file).write_text(source.replace(mutation.old, mutation.new))
        command = [sys.executable, "-W", "ignore", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", mutation.tests]
        run = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if run.returncode > 1:
        raise RuntimeError(f"pytest could not run under the mutation {mutation.what!r}:\n{run.stdout[-2000:]}")
    return run.returncode != 0  # below 0 where reading or writing outside brought the process down


def main(
    only: Annotated[str, typer.Option(help="run those alone whose description or file has this text")] = "",
) -> None:
    """Apply each mutation by itself and list those that no test noticed."""
    chosen = [m for m in MUTATIONS if only in m.what or only in m.file]
    unnoticed = []
    for mutation in chosen:
        noticed = is_noticed(mutation)
        print(f"{'red' if noticed else 'GREEN'}  {mutation.file}: {mutation.what}", flush=True)  # noqa: T201 - a report
        if not noticed:
            unnoticed.append(mutation.what)
    if unnoticed:
        raise SystemExit(f"{len(unnoticed)} of {len(chosen)} mutations went unnoticed: {', '.join(unnoticed)}")


if __name__ == "__main__":
    typer.run(main)
