"""Every method under accumulation and clipping: the step is the one that the flags promise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from contract_runs import (
    all_pairs,
    assert_same_step,
    fit,
    ids,
    plain,
    step_of_the_mean,
    steps_options,
    takes_over,
)
from discover import Variant
from modules import BATCH, DEMO, OURS, Case

from lightning_regs.core.lightning import MisconfigurationException, pl

ACCEPTED, _ = all_pairs()
every = pytest.mark.parametrize(("case", "variant"), ACCEPTED, ids=map(ids, ACCEPTED))
CLIP = 0.01


@every
def test_accumulation_takes_the_mean_of_the_batches_steps(case: Case, variant: Variant) -> None:
    method, options = steps_options(case, variant, accumulate_grad_batches=4)
    run = fit(case, [method], each_batch=True, **options)
    assert run.trainer.global_step == len(run.gradient_norms) == 1
    for before in run.trajectory[1:4]:
        assert torch.equal(before, run.start)
    # Four batches in one step lead where the mean of their gradients would, with the draws of each one's place.
    expected = step_of_the_mean(case, variant, [(i, (0, i, 0)) for i in range(4)])
    without = plain(case, each_batch=True, accumulate_grad_batches=4)
    assert_same_step(run.moved, expected.moved, without.moved)
    assert not torch.allclose(run.end, without.end, rtol=1e-6, atol=1e-8)


@every
def test_without_accumulation_each_batch_steps(case: Case, variant: Variant) -> None:
    method, options = steps_options(case, variant, accumulate_grad_batches=1)
    run = fit(case, [method], **options)
    assert run.trainer.global_step == len(run.gradient_norms) == 4
    assert all(not torch.equal(a, b) for a, b in zip(run.trajectory, run.trajectory[1:], strict=False))


@every
def test_clipping_has_the_last_word_on_the_gradient(case: Case, variant: Variant) -> None:
    free = fit(case, [variant.make()])
    assert min(free.gradient_norms) > 2 * CLIP
    method, options = steps_options(case, variant, gradient_clip_val=CLIP)
    run = fit(case, [method], **options)
    assert run.gradient_norms == pytest.approx([CLIP] * 4, rel=1e-3)
    assert not torch.equal(run.end, plain(case, gradient_clip_val=CLIP).end)


@pytest.mark.parametrize("flags", [{"gradient_clip_val": CLIP}, {"accumulate_grad_batches": 4}], ids=str)
@pytest.mark.parametrize("variant", [v for c, v in ACCEPTED if takes_over(c, v)], ids=str)
def test_flags_that_manual_optimization_forbids_name_our_argument(variant: Variant, flags: dict[str, float]) -> None:
    ((name, value),) = flags.items()
    with pytest.raises(MisconfigurationException, match=rf"use {variant.cls.__name__}\({name}={value}\) instead"):
        fit(OURS, [variant.make()], **flags)


def test_the_suites_plain_run_is_a_loop_of_plain_torch() -> None:
    """What every method is compared with is what a loop without Lightning gives, accumulated and not."""
    for every_n in (1, 4):
        run = fit(DEMO, [], accumulate_grad_batches=every_n)
        torch.manual_seed(0)
        module = DEMO.build([])
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for i, (x, y) in enumerate(DEMO.loader()):
            (F.mse_loss(module.layer(x), F.one_hot(y, 2).float()) / every_n).backward()
            if (i + 1) % every_n == 0:
                optimizer.step()
                optimizer.zero_grad()
        assert len(x) == BATCH
        expected = torch.cat([p.detach().flatten() for p in module.parameters()])
        torch.testing.assert_close(run.end, expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(plain(DEMO).start, run.start)


def test_a_weight_penalty_enters_an_accumulated_step_once() -> None:
    """Four batches and one L2 penalty, in a loop of plain torch."""
    from lightning_regs import NormPenalty

    run = fit(DEMO, [NormPenalty(p=2, coefficient=0.3, decoupled=False)], accumulate_grad_batches=4)
    torch.manual_seed(0)
    module: pl.LightningModule = DEMO.build([])
    (_, layer) = module.layer
    loss = sum(F.mse_loss(module.layer(x), F.one_hot(y, 2).float()) for x, y in DEMO.loader()) / 4
    loss.backward()
    weight = layer.weight.detach() - 0.1 * (layer.weight.grad + 0.3 * layer.weight.detach())
    bias = layer.bias.detach() - 0.1 * layer.bias.grad
    torch.testing.assert_close(run.end, torch.cat([weight.flatten(), bias]), rtol=1e-5, atol=1e-7)
