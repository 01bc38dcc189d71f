"""The GPU's benchmarks run through on a processor, small: what they would write is there, and none of it is kept."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

pytest.importorskip("triton")

from benchmarks.cases import make_case
from benchmarks.gpu_ops import RESULTS, check_options
from benchmarks.roofline import OPERATIONS
from benchmarks.rounds import median_ratio, run_rounds, spread
from benchmarks.tune import Asked, Call, as_json, tune
from poolcore.kernels import lift
from poolcore.kernels.blocks import check_row

ROOT = Path(__file__).resolve().parents[2]
ROW = {"op", "direction", "shape", "dtype", "layout", "ms", "bytes_min", "floor_ms", "ratio_to_floor", "eager_ms"}
ROW |= {"compile_ms", "native_avg_ms", "native_max_ms", "peak_mib", "quartiles", "rounds", "errors"}
RUN = {"device", "torch", "triton", "commit", "date", "copy_gb_s", "backend", "left_out"}


def run(module: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", module, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_operations_are_timed_in_rows(tmp_path):
    file = tmp_path / "ops.json"
    ended = run("benchmarks.gpu_ops", "--device", "cpu", "--toy", "--budget-s", "250", "--output", str(file))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(file.read_text())
    assert report.keys() >= RUN
    assert report["left_out"] == []
    assert {(row["op"], row["direction"]) for row in report["rows"]} == {
        (name, direction) for name in OPERATIONS for direction in ("forward", "backward")
    }
    for row in report["rows"]:
        assert row.keys() >= ROW, row
        assert row["errors"] == {}
        assert row["ms"] > 0
        assert row["compile_ms"] > 0
    assert any("host_us" in row for row in report["rows"])


@pytest.mark.long
def test_networks_are_timed_in_rows(tmp_path):
    file = tmp_path / "networks.json"
    options = ("--device", "cpu", "--toy", "--output", str(file))
    ended = run("benchmarks.gpu_networks", *options)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(file.read_text())
    assert report["left_out"] == []
    eager = [row for row in report["rows"] if row["how"] == "eager"]
    served = {(row["variant"], row["by"]) for row in eager}
    assert served == {(variant, "native") for variant in ("stock", "max", "avg")} | {
        (variant, by) for variant in ("soft", "lip", "lift") for by in ("kernels", "reference")
    }
    assert all(row["ms"] > 0 and row["over_avg"] > 0 for row in eager)
    compiled = {row["variant"] for row in report["rows"] if row["how"] == "compile" and "ms" in row}
    assert compiled >= {"avg", "soft", "lip"}

    assert run("benchmarks.gpu_networks", *options, "--resume").returncode == 0
    assert json.loads(file.read_text())["rows"] == report["rows"]


@pytest.mark.long
def test_tuning_runs_through_and_writes_a_row_for_each_kernel(tmp_path):
    file = tmp_path / "blocks.json"
    ended = run("benchmarks.tune", "--toy", "--rounds", "1", "--output", str(file))
    assert ended.returncode == 0, ended.stderr
    table = json.loads(file.read_text())
    assert file.read_text().splitlines()[1] == ' "made by python -m benchmarks.tune": {},'
    rows = table["interpreter"]
    # Between two kernels LiftPool's halves lie in the precision that is computed in.
    halved = {"lift_pair_w1-float32", "lift_backward_w1-float32", "lift_backward_h1-float32"}
    lifting = {f"lift_{kernel}1-bfloat16" for kernel in ("image", "pair_w", "pair_h", "backward_w", "backward_h")}
    names = {"forward4-bfloat16", "backward4-bfloat16"} | lifting | halved
    assert rows.keys() == {f"{name}-{layout}" for name in names for layout in ("nhwc", "nchw")}
    for name, row in rows.items():
        assert len(row) == (4 if name.startswith(("lift_image", "lift_backward")) else 3), name

    # What has a row is left as it is, and what lacks one waits for a run that has time.
    missing = "lift_image1-bfloat16-nchw"
    kept = {name: [2, 2, 2] for name in rows if name != missing}
    file.write_text(json.dumps({"interpreter": kept}))
    spent = run("benchmarks.tune", "--toy", "--rounds", "1", "--budget-s", "0", "--output", str(file))
    assert missing in spent.stdout
    assert json.loads(file.read_text()) == {"interpreter": kept}
    assert run("benchmarks.tune", "--toy", "--rounds", "1", "--output", str(file)).returncode == 0
    again = json.loads(file.read_text())["interpreter"]
    assert again.keys() == rows.keys()
    assert again == kept | {missing: again[missing]}


@pytest.mark.parametrize("plain", [(128, 64, 4), (128, 64, 4, 64)], ids=str)
def test_the_fastest_candidate_is_found(plain):
    best = (256, 32, 8, 32)[: len(plain)]
    ran = []

    def call():
        ran.append(lift.choose_block("lift_x", torch.empty(1, 2, 4), plain, lambda row: row))

    def clock(run):
        run()
        return 1.0 + (ran[-1] != best)

    asked = Asked("lift_x-float32-nchw", plain, lambda row: row)
    assert tune([Call(asked, call)], clock, 3) == best
    assert tune([Call(asked, call)], lambda run: run() or 1.0, 1) == plain  # which comes first among equals


@pytest.mark.parametrize("kernel", ["forward4-float32-nchw", "lift_pair_w5-float32-nhwc", "lift_image5-float32-nhwc"])
def test_candidates_are_allowed_rows_of_different_tiles_the_plain_one_first(kernel):
    plain = (1024, 128, 4) if kernel.startswith("forward") else (128, 64, 4, 64)[: 4 if "image" in kernel else 3]
    candidates = Asked(kernel, plain, lambda row: row).candidates
    assert candidates[0] == plain
    assert len(candidates) == len(set(candidates)) > 5
    assert all(check_row(kernel, row, plain) == row for row in candidates)
    short = Asked(kernel, plain, lambda row: row[::2]).candidates  # a tile that heeds no second or fourth number
    assert len({row[::2] for row in short}) == len(short) < len(candidates)
    assert short[0] == plain


def test_a_processor_is_not_measured_and_a_toy_writes_no_results():
    processor = torch.device("cpu")
    with pytest.raises(typer.BadParameter, match="CUDA device"):
        check_options(processor, False, None, RESULTS)
    with pytest.raises(typer.BadParameter, match="outside results"):
        check_options(processor, True, RESULTS.with_name("toy.json"), RESULTS)
    assert check_options(processor, True, None, RESULTS) is None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrong_pooling_is_found(operation):
    rank = {"soft_pool1d 2/2/0": 1, "soft_pool3d 2/2/0": 3}.get(operation, 2)
    case = make_case(operation, (3, 2, *(8,) * rank), torch.float32, False, torch.device("cpu"))
    assert case.check(case.ours, 1e-5) is None
    assert "result" in str(case.check(lambda *inputs: tuple(1.01 * one for one in case.ours(*inputs)), 1e-3))

    def wrong_backwards(*inputs):
        return tuple(one - 0.1 * (one - one.detach()) for one in case.ours(*inputs))

    assert "gradient" in str(case.check(wrong_backwards, 1e-3))
    assert case.check(lambda *inputs: tuple(one * math.nan for one in case.ours(*inputs)), 1e-3) is not None


def test_rounds_hold_every_call_once_and_ratios_come_from_the_same_round():
    ran: list[str] = []

    def clock(call):
        call()
        return float(len(ran))

    seen = run_rounds({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, clock, 20)
    timed = ran[-40:]
    assert len(seen) == 20
    assert all(sorted(timed[i : i + 2]) == ["a", "b"] for i in range(0, 40, 2))
    assert {timed[i] for i in range(0, 40, 2)} == {"a", "b"}  # either may be first
    assert [one[name] for one, name in zip(seen, timed[::2], strict=True)] == list(range(len(ran) - 39, len(ran), 2))
    assert len(run_rounds({"a": lambda: None}, clock, 9, at_least=2, budget_s=0)) == 2
    assert spread([{"a": 1.0}, {"a": 2.0}, {"a": 3.0}], "a") == (1.5, 2.0, 2.5)
    assert median_ratio([{"a": 4.0, "b": 2.0}, {"a": 9.0, "b": 3.0}, {"a": 1.0, "b": 1.0}], "a", "b") == 2.0


def test_the_table_of_tiles_has_a_kernel_a_line():
    table = {"first": {}, "GPU": {"a": (1, 2, 3), "b": (4, 5, 6)}}
    text = as_json(table)
    assert json.loads(text) == {"first": {}, "GPU": {"a": [1, 2, 3], "b": [4, 5, 6]}}
    assert len(text.splitlines()) == 7
