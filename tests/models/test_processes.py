"""Processes: each has its part of a batch, and a device of its own."""

import pytest

from models.processes import Processes, own_device


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_parts_in_the_order_of_ranks_are_the_batch(count):
    batches = [[(epoch, index) for index in range(12)] for epoch in range(3)]
    parts = [list(Processes(rank, count).part_of(batches)) for rank in range(count)]
    for number, batch in enumerate(batches):
        assert [key for part in parts for key in part[number]] == batch
        assert {len(part[number]) for part in parts} == {12 // count}


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_each_sample_of_a_part_follows_the_one_before_it_in_the_batch(count):
    batch = [(0, index) for index in (7, 3, 11, 0, 5, 9)]
    before = {key: batch[place - 1] for place, key in enumerate(batch)}
    for rank in range(count):
        (part,) = Processes(rank, count).part_of([batch], with_previous=True)
        assert len(part) == 6 // count + 1
        assert [before[key] for key in part[1:]] == part[:-1]


def test_without_a_process_group_there_is_one_process():
    assert Processes.here() == Processes(rank=0, count=1)
    assert Processes.here().is_first


def test_torchrun_gives_each_process_a_gpu(monkeypatch):
    assert [own_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [own_device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda:3"]
    with pytest.raises(ValueError, match=r"device must have no number under torchrun.*got 'cuda:1'"):
        own_device("cuda:1")
