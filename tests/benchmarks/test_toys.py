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
from benchmarks.tune import as_json

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
    assert {name.partition("-")[2] for name in rows} == {"bfloat16-nhwc", "bfloat16-nchw"}
    assert {name[:7] for name in rows} == {"forward", "backwar"}
    assert all(len(row) == 3 for row in rows.values())


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
