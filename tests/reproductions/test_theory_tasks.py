"""The theory of Zhang et al. as tasks, on scikit-learn's digits and on what the claims need of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

PATH = Path(__file__).parents[2] / "reproductions" / "zhang2017" / "theory.py"
SEARCH = {"relative": True, "bandwidths": [0.5, 1.0, 2.0], "ridges": [0.0, 1e-3, 1e-1], "block": 128}


class Run(SimpleNamespace):
    """A stand-in for the study engine's context."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed, device="cpu", precision="", said=[])

    def progress(self, done: float, total: float, text: str = "") -> None:
        assert 0 <= done <= total
        self.said.append(done / total)


@pytest.fixture(scope="module")
def theory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zhang2017_theory", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    y = torch.from_numpy(labels).long()
    source = SimpleNamespace(x_train=x[:400], y_train=y[:400], x_test=x[400:600], y_test=y[400:600], num_classes=10)
    module.load = lambda name: source
    module.stub = source
    return module


def test_theorem1(theory):
    run = Run()
    metrics = theory.theorem1({}, run)
    assert metrics["max_residual"] < 1e-6 < metrics["max_residual_float32"]
    assert metrics["num_weights"] == 430
    assert metrics["excess_weights"] == 0
    assert metrics["example_error"] < 1e-12
    assert theory.theorem1({"n": 50}, Run(1)) != theory.theorem1({"n": 50}, Run(2))


def test_theorem1_deep(theory):
    run = Run()
    metrics = theory.theorem1_deep({"n": 120, "d": 5, "depths": [2, 4]}, run)
    assert metrics["max_residual"] < 1e-6
    assert metrics["width_2"] == 121
    assert metrics["width_4"] == 43
    assert metrics["connections_ratio"] < 5
    assert run.said[-1] == 1


def test_min_norm(theory):
    metrics = theory.min_norm({"n": 20, "d": 100, "steps": 4000}, Run())
    assert metrics["norm_gap"] < 1e-4
    assert metrics["distance"] < 1e-6
    assert metrics["outside_span"] < 1e-10
    assert metrics["random_start_norm"] > 1.2 * metrics["norm_min"]
    assert metrics["random_start_residual"] < 1e-6
    assert metrics["random_start_distance"] < 1e-6


def test_fixed_bandwidth_is_a_noiseless_gaussian_process(theory):
    run = Run()
    metrics = theory.kernel({"bandwidths": [0.1], "block": 128, "precision": "float64"}, run)
    data = theory.stub

    def flat(x):
        return x.flatten(1).double().numpy() / 255

    targets = torch.nn.functional.one_hot(data.y_train).double().numpy()
    process = GaussianProcessRegressor(RBF((2 * 0.1) ** -0.5), alpha=0, optimizer=None).fit(flat(data.x_train), targets)
    wrong = process.predict(flat(data.x_test)).argmax(1) != data.y_test.numpy()
    assert metrics["test_error"] == pytest.approx(100 * wrong.mean())
    assert metrics["train_error"] == 0
    assert metrics["residual"] < 1e-8
    assert metrics["ridge_gain"] == 0
    assert metrics["norm"] == pytest.approx(((targets * process.alpha_).sum()) ** 0.5, rel=1e-4)
    assert run.precision == "64-true"
    assert run.said[-1] == 1


@pytest.mark.parametrize(
    ("features", "kernel", "options"),
    [
        ("pixels", "gaussian", {}),
        ("gabor", "gaussian", {"size": 5, "wavelengths": [2.5, 4.0], "pool": 2}),
        ("random_conv", "gaussian", {"num_filters": 60, "patch_size": 3, "filters_per_block": 25}),
        ("random_conv", "linear", {"num_filters": 100, "patch_size": 3}),
    ],
)
def test_kernels_interpolate_and_generalise(theory, features, kernel, options):
    config = {"features": features, "kernel": kernel, "feature_options": options, "n_train": 300, **SEARCH}
    metrics = theory.kernel(config, Run())
    assert metrics["train_error"] == 0
    assert metrics["residual"] < 1e-5
    assert metrics["test_error"] < 20
    assert metrics["n_train"] == 300
    assert metrics["ridge_gain"] == pytest.approx(metrics["test_error"] - metrics["ridge_test_error"])
    assert metrics == theory.kernel(config, Run()), "a run is a function of its seed"
    assert metrics != theory.kernel(config, Run(1))


def test_test_labels_have_no_part_in_the_choice(theory, monkeypatch):
    config = {"n_train": 200, **SEARCH}
    before = theory.kernel(config, Run())
    wrong = SimpleNamespace(**vars(theory.stub) | {"y_test": (theory.stub.y_test + 1) % 10})
    monkeypatch.setattr(theory, "load", lambda name: wrong)
    after = theory.kernel(config, Run())
    assert (after["bandwidth"], after["ridge"]) == (before["bandwidth"], before["ridge"])
    assert after["test_error"] > 80


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bandwith": 1}, "Did you mean 'bandwidths'"),
        ({"features": "gabour"}, "Did you mean 'gabor'"),
        ({"features": "gabor", "feature_options": {"pools": 2}}, "Did you mean 'pool'"),
        ({"kernel": "laplace"}, "unknown kernel"),
        ({"precision": "bfloat16"}, "unknown precision"),
        ({"n_train": 401}, "has 400 train images"),
    ],
)
def test_bad_configurations(theory, config, message):
    with pytest.raises(ValueError, match=message):
        theory.kernel(config, Run())


def test_kernels_that_cannot_fit_in_memory_are_refused(theory, monkeypatch):
    monkeypatch.setattr(theory.os, "sysconf", lambda name: 1000)
    with pytest.raises(ValueError, match="set n_train lower"):
        theory.kernel({"n_train": 400, "device": "cpu"}, Run())
