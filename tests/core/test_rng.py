import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.core.rng import derive_seed, generator, run_seed


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 1000))
def test_streams_depend_on_every_part_of_their_name(seed: int, epoch: int) -> None:
    here = derive_seed(seed, "order", epoch)
    assert here == derive_seed(seed, "order", epoch)
    others = {
        derive_seed(seed + 1, "order", epoch),
        derive_seed(seed, "augmentation", epoch),
        derive_seed(seed, "order", epoch + 1),
    }
    assert here not in others
    assert len(others) == 3
    assert 0 <= here < 2**63


def test_a_position_is_not_confused_with_its_neighbour() -> None:
    assert derive_seed(1, "a", 2, 3) != derive_seed(1, "a", 23)
    assert derive_seed(12, "a") != derive_seed(1, "a", 2)


def test_a_seed_never_changes_between_releases() -> None:
    # Results in the repository were drawn from these streams.
    assert derive_seed(0, "order", 0) == 583293569008121160


def test_generator_draws_what_torch_draws_from_the_derived_seed() -> None:
    expected = torch.rand(5, generator=torch.Generator().manual_seed(derive_seed(7, "mixup", 1)))
    assert torch.equal(torch.rand(5, generator=generator(7, "mixup", 1)), expected)


def test_run_seed_follows_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert run_seed(None) == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    assert run_seed(None) == 11
    assert run_seed(3) == 3
