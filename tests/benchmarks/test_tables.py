"""The README of the benchmarks agrees with their results, and says so where there are none."""

from pathlib import Path

import pytest

from scripts import tables

README = (Path(__file__).resolve().parents[2] / "benchmarks" / "README.md").read_text()


def test_the_tables_are_those_of_the_results():
    assert tables.filled(README, tables.BENCHMARKS) == README


@pytest.mark.parametrize("table", ["strangers", "gpu_ops", "gpu_networks", "kernels"])
def test_what_was_not_measured_is_said(table, monkeypatch):
    monkeypatch.setattr(tables, "_results", lambda name: None)
    assert "yet" in tables.BENCHMARKS[table]()
    assert "|" not in tables.BENCHMARKS[table]()


GPU = {"device": "A GPU", "driver": "1.2", "torch": "3.4", "triton": "5.6", "commit": "abc", "left_out": ["the last"]}
ROW = {"op": "soft_pool2d 2/2/0", "direction": "forward", "shape": [8, 4], "dtype": "bf16", "layout": "contiguous"}
TIMES = {"ms": 1.25, "floor_ms": 1.0, "eager_ms": 4.5, "native_avg_ms": 1.5, "native_max_ms": 1.75, "compile_ms": None}
NETWORK = {"depth": 18, "batch": 1, "mode": "inference", "how": "eager", "variant": "soft", "by": "kernels"}
RESULTS = {
    "gpu_ops": GPU
    | {
        "copy_gb_s": 3000.0,
        "rows": [ROW | TIMES | {"ratio_to_floor": 1.25, "peak_mib": 12.3}, ROW | {"error": "result 0 is off"}],
    },
    "gpu_networks": GPU | {"rows": [NETWORK | {"ms": 2.5, "over_avg": 1.034, "peak_mib": None}]},
    "kernels": GPU
    | {
        "fields": ["kernel", "capability", "registers", "shared", "local", "seconds"],
        "kernels": [["a", 90, 32, 0, 0, 1.0], ["a", 90, 64, 8, 0, 3.0]],
    },
}


def test_results_become_rows(monkeypatch):
    monkeypatch.setattr(tables, "_results", RESULTS.__getitem__)
    right, wrong = tables.gpu_ops().splitlines()[2:4]
    assert right.split(" | ")[5:] == ["1.25", "1", "4.5", "", "1.5", "1.75", "1.25", "12 MiB |"]
    assert "result 0 is off" in wrong
    assert right.count("|") == wrong.count("|")
    assert "A GPU, driver 1.2" in tables.gpu_ops()
    assert tables.gpu_networks().splitlines()[2].endswith("| `soft` | kernels | 2.5 | +3.4 % |  |")
    assert "Left out: the last." in tables.gpu_networks()
    assert tables.kernels().splitlines()[2] == "| 9.0 | `a` | 2 | 64 | 8 | 0 | 2.0 s |"


def test_seeds_become_rows(monkeypatch):
    top1 = {"stock": [70, 72], "lift": [74, 77]}
    seen = {"data": "Cats", "classes": 9, "seeds": [0, 7], "top1": top1, "val_images": 50}
    seen |= {"recipe": {"schedule": [[64, 16]]}}
    monkeypatch.setattr(tables, "read_seed_runs", lambda folder: [seen, seen | {"data": "Dogs"}])
    header, _, stock, lift, _, cats, _, *dogs = tables.seeds().splitlines()
    assert cats.startswith("9 things (Cats), 16 epochs at 64 px, 2 seeds each")
    assert dogs[:4] == [header, "| --- | ---: | ---: | ---: | ---: |", stock, lift]
    assert dogs[5].startswith("9 things (Dogs)")
    assert header == "| variant | seed 0 | seed 7 | mean | standard deviation |"
    assert stock == "| `stock` | 70.0 % | 72.0 % | 71.0 % | 1.4 |"
    assert lift == "| `lift` | 74.0 % | 77.0 % | 75.5 % | 2.1 |"
    monkeypatch.setattr(tables, "read_seed_runs", lambda folder: [])
    assert "yet" in tables.seeds()


def test_a_set_that_met_strangers_becomes_a_row(monkeypatch):
    row = {"knowledge": "2 things (Cats)", "taught": 3, "top1": 40, "top5": 60.2, "named_right": 20, "named_wrong": 9.9}
    monkeypatch.setattr(tables, "_results", lambda name: {"rows": [row], "photos": 7, "commit": "abc"})
    assert tables.strangers().splitlines()[2] == "| 2 things (Cats) | 3 | 40.0 % | 60.2 % | 20.0 % | 9.9 % |"
    assert "of all 7 photos" in tables.strangers()
