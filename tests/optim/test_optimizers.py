import pytest
import torch
from torch import nn

from lightning_regs.optim import make_optimizer, make_schedule


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
    schedule = make_schedule(optimizer, {"name": name, "gamma": 0.95}, epochs=9, steps=90)
    assert schedule["interval"] == "epoch"
    for _ in range(4):
        optimizer.step()
        schedule["scheduler"].step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.95**4)


@pytest.mark.parametrize(("interval", "length"), [("epoch", 9), ("step", 90)])
def test_the_length_of_training_is_filled_in(interval: str, length: int) -> None:
    optimizer = make_optimizer(parameter(), {"name": "SGD", "lr": 0.1})
    schedule = make_schedule(optimizer, {"name": "cosineannealing", "interval": interval}, epochs=9, steps=90)
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
    ],
)
def test_a_wrong_schedule_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_schedule(make_optimizer(parameter(), {"name": "SGD", "lr": 0.1}), config, epochs=1, steps=1)


def test_a_warm_up_ends_at_the_learning_rate() -> None:
    optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(1))], {"name": "SGD", "lr": 0.4})
    config = {"name": "MultiStepLR", "milestones": [6], "gamma": 0.1, "interval": "step", "warmup": 4}
    schedule = make_schedule(optimizer, config, epochs=1, steps=8)
    assert schedule["interval"] == "step"
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.04, 0.04])
    for wrong in ({"interval": "epoch"}, {"warmup": -1}, {"warmup": 0.5}):
        with pytest.raises(ValueError, match="warmup is a number of steps"):
            make_schedule(optimizer, config | wrong, epochs=1, steps=8)
