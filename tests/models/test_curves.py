"""Curves: what stands in the logs is where it should be in the drawing."""

import xml.etree.ElementTree as ET

import pytest

from models.curves import main, write_curves

HEADER = "epoch,size_px,train_loss,val_top1_percent,seconds\n"
SVG = "{http://www.w3.org/2000/svg}"


def _run(folder, *rows):
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text(HEADER + "".join(f"{row},1.0\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [
        _run(tmp_path / "a & b", "1,32,2.0,10.00", "2,32,1.5,", "3,64,1.0,", "4,64,0.5,50.00"),
        _run(tmp_path / "lip", "1,32,1.8,", "2,32,1.2,30.00"),
    ]


def _read(path):
    root = ET.parse(path).getroot()  # a drawing of our own
    curves = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    return curves, ["".join(text.itertext()) for text in root.iter(f"{SVG}text")], root


def test_points_lie_where_the_logs_say(runs, tmp_path):
    write_curves(runs, tmp_path / "out.svg")
    curves, texts, root = _read(tmp_path / "out.svg")
    assert [len(curve) for curve in curves] == [4, 2, 2, 1]  # two runs of losses, then two of top-1
    values = [[2.0, 1.5, 1.0, 0.5], [1.8, 1.2], [10, 50], [30]]
    epochs = [[1, 2, 3, 4], [1, 2], [1, 4], [2]]
    # The numbers at the axes say what a place means: y by two ticks of each panel, x by those of the epochs.
    labels = [(float(t.get("x")), float(t.get("y")) - 4, t.text, t.get("text-anchor")) for t in root.iter(f"{SVG}text")]
    ticks = [(y, float(text)) for _, y, text, anchor in labels if anchor == "end"]
    places = {int(text): x for x, _, text, anchor in labels if anchor == "middle"}
    split = next(index for index in range(1, len(ticks)) if ticks[index][1] < ticks[index - 1][1])
    for panel, its_ticks in enumerate((ticks[:split], ticks[split:])):
        (y0, v0), (y1, v1) = its_ticks[0], its_ticks[-1]
        assert y0 > y1
        assert v0 < v1
        for index in (2 * panel, 2 * panel + 1):
            read = [v0 + (v1 - v0) * (y - y0) / (y1 - y0) for _, y in curves[index]]
            assert read == pytest.approx(values[index], abs=(v1 - v0) / 200)
            for (x, _), epoch in zip(curves[index], epochs[index], strict=True):
                assert x == pytest.approx(places[1] + (places[4] - places[1]) * (epoch - 1) / 3, abs=0.2)
    assert "a & b: training loss 0.5 in epoch 4, top-1 50 % in epoch 4" in texts
    assert "lip: training loss 1.2 in epoch 2, top-1 30 % in epoch 2" in texts


def test_runs_have_colours_of_their_own_and_dots_tell_their_values(runs, tmp_path):
    write_curves(runs, tmp_path / "out.svg")
    _, _, root = _read(tmp_path / "out.svg")
    strokes = [(line.get("stroke"), line.get("stroke-dasharray")) for line in root.iter(f"{SVG}polyline")]
    assert strokes[:2] == strokes[2:]
    assert strokes[0] != strokes[1]
    many = [_run(tmp_path / "many" / str(index), "1,32,1.0,") for index in range(18)]
    write_curves(many, tmp_path / "many.svg")
    _, _, drawing = _read(tmp_path / "many.svg")
    assert len({(m.get("stroke"), m.get("stroke-dasharray")) for m in drawing.iter(f"{SVG}polyline")}) == 18
    titles = [dot.find(f"{SVG}title").text for dot in root.iter(f"{SVG}circle")]
    assert "epoch 4: 0.5" in titles
    assert len(titles) == 9


def test_image_sizes_are_marked_where_all_runs_share_them(runs, tmp_path):
    write_curves(runs, tmp_path / "shared.svg")
    assert [text for text in _read(tmp_path / "shared.svg")[1] if "px" in text] == ["32 px", "64 px"] * 2
    other = _run(tmp_path / "other", "1,48,1.0,20.00")
    write_curves([*runs, other], tmp_path / "unlike.svg")
    assert not [text for text in _read(tmp_path / "unlike.svg")[1] if "px" in text]


def test_a_run_that_was_never_validated_has_its_loss_alone(tmp_path):
    write_curves([_run(tmp_path / "run", "1,32,2.0,", "2,32,2.0,")], tmp_path / "out.svg")
    curves, texts, _ = _read(tmp_path / "out.svg")
    assert [len(curve) for curve in curves] == [2]
    assert texts[-1] == "run: training loss 2 in epoch 2"


def test_the_command_draws_beside_the_log(runs, tmp_path, command):
    assert command(main, runs[0]).status == 0
    assert len(_read(runs[0] / "curves.svg")[0]) == 2
    assert command(main, *runs).status == 0
    assert len(_read(tmp_path / "curves.svg")[0]) == 4
    assert command(main, *runs, "--out", tmp_path / "named.svg").status == 0
    assert (tmp_path / "named.svg").read_bytes() == (tmp_path / "curves.svg").read_bytes()


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [_run(tmp_path / place / "lip", "1,32,1.0,") for place in ("a", "b")]
    write_curves(folders, tmp_path / "out.svg")
    assert [text.partition(":")[0] for text in _read(tmp_path / "out.svg")[1][-2:]] == [str(f) for f in folders]


def test_a_run_without_an_epoch_is_told(tmp_path, command):
    ended = command(main, _run(tmp_path / "young"))
    assert ended.status == 2
    assert "log.csv must hold an epoch or more, it holds none yet" in ended.err
    ended = command(main, tmp_path / "absent")
    assert ended.status == 2
    assert "No such file" in ended.err
    assert "Traceback" not in ended.err
