"""Evaluation over processes: each sample once, the same number of batches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.data.dataset import ImageArrays, identity_collate
from lightning_regs.data.loaders import EvaluationSampler, even_batch_size

FEW = settings(max_examples=100, deadline=None)


def arrays(n: int) -> ImageArrays:
    return ImageArrays(torch.arange(n).view(n, 1).float(), torch.arange(n))


@FEW
@given(world=st.integers(1, 8), extra=st.integers(0, 60), batch_size=st.integers(1, 20))
def test_each_sample_once_and_equally_many_batches(world, extra, batch_size):
    n = world + extra
    samplers = [EvaluationSampler(arrays(n), world, rank) for rank in range(world)]
    served = [list(sampler) for sampler in samplers]
    assert sorted(i for part in served for i in part) == list(range(n))
    assert [len(sampler) for sampler in samplers] == [len(part) for part in served]
    size = even_batch_size(n, batch_size, world)
    assert size >= 1
    assert len({math.ceil(len(part) / size) for part in served}) == 1


@FEW
@given(world=st.integers(2, 5), extra=st.integers(0, 40), batch_size=st.integers(1, 12))
def test_no_nearer_batch_size_would_do(world, extra, batch_size):
    n = world + extra
    counts = {len(range(rank, n, world)) for rank in range(world)}
    possible = [b for b in range(1, n + batch_size + 2) if len({math.ceil(c / b) for c in counts}) == 1]
    nearest = min(possible, key=lambda b: (abs(b - batch_size), b))
    assert even_batch_size(n, batch_size, world) == nearest


def test_more_processes_than_samples_are_refused():
    with pytest.raises(ValueError, match="2 samples cannot be spread over 3 processes"):
        EvaluationSampler(arrays(2), 3, 0)


def test_whole_batches_equal_single_samples():
    data = ImageArrays(torch.randn(9, 2, 3, 3), torch.arange(9), torch.arange(9) % 2 == 0)
    batch = identity_collate(data.__getitems__([4, 0, 4, 8]))
    singles = [data[i] for i in (4, 0, 4, 8)]
    for column, part in enumerate(batch):
        assert torch.equal(part, torch.stack([s[column] for s in singles]))


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[3, 2\]"):
        ImageArrays(torch.zeros(3, 1), torch.zeros(2).long())
