"""Which row of numbers a kernel takes its tile from: the table's for a device that was measured, else the plain one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from poolcore.kernels import blocks, lift

GPU = torch.device("cuda", 0)
PLAIN = (256, 64, 4)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A table of its own, which nothing was read from before or will be after, and a GPU of a name."""
    file = tmp_path / "blocks.json"
    monkeypatch.setattr(blocks, "TABLE", file)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    _forget()
    yield file
    _forget()


def _forget() -> None:
    blocks._table.cache_clear()
    blocks.find_row.cache_clear()


def test_a_measured_device_has_its_own_rows_and_others_the_plain_ones(table: Path) -> None:
    rows = {"lift_pair_w5-bfloat16-nhwc": [512, 32, 8]}
    table.write_text(json.dumps({"A GPU": rows, "Another": {"forward4-bfloat16-nhwc": [512, 32, 8]}}))
    assert blocks.find_row("lift_pair_w5-bfloat16-nhwc", GPU, PLAIN) == (512, 32, 8)
    assert blocks.find_row("lift_pair_w5-bfloat16-nhwc", torch.device("cpu"), PLAIN) == PLAIN
    assert blocks.find_row("forward4-bfloat16-nhwc", GPU, PLAIN) == PLAIN


WRONG = ([256, 64], [256, 64, 4, 64], [0, 64, 4], [256, 48, 4], [256, -64, 4], [256, 64, 64], [256.0, 64, 4])


@pytest.mark.parametrize("row", [*WRONG, [True, 64, 4], ["256", 64, 4], [[256], 64, 4], None, 256, "abc", {}], ids=str)
def test_a_row_that_is_none_is_refused(row: object, table: Path) -> None:
    table.write_text(json.dumps({"A GPU": {"forward4-float32-nchw": row}}))
    with pytest.raises(ValueError, match="forward4-float32-nchw must be 3 powers of two, the third at most 32, got"):
        blocks.find_row("forward4-float32-nchw", GPU, PLAIN)


def test_names_tell_what_a_kernel_is_compiled_for() -> None:
    x = torch.empty(2, 3, 4, 4, dtype=torch.bfloat16)
    assert blocks.name_in_table("lift_image5", x) == "lift_image5-bfloat16-nchw"
    assert blocks.name_in_table("forward4", x.to(memory_format=torch.channels_last)) == "forward4-bfloat16-nhwc"
    assert blocks.name_in_table("forward4", x[:, :1].float()) == "forward4-float32-nchw"


@pytest.mark.parametrize("length", [2**22, 2**22 + 1, 2**31 - 1])
def test_a_long_axis_has_no_more_segments_than_a_grid_has_room_for(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "find_row", lambda *_: (128, 64, 4, 1))
    block = lift.pick_block("backward_w", torch.empty(1, 1, 8), length, 5)
    assert -(-length // block.segment) <= 65535
