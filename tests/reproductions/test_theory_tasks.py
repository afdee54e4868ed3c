"""The theory of Zhang et al. as tasks, on scikit-learn's digits and on what the claims need of them."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from lightning_regs.core.files import lock
from lightning_regs.data.sources import ArraySource, load
from lightning_regs.study import RunContext, load_paper

SEARCH = {"relative": True, "bandwidths": [0.5, 1.0, 2.0], "ridges": [0.0, 1e-3, 1e-1]}


@pytest.fixture
def theory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, on 400 training and 200 test images of digits."""
    load_paper("zhang2017")
    import zhang2017.theory as module

    digits = load("digits")
    x, y = torch.cat([digits.x_train, digits.x_test]), torch.cat([digits.y_train, digits.y_test])
    cut = ArraySource("cut", x_train=x[:400], y_train=y[:400], x_test=x[400:600], y_test=y[400:600], num_classes=10)
    monkeypatch.setattr(module, "load", lambda name: cut)
    monkeypatch.setattr(module, "cut", cut, raising=False)
    monkeypatch.setattr(module, "BLOCK", 128)
    return module


@pytest.fixture
def run(tmp_path):
    return RunContext(tmp_path)


def test_theorem1(theory, run):
    metrics = theory.theorem1({}, run)
    assert metrics["max_residual"] < 1e-6 < metrics["max_residual_float32"]
    assert (metrics["num_weights"], metrics["excess_weights"]) == (430, 0)
    assert metrics["example_error"] < 1e-12
    assert run.precision == "64-true"


def test_theorem1_deep(theory, run, monkeypatch):
    for name, number in (("POINTS", 120), ("INPUTS", 5), ("DEPTHS", (2, 4))):
        monkeypatch.setattr(theory, name, number)
    metrics = theory.theorem1_deep({}, run)
    assert metrics["max_residual"] < 1e-6
    assert (metrics["width_2"], metrics["width_4"]) == (121, 43)
    assert metrics["width_ratio"] == pytest.approx(43 / 40)
    assert metrics["connections_ratio"] < 5


@pytest.mark.slow
def test_min_norm(theory, run, monkeypatch):
    for name, number in (("EQUATIONS", 20), ("UNKNOWNS", 100), ("STEPS", 4000)):
        monkeypatch.setattr(theory, name, number)
    metrics = theory.min_norm({}, run)
    assert metrics["norm_gap"] < 1e-4
    assert metrics["distance"] < 1e-6
    assert metrics["outside_span"] < 1e-10
    assert metrics["random_start_norm"] > 1.2 * metrics["norm_min"]
    assert max(metrics["random_start_residual"], metrics["random_start_distance"]) < 1e-6


def test_fixed_bandwidth_is_a_noiseless_gaussian_process(theory, run):
    metrics = theory.kernel({"bandwidths": [0.1], "precision": "float64"}, run)
    x, x_test = (part.flatten(1).double().numpy() / 255 for part in (theory.cut.x_train, theory.cut.x_test))
    targets = torch.nn.functional.one_hot(theory.cut.y_train.long()).double().numpy()
    process = GaussianProcessRegressor(RBF((2 * 0.1) ** -0.5), alpha=0, optimizer=None).fit(x, targets)
    wrong = process.predict(x_test).argmax(1) != theory.cut.y_test.numpy()
    assert metrics["test_error"] == pytest.approx(100 * wrong.mean())
    assert metrics["train_error"] == metrics["ridge_gain"] == 0
    assert metrics["residual"] < 1e-8
    assert metrics["norm"] == pytest.approx(((targets * process.alpha_).sum()) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("features", "options"),
    [
        ("pixels", {}),
        ("gabor", {"size": 5, "wavelengths": [2.5, 4.0], "pool": 2}),
        ("random_conv", {"num_filters": 60, "patch_size": 3}),
    ],
)
def test_kernels_interpolate_and_generalise(theory, tmp_path, monkeypatch, features, options):
    monkeypatch.setattr(theory, "FILTERS", 25)
    config = {"features": features, "feature_options": options, "n_train": 300, **SEARCH}
    metrics = theory.kernel(config, RunContext(tmp_path))
    assert metrics["train_error"] == 0
    assert metrics["residual"] < 1e-5
    assert metrics["test_error"] < 20
    assert metrics["ridge_gain"] == pytest.approx(metrics["test_error"] - metrics["ridge_test_error"])
    assert metrics == theory.kernel(config, RunContext(tmp_path)), "a run is a function of its seed"
    assert metrics != theory.kernel(config, RunContext(tmp_path, 1))


def test_test_labels_have_no_part_in_the_choice(theory, run, monkeypatch):
    before = theory.kernel({"n_train": 200, **SEARCH}, run)
    monkeypatch.setattr(theory, "load", lambda name: replace(theory.cut, y_test=(theory.cut.y_test + 1) % 10))
    after = theory.kernel({"n_train": 200, **SEARCH}, run)
    assert (after["bandwidth"], after["ridge"]) == (before["bandwidth"], before["ridge"])
    assert after["test_error"] > 80


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bandwith": 1}, "It takes: source, n_train, n_test, features, feature_options, bandwidths,"),
        ({"features": "gabour"}, "Did you mean 'gabor'"),
        ({"features": "random_conv", "feature_options": {"pools": 2}}, "It takes: num_filters, patch_size"),
        ({"precision": "bfloat16"}, "unknown precision"),
        ({"n_train": 401}, "has 400 train images"),
    ],
)
def test_bad_configurations(theory, run, config, message):
    with pytest.raises(ValueError, match=message):
        theory.kernel(config, run)


def test_kernels_that_cannot_fit_in_memory_are_refused(theory, run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(theory.os, "sysconf", lambda name: 500)
    with pytest.raises(ValueError, match="set n_train lower"):
        theory.kernel({"n_train": 400}, run)


def test_large_kernels_are_never_at_once(theory, run, monkeypatch, tmp_path):
    monkeypatch.setattr(theory.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(theory, "_memory", lambda device: 1e6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small, large = {"n_train": 20}, {"n_train": 300}
    others, said = contextlib.ExitStack(), []
    others.enter_context(lock(tmp_path / f"lightning-regs-{os.getuid()}", file="cpu"))

    def progress(done: float, total: float, text: str = "") -> None:
        said.append(text)
        if "waiting" in text:
            threading.Timer(0.2, others.close).start()

    monkeypatch.setattr(run, "progress", progress)
    theory.kernel(small, run)
    assert "waiting for another kernel" not in said
    assert theory.kernel(large, run)["train_error"] == 0
    assert said.count("waiting for another kernel") == 1


def test_a_card_is_asked_for_its_free_memory(theory, run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 20))
    assert theory._memory(torch.device("cuda", 0)) == 10
