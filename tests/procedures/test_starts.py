"""What a level starts from, treatment by treatment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_regs.core.files import DamagedFileError
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.level import LevelState, handed_on
from lightning_regs.procedures.starts import Given, make_start
from lightning_regs.pruning import Mask, Pruning


def _drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (6, 5), "a.bias": (6,), "b.weight": (4, 6), "b.bias": (4,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def dense():
    initial, final = _drawn(0), _drawn(1)
    mask = Mask.dense({name: initial[name] for name in ("a.weight", "b.weight")})
    return LevelState(initial, initial, final, mask)


def _start(kind, level, dense, needed=None):
    inputs = {("ticket", level - 1): dense, ("ticket", 0): dense} if needed is None else needed
    draws = torch.Generator().manual_seed(7)
    given = Given(level, Pruning(rate=0.5), dense.mask, lambda draw: _drawn(10 + draw), draws, inputs)
    return make_start(kind, given)


def test_a_ticket_is_the_largest_final_weights_at_their_initial_values(dense):
    start = _start("ticket", 1, dense)
    assert start.weights is dense.initial
    for name, rate in (("a.weight", 0.5), ("b.weight", 0.25)):
        final = dense.final[name].abs()
        kept = final >= final.flatten().sort().values[round(rate * final.numel())]
        assert torch.equal(start.mask[name], kept)


def test_reinitialised_weights_are_new_and_the_mask_is_not(dense):
    ticket, first, second = (_start(kind, 1, dense) for kind in ("ticket", "reinit-1", "reinit-2"))
    assert first.mask == second.mask == ticket.mask
    assert torch.equal(first.weights["a.weight"], _drawn(11)["a.weight"])
    assert torch.equal(second.weights["a.weight"], _drawn(12)["a.weight"])


def test_a_random_mask_has_the_counts_of_the_ticket(dense):
    ticket, random = _start("ticket", 1, dense), _start("random", 1, dense)
    assert random.mask.counts == ticket.mask.counts
    assert random.mask != ticket.mask
    assert random.weights is dense.initial


@pytest.mark.parametrize("kind", ["sign-reinit", "sign-reshuffle", "sign-constant"])
def test_signs_are_kept(dense, kind):
    start = _start(kind, 1, dense)
    for name, kept in start.mask.items():
        assert torch.equal(start.weights[name][kept].sign(), dense.initial[name][kept].sign())
        assert not torch.equal(start.weights[name][kept], dense.initial[name][kept])
    assert torch.equal(start.weights["a.bias"], dense.initial["a.bias"])


def test_survivors_alone_are_reshuffled(dense):
    start = _start("reshuffle", 1, dense)
    for name, kept in start.mask.items():
        before, after = dense.initial[name], start.weights[name]
        assert torch.equal(before[kept].sort().values, after[kept].sort().values)
        assert torch.equal(before[~kept], after[~kept])


@pytest.mark.parametrize("kind", ["constant", "sign-constant"])
def test_constants_have_the_layers_deviation(dense, kind):
    for name in dense.mask:
        values = _start(kind, 1, dense).weights[name].abs().unique()
        assert values.tolist() == pytest.approx([dense.initial[name].std().item()])


def test_noise_is_in_units_of_the_layer(dense):
    little, much = (_start(f"noise-{sigma}", 1, dense).weights["a.weight"] for sigma in ("0.001", "3"))
    spread = dense.initial["a.weight"].std()
    assert 0 < (little - dense.initial["a.weight"]).abs().max() < 0.01 * spread
    assert (much - dense.initial["a.weight"]).std() == pytest.approx(3 * float(spread), rel=0.5)


def test_pruning_without_training_looks_at_initial_weights(dense):
    start = _start("small-init", 1, dense, needed={})
    initial = _drawn(10)["a.weight"]
    assert start.mask["a.weight"].sum() == 15
    assert initial[start.mask["a.weight"]].abs().min() > initial[~start.mask["a.weight"]].abs().max()


def test_frozen_weights_keep_their_initial_values(dense):
    zeroed, frozen, grown = (_start(f"one-shot{end}", 2, dense) for end in ("", "-frozen", "-frozen-grown"))
    assert zeroed.mask == frozen.mask == grown.mask
    assert [start.frozen for start in (zeroed, frozen, grown)] == [False, True, True]
    assert torch.equal(frozen.weights["a.weight"], dense.initial["a.weight"])
    larger = dense.final["a.weight"].abs() > dense.initial["a.weight"].abs()
    kept = grown.mask["a.weight"]
    assert torch.equal(grown.weights["a.weight"] != 0, kept | larger)


def test_pruning_without_rewinding_goes_on_and_resets_at_the_end(dense):
    continued, reset = _start("continued", 1, dense), _start("continued-reset", 1, dense)
    assert continued.mask == reset.mask == _start("ticket", 1, dense).mask
    assert continued.weights is dense.final
    assert reset.weights is dense.initial


def test_a_twin_starts_where_the_other_did(dense):
    twin = _start("reinit-1-twin", 3, dense, needed={("reinit-1", 3): dense})
    assert twin.weights is dense.start
    assert twin.mask is dense.mask


@pytest.mark.parametrize("kind", ["sign-reinitialised", "sign-reinit-1", "noise", "noise-much", "reinit"])
def test_unknown_treatments_are_refused(dense, kind):
    with pytest.raises(ValueError, match=rf"unknown treatment '{kind}'"):
        _start(kind, 1, dense)


def test_a_level_comes_back_from_its_file(dense, tmp_path):
    dense.save(tmp_path)
    found = LevelState.load(tmp_path)
    assert found.mask == dense.mask
    assert found.digest == dense.digest
    for name in ("initial", "start", "final"):
        assert all(torch.equal(getattr(found, name)[key], value) for key, value in getattr(dense, name).items())
    replace(dense, facts={"of": "another"}).save(tmp_path)
    with pytest.raises(DamagedFileError, match="it is of another level"):
        LevelState.load(tmp_path, "one")
    path = tmp_path / "level.pt"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DamagedFileError, match=r"level\.pt is damaged"):
        LevelState.load(tmp_path)


def test_a_level_that_is_damaged_or_another_s_is_not_handed_on(dense, tmp_path):
    run = RunContext(tmp_path, inputs={"x/ticket/00": str(tmp_path)})
    replace(dense, facts={"of": "another"}).save(tmp_path)
    with pytest.raises(ValueError, match=r"it is of another level.; remove its folder, so that the level is trained"):
        handed_on(run)
    path = tmp_path / "level.pt"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"level\.pt is damaged .*trained again"):
        handed_on(run)
