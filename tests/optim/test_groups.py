"""Groups of parameters by name, against groups that are made by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_regs.core.runs import RunContext
from lightning_regs.optim.build import check_optimization, make_optimizer
from lightning_regs.training.fit import fit

GROUPS: dict[str, Any] = {"*bias": {"weight_decay": 0.0}, "1.*": {"lr": 0.01}}


def a_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_group_has_its_own_numbers_and_the_first_glob_counts(around: bool, compiled: bool) -> None:
    """Three steps equal those of torch's optimizer with the groups made by hand."""
    ours, theirs = a_net(), a_net()
    config: dict[str, Any] = {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "groups": GROUPS}
    named = (torch.compile(ours, backend="eager") if compiled else ours).named_parameters()
    optimizer = make_optimizer(named, {"name": "Lookahead", "base": config, "alpha": 1.0} if around else config)
    by_hand = torch.optim.SGD(
        [
            {"params": [theirs[0].weight, theirs[2].weight]},
            {"params": [theirs[0].bias, theirs[1].bias, theirs[2].bias], "weight_decay": 0.0},
            {"params": [theirs[1].weight], "lr": 0.01},
        ],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.1,
    )
    x = torch.randn(8, 3, dtype=torch.float64)
    for _ in range(3):
        for net, stepped in ((ours, optimizer), (theirs, by_hand)):
            stepped.zero_grad()
            net(x).square().sum().backward()
            stepped.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_in_a_configuration_with_a_schedule(tmp_path: Path) -> None:
    """A schedule multiplies each group's own rate; those of no group have the rate of all."""
    groups = {"*head.bias": {"lr": 0.5, "weight_decay": 1.0}}
    config = {
        "model": {
            "architecture": "mlp",
            "architecture_args": {"hidden": [4]},
            "optimizer": {"name": "SGD", "lr": 1e-9, "groups": groups},
            "schedule": {"name": "StepLR", "step_size": 1, "gamma": 0.5},
        },
        "data": {"source": "digits", "train_size": 50, "batch_size": 50},
        "trainer": {"max_epochs": 2, "precision": "64-true"},
    }
    trained = fit(config, RunContext(tmp_path, 0, 1))
    rates = [group["lr"] for group in trained.trainer.optimizers[0].param_groups]
    assert rates == [2.5e-10, 0.125]


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"*bas": {"lr": 1.0}}, "the glob '*bas' matches none of the 6 parameters"),
        ({"*": {"lr": 1.0}, "*bias": {"lr": 2.0}}, "the glob '*bias' matches none of the 0 parameters that no other"),
        ({"*bias": {"lr": -1.0}}, "Invalid learning rate: -1.0"),
        ({"*bias": {"rate": 1.0}}, "unexpected keyword argument 'rate'"),
        ({"*bias": {"name": "Adam"}}, "the group '*bias' has 'name', and one optimizer"),
        ({"*bias": {"groups": {}}}, "the group '*bias' has 'groups', and one optimizer steps all"),
        (
            {"*bias": {"lr": [0.1, 0.2]}},
            "lr is one a replica, and the group '*bias' has its own; give one number for all",
        ),
        ({"*bias": 0.1}, "groups['*bias'] must be a mapping, got 0.1"),
        ([1], "groups must be a mapping, got [1]"),
    ],
)
def test_bad_groups_are_refused(groups: Any, says: str) -> None:
    """By a Classifier at construction, where it takes no net to see it."""
    config = {"name": "SGD", "lr": 0.1, "groups": groups}
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        make_optimizer(a_net().named_parameters(), config)
    if "the glob" not in says:
        with pytest.raises((ValueError, TypeError), match=re.escape(says)):
            check_optimization(config, None)


@pytest.mark.parametrize("own", [{"fused": False}, {"foreach": True}, {"capturable": True}])
def test_a_group_chooses_its_kernels(own: dict[str, Any]) -> None:
    """As the optimizer does; the others have ours."""
    optimizer = make_optimizer(a_net().named_parameters(), {"name": "Adam", "groups": {"*bias": own}})
    assert [bool(group["fused"]) for group in optimizer.param_groups] == [True, False]
    assert own.items() <= optimizer.param_groups[1].items()


def test_of_ranger_a_group_is_centralized_as_it_says() -> None:
    """One step moves a weight as if all were centralized like its group."""
    moved, off = {}, {"centralize": False}
    for name, own in {"ours": {"groups": {"2.*": off}}, "off": off, "on": {}}.items():
        net = a_net()
        optimizer = make_optimizer(net.named_parameters(), {"name": "Ranger", "lr": 0.1, **own})
        net(torch.arange(24.0, dtype=torch.float64).view(8, 3).sin()).square().sum().backward()
        optimizer.step()
        moved[name] = [net[0].weight, net[2].weight]
    assert torch.equal(moved["ours"][0], moved["on"][0])
    assert torch.equal(moved["ours"][1], moved["off"][1])
    assert not torch.equal(moved["ours"][1], moved["on"][1])


@pytest.mark.parametrize("began", [{}, {"*weight": {"lr": 0.1}}, {"0.*": {"lr": 0.1}}])
@pytest.mark.parametrize("around", [False, True])
def test_a_state_of_other_groups_is_refused(began: dict[str, Any], around: bool) -> None:
    """Torch counts groups and their sizes alone, and fused kernels write beyond buffers of other shapes."""

    def made(groups: dict[str, Any]) -> torch.optim.Optimizer:
        config: dict[str, Any] = {"name": "SGD", "lr": 0.1, "momentum": 0.9, "groups": groups}
        config = {"name": "Lookahead", "base": config} if around else config
        return make_optimizer(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).named_parameters(), config)

    groups = {"*bias": {"lr": 0.1}}
    for before, after in ((began, groups), (groups, began)):
        with pytest.raises(ValueError, match="go on with the groups that the training began with"):
            made(after).load_state_dict(made(before).state_dict())
    made(groups).load_state_dict(made(groups).state_dict())


def test_what_the_training_would_refuse_is_refused_before() -> None:
    """A list for the replicas beside a group's own, and an optimizer without groups."""
    listed = {"name": "SGD", "lr": [0.1, 0.2], "groups": {"*bias": {"lr": 0.1}}}
    with pytest.raises(ValueError, match="lr is one a replica, and the group"):
        check_optimization(listed, None, 2)
    with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
        check_optimization({"name": "LBFGS", "groups": {"*bias": {"lr": 0.1}}}, None)
    assert len(make_optimizer(a_net().parameters(), {"name": "SGD", "groups": {}}).param_groups) == 1


def test_names_are_asked_for_and_a_cycle_has_one_rate() -> None:
    """A schedule that sets each group's rate would undo a group's own without a word."""
    config = {"name": "SGD", "lr": 0.1, "groups": GROUPS}
    with pytest.raises(ValueError, match="go by parameters' names"):
        make_optimizer(a_net().parameters(), config)
    around = {"name": "Lookahead", "base": {"name": "SGD", "lr": 0.1}, "groups": GROUPS}
    with pytest.raises(ValueError, match="belong to the base"):
        make_optimizer(a_net().named_parameters(), around)
    cycle = {"name": "OneCycleLR", "max_lr": 1.0}
    for optimizer in (config, {"name": "Lookahead", "base": config}):
        with pytest.raises(ValueError, match="lr is a group's own, and OneCycleLR has its own, which is for all"):
            check_optimization(optimizer, cycle)
    betas = {"name": "Adam", "groups": {"*bias": {"betas": [0.5, 0.9]}}}
    with pytest.raises(ValueError, match="betas is a group's own, and OneCycleLR"):
        check_optimization(betas, cycle)
