import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from lightning_regs.training.metrics import ClassificationMetrics


def test_equals_torchmetrics_over_uneven_batches() -> None:
    g = torch.Generator().manual_seed(0)
    metric, logits, targets, losses, masks = ClassificationMetrics(), [], [], [], []
    for n in (7, 1, 12):
        logit, target = torch.randn(n, 5, generator=g), torch.randint(0, 5, (n,), generator=g)
        mask = torch.rand(n, generator=g) < 0.5
        loss = torch.nn.functional.cross_entropy(logit, target)
        metric.update(loss, logit, target, mask)
        logits.append(logit), targets.append(target), losses.append(loss * n), masks.append(mask)
    all_logits, all_targets, mask = torch.cat(logits), torch.cat(targets), torch.cat(masks)

    def expected(rows: torch.Tensor) -> float:
        return 100 * multiclass_accuracy(all_logits[rows], all_targets[rows], 5, average="micro").item()

    values = metric.compute()
    assert abs(values["acc"] - expected(torch.ones_like(mask))) < 1e-4
    assert abs(values["acc_clean"] - expected(~mask)) < 1e-4
    assert abs(values["acc_corrupted"] - expected(mask)) < 1e-4
    assert abs(values["loss"] - sum(losses).item() / 20) < 1e-6


def test_groups_without_samples_are_left_out() -> None:
    metric = ClassificationMetrics()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metric.compute() == {}
    metric.reset()
    metric.update(torch.tensor(1.0), torch.eye(3), torch.arange(3))
    assert metric.compute() == {"loss": 1.0, "acc": 100.0}
    metric.update(torch.tensor(1.0), torch.eye(3), torch.arange(3), torch.zeros(3, dtype=torch.bool))
    assert set(metric.compute()) == {"loss", "acc", "acc_clean"}
