"""What is measured, in which order, and that nothing wrong is timed. No test asserts a time."""

import importlib
import json
import math
from dataclasses import replace

import gradio as gr
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ui.speed
import ui.timing
from poolcore import Backend, backend, soft_pool2d
from poolcore.share import window_of
from tests.ui import made_up
from ui.speed import WINDOWS, Measured, Speed, build, draw_backend, draw_networks, draw_poolings, draw_status, rounds
from ui.timing import (
    Candidate,
    Lap,
    Timing,
    WrongResultError,
    describe_machine,
    measure,
    network_candidates,
    pooling_candidates,
    quartiles,
    serving,
)

KERNELS = Backend("triton", "Some <b>GPU</b>, compute capability 9.0")


@pytest.fixture
def kernels(monkeypatch) -> Backend:
    """Kernels serve, as far as `backend` says; the processor computes all the same."""
    monkeypatch.setattr(importlib.import_module("poolcore.backend"), "_found", lambda: KERNELS)
    return KERNELS


class Clock:
    """Time that passes only when a candidate works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def candidate(self, name: str, seconds: float) -> Candidate:
        def run() -> torch.Tensor:
            self.now += seconds
            self.ran.append(name)
            return torch.ones(2)

        return Candidate(name, run, lambda: torch.ones(2, dtype=torch.float64))


def last(timings):
    *_, timings = timings
    return timings


class TestMeasure:
    def test_laps_are_what_the_clock_says(self):
        clock = Clock()
        timings = last(measure([clock.candidate("a", 0.001), clock.candidate("b", 0.25)], 5, clock=clock))
        assert [timing.name for timing in timings] == ["a", "b"]
        for timing, time_ms in zip(timings, (1.0, 250.0), strict=True):
            assert [lap.total_ms for lap in timing.laps] == pytest.approx([time_ms] * 5)
            assert [lap.pooling_ms for lap in timing.laps] == [lap.total_ms for lap in timing.laps]

    def test_every_round_runs_each_once_in_an_order_of_its_own(self):
        clock, names = Clock(), ["a", "b", "c", "d"]
        steps = measure([clock.candidate(name, 0.001) for name in names], 30, clock=clock)
        for _ in names:
            next(steps)
        orders = []
        for _ in range(30):
            clock.ran.clear()
            next(steps)
            orders.append(tuple(clock.ran))
        assert all(sorted(order) == names for order in orders)
        assert len(set(orders)) > 10
        assert {order[0] for order in orders} == set(names)
        with pytest.raises(StopIteration):
            next(steps)

    def test_the_same_seed_gives_the_same_orders(self):
        runs = []
        for seed in (1, 1, 2):
            clock = Clock()
            last(measure([clock.candidate(name, 0.001) for name in "abcd"], 5, seed=seed, clock=clock))
            runs.append(clock.ran)
        assert runs[0] == runs[1] != runs[2]

    def test_no_round_begins_when_time_is_up_but_one_is_run(self):
        clock = Clock()
        candidates = [clock.candidate("a", 0.5), clock.candidate("b", 0.5)]
        assert rounds(last(measure(candidates, 30, budget_s=4.2, clock=clock))) == 3  # checks and warm-up take 2 s
        assert rounds(last(measure(candidates, 30, budget_s=0, clock=clock))) == 1

    @pytest.mark.parametrize(
        ("result", "words"),
        [
            (torch.tensor([1.0, 1.001]), "b is wrong here, so nothing is timed: it is off by 1.0e-03"),
            (torch.tensor([1.0, math.nan]), "b is wrong here"),
            (torch.ones(3), r"its result has shape \(3,\) instead of \(2,\)"),
        ],
    )
    def test_a_wrong_candidate_stops_everything_before_anything_is_timed(self, result, words):
        clock = Clock()
        wrong = Candidate("b", lambda: result, lambda: torch.ones(2, dtype=torch.float64))
        steps = measure([clock.candidate("a", 0.001), wrong], 3, clock=clock)
        (right,) = next(steps)[:1]
        with pytest.raises(WrongResultError, match=words):
            next(steps)
        assert not right.laps

    def test_the_machine_is_held_in_each_run_and_free_between(self):
        held, seen = [False], []

        class Turn:
            def __enter__(self):
                held[0] = True

            def __exit__(self, *_):
                held[0] = False

        def run() -> torch.Tensor:
            seen.append(held[0])
            return torch.ones(1)

        for _ in measure([Candidate("a", run, lambda: torch.ones(1).double())], 3, turn=Turn()):
            assert not held[0]
        assert seen == [True] * 5

    def test_time_in_pooling_is_that_of_the_modules_named(self):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.ReLU())
        x = torch.randn(1, 3, 16, 16)
        candidate = Candidate("a", lambda: network(x), lambda: network(x).double(), pooling=[network[1]])
        (timing,) = last(measure([candidate], 3))
        assert all(0 < lap.pooling_ms < lap.total_ms for lap in timing.laps)
        assert not network[1]._forward_hooks

    def test_the_reference_serves_each_run_by_reference_and_no_other(self, kernels):
        ran, expected = {True: [], False: []}, []

        def candidate(by_reference: bool) -> Candidate:
            def run() -> torch.Tensor:
                ran[by_reference].append(backend().name)
                return torch.ones(1)

            def expect() -> torch.Tensor:
                expected.append(backend().name)
                return torch.ones(1).double()

            return Candidate("a", run, expect, by_reference=by_reference)

        steps = measure([candidate(False), candidate(True)], 3)
        timings = next(steps)
        for _ in steps:
            assert backend() == kernels
        assert [timing.by_reference for timing in timings] == [False, True]
        assert ran == {False: ["triton"] * 5, True: ["reference"] * 5}
        assert expected == ["reference"] * 2

    def test_changing_to_the_reference_is_not_timed(self, kernels):
        read = []

        def clock() -> float:
            read.append(backend().name)
            return 0.0

        last(measure([replace(Clock().candidate("a", 0.001), by_reference=True)], 1, clock=clock))
        assert read == ["triton", "reference", "reference"]

    @pytest.mark.parametrize(("device", "waits"), [("cuda:0", True), ("cpu", False)])
    def test_a_gpu_is_waited_for_before_and_after_each_lap(self, monkeypatch, device, waits):
        clock = Clock()
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: clock.ran.append(f"wait for {device}"))

        def read() -> float:
            clock.ran.append("read")
            return clock()

        steps = measure([clock.candidate("a", 0.001)], 1, clock=read, device=torch.device(device))
        next(steps)
        clock.ran.clear()
        next(steps)
        wait = [f"wait for {device}"] if waits else []
        assert clock.ran == [*wait, "read", "a", *wait, "read"]

    def test_quartiles(self):
        three = quartiles([5.0, 1.0, 4.0, 2.0, 3.0])
        assert (three.lower, three.median, three.upper) == (2, 3, 4)
        three = quartiles([7.0])
        assert (three.lower, three.median, three.upper) == (7, 7, 7)


class TestPoolings:
    @pytest.mark.parametrize("shape", [(1, 4, 10, 12), (2, 3, 14, 8)])
    def test_ours_are_right(self, shape):
        candidates = pooling_candidates(shape)
        assert [candidate.name for candidate in candidates] == ["max", "avg", "soft", "lip", "lift"]
        for candidate in candidates:
            with torch.inference_mode():
                candidate.check()
            assert candidate.run().shape == (*shape[:2], shape[2] // 2, shape[3] // 2)

    @pytest.mark.parametrize(
        ("name", "wrong", "victim"),
        [
            ("soft_pool2d", lambda x, k: F.avg_pool2d(x, k), "soft"),
            ("soft_pool2d", lambda x, k: F.avg_pool2d(x * x.exp().sum(1, True), k) / 9, "soft"),
            ("soft_pool2d", lambda x, k: F.relu(F.lp_pool2d(x, 1, k)), "soft"),
            ("lip2d", lambda x, logit, k, s, p: F.avg_pool2d(x, k, s, p), "lip"),
            (
                "lip2d",  # padding counted as a pixel
                lambda x, logit, k, s, p: (
                    F.avg_pool2d(x * logit.exp(), k, s, p) / F.avg_pool2d(F.pad(logit, (p,) * 4).exp(), k, s)
                ),
                "lip",
            ),
        ],
    )
    def test_a_wrong_one_is_refused(self, monkeypatch, name, wrong, victim):
        monkeypatch.setattr(ui.timing, name, wrong)
        candidates = {candidate.name: candidate for candidate in pooling_candidates((1, 4, 10, 12))}
        with pytest.raises(WrongResultError, match=f"{victim} is wrong here"):
            candidates[victim].check()

    def test_those_with_a_kernel_are_added_by_reference(self):
        candidates = pooling_candidates((1, 4, 10, 12), with_reference=True)
        assert [candidate.name for candidate in candidates if not candidate.by_reference] == list(WINDOWS)
        references = [candidate for candidate in candidates if candidate.by_reference]
        assert [candidate.name for candidate in references] == ["soft", "lip", "lift"]
        for candidate in references:
            with torch.inference_mode():
                candidate.check()

    @pytest.mark.parametrize(
        ("broken", "words"), [("triton", "soft is wrong here"), ("reference", "soft as plain PyTorch is wrong here")]
    )
    def test_kernel_and_reference_are_checked_each_by_itself(self, monkeypatch, kernels, broken, words):
        def pool(x: torch.Tensor, k: int) -> torch.Tensor:
            return F.avg_pool2d(x, k) if backend().name == broken else soft_pool2d(x, k)

        monkeypatch.setattr(ui.timing, "soft_pool2d", pool)
        steps = measure(pooling_candidates((1, 4, 10, 12), with_reference=True), 1)
        with pytest.raises(WrongResultError, match=words):
            last(steps)

    def test_a_wrong_lift_is_refused(self):
        lift = pooling_candidates((1, 4, 10, 12))[-1]
        with torch.inference_mode(), pytest.raises(WrongResultError, match="lift is wrong here"):
            replace(lift, run=lambda: 4 * lift.run()).check()

    def test_their_windows_are_those_of_the_networks(self):
        for variant, words in WINDOWS.items():
            window = window_of(made_up.load(variant).network.pool)
            assert words.startswith(f"{window.kernel_size[0]} × {window.kernel_size[1]}, stride {window.stride[0]}")


class TestNetworks:
    def test_each_looks_at_the_photo_and_is_right(self):
        networks = made_up.network_set("stock", "lip", "lift").networks
        candidates = network_candidates(networks, made_up.photo().image)
        for candidate, loaded in zip(candidates, networks, strict=True):
            assert candidate.name == loaded.network.variant
            with torch.inference_mode():
                candidate.check()
                torch.testing.assert_close(candidate.run(), loaded.network(loaded.preprocess(made_up.photo().image)))

    def test_a_wrong_one_is_refused(self):
        (soft,) = network_candidates(made_up.network_set("soft").networks, made_up.photo().image)
        with torch.inference_mode(), pytest.raises(WrongResultError, match="soft is wrong here"):
            replace(soft, run=lambda: soft.run() * 1.01).check()


class TestServing:
    def test_networks_on_a_gpu_get_what_the_library_says(self, monkeypatch):
        monkeypatch.setattr(ui.timing, "backend", lambda: KERNELS)
        assert serving(torch.device("cuda")) == KERNELS

    def test_without_a_gpu_it_is_the_reference(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(ui.timing, "backend", lambda: Backend("reference", "PyTorch sees no CUDA device"))
        assert serving(torch.device("cpu")) == Backend("reference", "PyTorch sees no CUDA device")

    def test_networks_on_the_processor_leave_a_gpu_alone(self, monkeypatch):
        asked = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(ui.timing, "backend", lambda: asked.append("backend"))
        assert serving(torch.device("cpu")) == Backend("reference", "the networks run on the processor, not on the GPU")
        assert not asked

    @pytest.mark.parametrize(
        "error", ["[Errno 13] Permission denied: '/home/someone/.triton'", "Command '['cc', '/srv/a.c']'\nfailed"]
    )
    def test_no_folder_of_the_server_is_told(self, monkeypatch, error):
        found = Backend("reference", f"Triton cannot run a kernel here: {error}")
        monkeypatch.setattr(ui.timing, "backend", lambda: found)
        assert serving(torch.device("cuda")) == Backend("reference", "Triton cannot run a kernel here")


def timing(name: str, *laps: tuple[float, float], by_reference: bool = False) -> Timing:
    return Timing(name, [Lap(*lap) for lap in laps], by_reference)


@pytest.fixture
def measured() -> Measured:
    return Measured(
        [timing("stock", (10, 1), (12, 2), (30, 3)), timing("lip", (20, 11), (22, 12), (24, 13))],
        [timing("max", (0.5, 0.5), (0.7, 0.7), (0.8, 0.8))],
        (1, 64, 112, 112),
        made_up.network_set("stock", "lip"),
        {"processor": "a <fast> one", "cores": 2, "threads": 1, "device": "cpu", "torch": "2.11.0", "python": "3.11"},
        Backend("reference", "PyTorch sees no CUDA device"),
    )


@pytest.fixture
def compared(measured) -> Measured:
    """SoftPool's kernel is faster than its reference, LIP's slower; max pooling has none."""
    poolings = [
        *measured.poolings,
        timing("soft", (0.5, 0.5), (0.6, 0.6), (0.8, 0.8)),
        timing("lip", (2, 2), (2, 2), (2, 2)),
        timing("soft", (5, 5), (7.2, 7.2), (9, 9), by_reference=True),
        timing("lip", (1, 1), (1.5, 1.5), (3, 3), by_reference=True),
    ]
    return replace(measured, poolings=poolings, backend=KERNELS)


class TestReport:
    def test_tables_hold_medians_and_quartiles(self, measured):
        html = measured.html()
        cells = "</td><td>"
        assert f"Stock</th><td>12 ms{cells}11 to 21 ms{cells}2.0 ms{cells}10 ms<" in html
        assert f"LIP</th><td>22 ms{cells}21 to 23 ms{cells}12 ms{cells}10 ms<" in html
        assert f"Max</th><td>0.7 ms{cells}0.6 to 0.75 ms{cells}3 × 3, stride 2<" in html
        assert "Plain PyTorch" not in html

    def test_where_kernels_serve_the_table_holds_both(self, compared):
        html = compared.html()
        cells = "</td><td>"
        assert 'Middle half</th><th scope="col">Plain PyTorch</th><th scope="col">Speed-up</th>' in html
        assert f"Max</th><td>0.7 ms{cells}0.6 to 0.75 ms{cells}–{cells}–{cells}3 × 3, stride 2<" in html
        assert f"SoftPool</th><td>0.6 ms{cells}0.55 to 0.7 ms{cells}7.2 ms{cells}12 ×{cells}2 × 2, stride 2<" in html
        assert f"LIP</th><td>2.0 ms{cells}2.0 ms{cells}1.5 ms{cells}0.75 ×{cells}3 × 3, stride 2<" in html
        assert html.count("SoftPool</th>") == 1

    @pytest.mark.parametrize(
        ("backend", "sentence"),
        [
            (
                Backend("reference", "PyTorch sees no CUDA device"),
                "The poolings run as plain PyTorch here: PyTorch sees no CUDA device.",
            ),
            (
                KERNELS,
                "SoftPool, LIP and LiftPool run as GPU kernels of their own here: "
                "Some &lt;b&gt;GPU&lt;/b&gt;, compute capability 9.0.",
            ),
        ],
        ids=lambda value: value.name if isinstance(value, Backend) else "",
    )
    def test_a_sentence_says_what_serves_and_why(self, backend, sentence):
        assert draw_backend(backend) == f'<p class="ps-note">{sentence}</p>'

    def test_the_status_says_where_and_how(self, measured):
        summary = measured.summary()
        assert "on the machine that serves, 3 rounds of the networks and 3 rounds of the poolings" in summary
        assert "2 cores, 1 thread, torch 2.11.0." in summary
        assert "Time was up before all 30 rounds" in summary
        assert "&lt;fast&gt;" in draw_status(summary)

    def test_charts_hold_the_tables_numbers(self, measured):
        figure = draw_networks(measured.networks, "9 birds")
        assert figure.layout.title.text == "Networks: 9 birds"
        pooling, rest = figure.data
        assert list(pooling.y) == ["Stock", "LIP"]
        assert list(pooling.x) == [2, 12]
        assert list(rest.x) == [10, 10]
        assert list(rest.error_x.array) == [9, 1]
        assert list(rest.error_x.arrayminus) == [1, 1]
        (bar,) = draw_poolings(measured.poolings).data
        assert list(bar.x) == [0.7]

    def test_where_kernels_serve_the_chart_holds_both(self, compared):
        figure = draw_poolings(compared.served, list(compared.references.values()))
        served, reference = figure.data
        assert dict(zip(served.y, served.x, strict=True)) == {"Max": 0.7, "SoftPool": 0.6, "LIP": 2}
        assert dict(zip(reference.y, reference.x, strict=True)) == {"SoftPool": 7.2, "LIP": 1.5}
        assert list(reference.error_x.array) == pytest.approx([0.9, 0.75])
        assert (served.name, reference.name) == ("as it runs here", "plain PyTorch")
        assert served.marker.color != reference.marker.color
        assert figure.layout.barmode == "group"

    def test_charts_have_a_clear_ground(self, measured):
        layout = draw_networks(measured.networks, "birds").layout
        assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"

    def test_numbers(self, measured):
        numbers = json.loads(json.dumps(measured.numbers(), allow_nan=False))
        assert numbers["networks"]["shape"] == [1, 3, made_up.INPUT_SIZE, made_up.INPUT_SIZE]
        assert numbers["networks"]["network_set"] == made_up.SET
        stock = numbers["networks"]["times"][0]
        assert stock["time_ms"] == {"lower": 11, "median": 12, "upper": 21}
        assert stock["pooling_ms"] == {"lower": 1.5, "median": 2, "upper": 2.5}
        assert numbers["poolings"]["rounds"] == 3
        assert numbers["backend"] == {"name": "reference", "reason": "PyTorch sees no CUDA device"}
        assert [set(row) for row in numbers["poolings"]["times"]] == [{"variant", "window", "time_ms"}]

    def test_where_kernels_serve_numbers_hold_both(self, compared):
        numbers = json.loads(json.dumps(compared.numbers(), allow_nan=False))
        assert numbers["backend"] == {"name": "triton", "reason": "Some <b>GPU</b>, compute capability 9.0"}
        largest, soft, lip = numbers["poolings"]["times"]
        assert "reference_ms" not in largest
        assert soft["time_ms"]["median"] == 0.6
        assert soft["reference_ms"] == {"lower": 6.1, "median": 7.2, "upper": 8.1}
        assert (soft["speed_up"], lip["speed_up"]) == (12, 0.75)
        assert {"reference_ms", "speed_up"} <= set(numbers["words"])


class TestTab:
    @pytest.fixture
    def tab(self, monkeypatch) -> Speed:
        monkeypatch.setattr(ui.speed, "ROUNDS", 2)
        monkeypatch.setattr(ui.speed, "IMAGENET_STEM", (1, 4, 12, 12))
        return Speed(made_up.context("max", "soft"))

    def test_endpoint(self, tab):
        numbers = json.loads(json.dumps(tab.speed("1x8x32x32", made_up.SET), allow_nan=False))
        assert [row["variant"] for row in numbers["networks"]["times"]] == ["max", "soft"]
        assert [row["variant"] for row in numbers["poolings"]["times"]] == ["max", "avg", "soft", "lip", "lift"]
        assert numbers["networks"]["rounds"] == numbers["poolings"]["rounds"] == 2
        assert numbers["poolings"]["shape"] == [1, 8, 32, 32]
        for row in numbers["networks"]["times"]:
            assert 0 < row["time_ms"]["lower"] <= row["time_ms"]["median"] <= row["time_ms"]["upper"]
            assert row["pooling_ms"]["median"] < row["time_ms"]["median"]

    def test_where_kernels_serve_their_poolings_are_timed_twice(self, tab, monkeypatch, kernels):
        ran = []

        def pool(x: torch.Tensor, k: int) -> torch.Tensor:
            ran.append(backend().name)
            return soft_pool2d(x, k)

        monkeypatch.setattr(ui.speed, "serving", lambda device: kernels)
        monkeypatch.setattr(ui.timing, "soft_pool2d", pool)
        numbers = json.loads(json.dumps(tab.speed("1x4x12x12", made_up.SET), allow_nan=False))
        assert numbers["backend"] == kernels._asdict()
        rows = {row["variant"]: row for row in numbers["poolings"]["times"]}
        assert list(rows) == ["max", "avg", "soft", "lip", "lift"]
        assert [name for name, row in rows.items() if "reference_ms" in row] == ["soft", "lip", "lift"]
        assert sorted(ran) == ["reference"] * 4 + ["triton"] * 4  # a check, a warm-up and two rounds each
        *_, (_, html, _, chart) = tab.run("1x4x12x12", made_up.SET)
        assert html.count("Plain PyTorch</th>") == 1
        assert len(json.loads(chart.value["plot"])["data"]) == 2

    def test_the_networks_device_is_waited_for(self, tab, monkeypatch):
        waited_for = []

        def measure(candidates, rounds, *, device, **_):
            waited_for.append(device)
            return iter([])

        monkeypatch.setattr(ui.speed, "measure", measure)
        monkeypatch.setattr(Speed, "device", torch.device("meta"))
        list(tab.measure("1x4x12x12", made_up.SET))
        assert waited_for == [torch.device("meta")] * 2

    def test_the_page_says_what_serves(self, tab, monkeypatch, kernels):
        monkeypatch.setattr(ui.speed, "serving", lambda device: kernels)
        with gr.Blocks() as blocks:
            build(tab.context)
        texts = [block.value for block in blocks.blocks.values() if isinstance(block, gr.HTML)]
        assert sum(draw_backend(kernels) in (text or "") for text in texts) == 1

    def test_the_maps_are_imagenets_stem_and_the_networks_own(self, tab):
        assert list(tab.shapes) == ["1x4x12x12", "1x8x32x32"]

    def test_progress_then_charts(self, tab):
        reports = list(tab.run("1x4x12x12", made_up.SET))
        assert "Checking and measuring" in reports[0][0]
        assert "Measured just now" in reports[-1][0]
        assert reports[-1][1].count("<table") == 2
        charted = [[plot.value is not None for plot in report[2:]] for report in reports]
        assert sum(networks for networks, _ in charted) == 1
        assert charted[-1] == [False, True]

    def test_a_wrong_result_is_a_sentence(self, tab, monkeypatch):
        monkeypatch.setattr(ui.timing, "soft_pool2d", lambda x, k: F.avg_pool2d(x, k))
        with pytest.raises(gr.Error, match="soft is wrong here, so nothing is timed"):
            list(tab.run("1x4x12x12", made_up.SET))
        assert not tab.context.machine.locked()

    def test_an_unknown_shape_is_a_sentence(self, tab):
        with pytest.raises(gr.Error, match="shape must be one of 1x4x12x12, 1x8x32x32, got 9x9"):
            tab.speed("9x9", made_up.SET)

    def test_a_run_that_is_closed_lets_the_machine_go(self, tab):
        run = tab.run("1x4x12x12", made_up.SET)
        next(run)
        run.close()
        assert not tab.context.machine.locked()


def test_the_machine_is_described_and_nothing_else():
    import platform

    machine = describe_machine(torch.device("cpu"))
    assert set(machine) == {"processor", "cores", "threads", "device", "torch", "python"}
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert platform.node() not in map(str, machine.values())
