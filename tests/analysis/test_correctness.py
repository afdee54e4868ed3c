import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from lightning_regs.analysis import agreement

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(pairs)
@pytest.mark.slow
def test_it_is_the_correlation_of_two_columns_of_hits(pairs: list[tuple[bool, bool]]) -> None:
    one, other = torch.tensor(pairs).unbind(1)
    found = agreement(one, other)
    if one.unique().numel() == other.unique().numel() == 2:
        assert found == pytest.approx(matthews_corrcoef(one.numpy(), other.numpy()))
        assert found == pytest.approx(np.corrcoef(one.numpy(), other.numpy())[0, 1])
    else:
        assert math.isnan(found)


def test_the_variance_of_a_difference_of_accuracies_is_that_of_a_bootstrap_of_the_samples() -> None:
    generator = np.random.default_rng(0)
    one = generator.random(400) < 0.8
    other = np.where(generator.random(400) < 0.6, one, generator.random(400) < 0.6)
    phi = agreement(torch.from_numpy(one), torch.from_numpy(other))
    p, q = one.mean() * (1 - one.mean()), other.mean() * (1 - other.mean())
    drawn = generator.integers(400, size=(20_000, 400))
    formula = (p + q - 2 * phi * math.sqrt(p * q)) / 400
    assert formula == pytest.approx(np.var((one - 1.0 * other)[drawn].mean(1)), rel=0.05)
