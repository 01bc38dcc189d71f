"""Processes: each has its part of a batch, and a device of its own."""

import pytest
import torch

from models.processes import Processes, own_device


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_parts_in_the_order_of_ranks_are_the_batch(count):
    batches = torch.randperm(36, generator=torch.Generator().manual_seed(0)).view(3, 12)
    parts = [Processes(rank, count).part_of(batches) for rank in range(count)]
    assert {part.shape for part in parts} == {(3, 12 // count)}
    assert torch.equal(torch.cat(parts, dim=1), batches)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_each_sample_of_a_part_follows_the_one_before_it_in_the_batch(count):
    batch = [7, 3, 11, 0, 5, 9]
    before = {index: batch[place - 1] for place, index in enumerate(batch)}
    for rank in range(count):
        (part,) = Processes(rank, count).part_of(torch.tensor([batch]), with_previous=True).tolist()
        assert len(part) == 6 // count + 1
        assert [before[index] for index in part[1:]] == part[:-1]


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
