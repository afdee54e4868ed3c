import pytest
import torch
from torch import nn

from lightning_regs.optim import build, make_optimizer, make_schedules


def parameter() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize("name", ["SGD", "sgd", "Adam", "RMSprop"])
def test_builds_torch_optimizers_whatever_the_letter_case(name: str) -> None:
    optimizer = make_optimizer(parameter(), {"name": name, "lr": 0.25})
    assert type(optimizer) in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop)
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("name", ["ExponentialLR", "exponential", "exponentiallr"])
def test_exponential_decay_follows_its_closed_form(name: str) -> None:
    optimizer = make_optimizer(parameter(), {"name": "SGD", "lr": 0.1})
    (schedule,) = make_schedules(optimizer, {"name": name, "gamma": 0.95}, epochs=9, steps=90)
    assert schedule["interval"] == "epoch"
    for _ in range(4):
        optimizer.step()
        schedule["scheduler"].step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.95**4)


@pytest.mark.parametrize(("interval", "length"), [("epoch", 9), ("step", 90)])
def test_the_length_of_training_is_filled_in(interval: str, length: int) -> None:
    optimizer = make_optimizer(parameter(), {"name": "SGD", "lr": 0.1})
    (schedule,) = make_schedules(optimizer, {"name": "cosineannealing", "interval": interval}, epochs=9, steps=90)
    assert schedule["scheduler"].T_max == length


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "SDG", "lr": 0.1}, "unknown optimizer 'SDG'. Did you mean 'SGD'"),
        ({"lr": 0.1}, "has no name"),
        ({"name": "SGD", "lr": -1}, "-1"),
        ({"name": "SGD", "lr": 0.1, "momentun": 0.9}, "momentun.*It takes: lr, momentum"),
    ],
)
def test_a_wrong_optimizer_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_optimizer(parameter(), config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "Exponental", "gamma": 0.9}, "unknown schedule 'Exponental'. Did you mean 'ExponentialLR'"),
        ({"name": "ExponentialLR"}, "gamma"),
        ({"name": "ExponentialLR", "gamma": 0.9, "interval": "batch"}, "'batch' is unknown; use 'epoch' or 'step'"),
        ({"name": "LambdaLR"}, "unknown schedule"),
        (
            {"name": "OneCycleLR", "max_lr": 1.0, "warmup": 5},
            "OneCycleLR sets the learning rate.*leave warmup",
        ),
        ({"name": "ExponentialLR", "gamma": 0.9, "warmup": -1}, "warmup must be at least 0, got -1"),
    ],
)
def test_a_wrong_schedule_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_schedules(make_optimizer(parameter(), {"name": "SGD", "lr": 0.1}), config, epochs=1, steps=1)


def rates(config: dict[str, object], steps: int, an_epoch: int = 5) -> list[float]:
    """The learning rate of each step of a training in which schedules are stepped at their intervals."""
    optimizer = make_optimizer(parameter(), {"name": "SGD", "lr": 0.4})
    schedules = make_schedules(optimizer, config, epochs=steps // an_epoch, steps=steps)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for schedule in schedules:
            if schedule["interval"] == "step" or (step + 1) % an_epoch == 0:
                schedule["scheduler"].step()
    return found


def test_a_warmup_alone_is_torchs_linear_rise_before_a_constant() -> None:
    optimizer = make_optimizer(parameter(), {"name": "SGD", "lr": 0.4})
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 8, total_iters=7)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, constant], milestones=[8])
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert rates({"warmup": 8}, 12) == pytest.approx(expected)
    assert expected[:3] == pytest.approx([0.05, 0.1, 0.15])
    assert expected[7:] == pytest.approx([0.4] * 5)
    assert rates({"warmup": 1}, 3) == [0.4] * 3


@pytest.mark.parametrize(
    "config",
    [
        {"name": "MultiStepLR", "milestones": [4, 12], "gamma": 0.1, "interval": "step"},
        {"name": "ExponentialLR", "gamma": 0.9},
        {"name": "CosineAnnealingLR", "interval": "step"},
        {"name": "PolynomialLR", "power": 2.0},
    ],
)
def test_a_warmup_multiplies_what_the_schedule_says(config: dict[str, object]) -> None:
    without, warmed = rates(config, 20), rates(config | {"warmup": 6}, 20)
    assert warmed == pytest.approx([rate * min(1, (t + 1) / 6) for t, rate in enumerate(without)])


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_a_rate_of_one_over_time_follows_its_closed_form(power: float) -> None:
    config: dict[str, object] = {"name": "inverse_time", "gamma": 0.3, "power": power, "interval": "step"}
    assert rates(config, 9) == pytest.approx([0.4 / (1 + 0.3 * t) ** power for t in range(9)])
    warmed = [0.4 * min(1, (t + 1) / 4) / (1 + 0.3 * t) ** power for t in range(9)]
    assert rates(config | {"warmup": 4}, 9) == pytest.approx(warmed)


def test_an_optimizer_of_this_folder_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(torch.optim.SGD):
        """Is in a file of its own."""

    build.optimizers.cache_clear()
    monkeypatch.setattr(build.registry, "subclasses", lambda package, base: {"Slow": Slow})
    assert type(make_optimizer(parameter(), {"name": "slow", "lr": 0.1})) is Slow
    build.optimizers.cache_clear()
