"""The plan, the claims' measures and the tasks of Smith et al. 2021, before anything is trained for real."""

from __future__ import annotations

import importlib
import math
import shutil
from pathlib import Path

import pytest

from lightning_regs.core.runs import RunContext
from lightning_regs.functional import smith_coefficient
from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.measures import Estimate
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.tasks import add_to_path, check_tasks
from lightning_regs.study.paper.verdicts import interval
from lightning_regs.study.report.card import is_stale
from lightning_regs.training import fit as engine

add_to_path(search_folders("reproductions")[0])
checks = importlib.import_module("smith2021.checks")
published = importlib.import_module("smith2021.published")
studies = importlib.import_module("smith2021.studies")
theory = importlib.import_module("smith2021.theory")
training = importlib.import_module("smith2021.training")

SEEDS = (0, 1, 2)
SCALES = ("quick", "standard", "paper")


@pytest.fixture(scope="module")
def paper() -> Paper:
    return load_paper("smith2021")


def test_every_sentence_of_the_sheet_is_a_claim(paper):
    assert {str(n) for n in range(1, 9)} <= {claim.id.partition("-")[0] for claim in paper.claims}


def test_tasks_exist(paper):
    for scale in paper.scales:
        check_tasks(scale.cells)


@pytest.mark.parametrize("name", SCALES)
def test_claims_measure_cells_that_their_scale_has(paper, name):
    metrics = ["train_acc", "test_acc", "regulariser", "error", "slope"]
    metrics += [f"order_{penalty}" for penalty in theory.PENALTIES]
    rows = Rows(
        {"cell": cell.name, "seed": seed} | dict.fromkeys(metrics, 1.0 + seed)
        for cell in paper.scale(name).cells
        for seed in SEEDS
    )
    decided = set()
    for claim in paper.claims:
        if claim.scales is not None and name not in claim.scales:
            assert claim.out_of_reach
            continue
        measured = claim.measure(rows)
        values = measured.values if isinstance(measured, Estimate) else measured
        assert len(values) == (1 if claim.exact else len(SEEDS)), claim.id
        decided.add(claim.id.partition("-")[0])
    assert {str(n) for n in range(1, 8)} <= decided


def test_quick_decides_claim_8_too(paper):
    assert any(claim.id == "8-mnist1d" and claim.scales == ("quick",) for claim in paper.claims)


def test_a_claim_that_no_rows_support_says_what_is_missing(paper):
    (claim,) = [claim for claim in paper.claims if claim.id == "4-mnist1d"]
    with pytest.raises(MissingRows, match="penalty-b20"):
        claim.measure(Rows([]))


def test_figures_from_memory_are_marked(paper):
    for claim in paper.claims:
        if claim.id.startswith(("6-", "G-", "7-mnist1d")):
            assert "recalled" in claim.provenance


def test_equal_quotients_are_equal():
    for study in studies.STUDIES:
        for group in study.equal_lr:
            assert len({2.0**lr / batch for batch, lr in group}) == 1
        for group in study.equal_penalty:
            assert len({2.0**penalty / batch for batch, _, penalty in group}) == 1


def test_novacks_penalty_is_four_times_ours(paper):
    cells = {cell.name: cell for cell in paper.scale("paper").cells}
    for model, (lr, coefficient) in published.NOVACK_SETTINGS.items():
        config = cells[f"novack-{model}/large+micro-128"].config
        (method,) = config["model"]["regularizers"]
        assert method["init_args"] == {"coefficient": 4 * coefficient, "micro_batch_size": 128}
        assert config["model"]["optimizer"]["lr"] == lr
        assert config["data"]["batch_size"] == 5120


def test_n_steps_keep_the_number_of_updates(paper):
    cells = {cell.name: cell.config for cell in paper.scale("quick").cells}
    study = studies.MNIST1D
    for n, lr in study.steps:
        config = cells[study.repeated(n, lr)]
        updates = config["trainer"]["max_epochs"] * config["data"]["batch_repeats"]
        assert study.epochs <= updates < study.epochs + n


# -- measures --------------------------------------------------------------------------------------------------------


def test_the_jackknife_of_a_quotient():
    exact = checks.jackknife([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert exact == pytest.approx([0.5, 1.0, 1.5])  # with equal denominators the quotients themselves
    gains, gaps = [0.8, 1.1, 0.9, 1.2], [1.0, 1.3, 0.2, 1.5]
    low, high = interval(checks.jackknife(gains, gaps))
    assert low < sum(gains) / sum(gaps) < high
    assert checks.jackknife([1.0], [4.0]) == [0.25]
    assert all(map(math.isnan, checks.jackknife([1.0, 1.0], [0.0, 0.0])))


def test_the_share_of_the_gap_pairs_seeds():
    accuracies = {"penalised": 84.0, "plain": 80.0, "best": 85.0}
    rows = [{"cell": cell, "seed": seed, "test_acc": acc + seed} for cell, acc in accuracies.items() for seed in SEEDS]
    rows.append({"cell": "best", "seed": 7, "test_acc": 0.0})
    assert checks.closed("penalised", "plain", "best")(Rows(rows)) == pytest.approx([0.8] * 3)


def test_the_distance_of_the_peaks_is_that_of_the_averaged_curves():
    found = {
        ("sgd", -2): (50, 60),
        ("sgd", -1): (70, 41),
        ("lam", -2): (10, 32),
        ("lam", -1): (30, 30),
        ("lam", 0): (40, 21),
    }
    rows = Rows(
        {"cell": f"{kind}{exponent}", "seed": seed, "test_acc": float(value)}
        for (kind, exponent), values in found.items()
        for seed, value in enumerate(values)
    )
    measure = checks.peak_distance({-2: "sgd-2", -1: "sgd-1"}, {-2: "lam-2", -1: "lam-1", 0: "lam0"})
    estimate = measure(rows)
    assert estimate.ours == 1.0  # means 55 and 55.5; 21, 30 and 30.5
    assert estimate.values == (1.0, 0.0)
    assert (estimate.low, estimate.high) == (0.0, 1.0)  # both seeds, the first twice, the second twice


# -- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full_batch", [False, True])
def test_a_quarter_of_the_learning_rate_is_the_third_order_flow(tmp_path, full_batch):
    run = RunContext(tmp_path, seed=1001)
    metrics = theory.modified_flow({"full_batch": full_batch, "lr": 0.01, "halvings": 2}, run)
    assert metrics["order_quarter"] == pytest.approx(3.0, abs=0.1)
    assert metrics["order_none"] == pytest.approx(2.0, abs=0.1)
    assert metrics["order_half"] == pytest.approx(2.0, abs=0.1)
    assert metrics["error_quarter_2"] < 0.1 * min(metrics["error_none_2"], metrics["error_half_2"])
    assert metrics["lr_2"] == 0.0025


def test_the_mean_penalty_over_batches(tmp_path):
    metrics = theory.batch_composition({"n": 6, "batch_sizes": [1, 2, 3]}, RunContext(tmp_path))
    assert metrics["error"] < 1e-13
    assert metrics["slope"] == pytest.approx(-1.0, abs=1e-9)
    assert 1 > metrics["share_1"] > metrics["share_2"] > metrics["share_3"] > 0


def test_theory_refuses_options_that_there_are_not(tmp_path):
    with pytest.raises(ValueError, match="halvings"):
        theory.modified_flow({"halving": 2}, RunContext(tmp_path))


def _small(cell):
    data = cell.config["data"] | {"train_size": 60, "test_size": 40}
    return cell.config | {"data": data, "trainer": cell.config["trainer"] | {"max_epochs": 1, "accelerator": "cpu"}}


@pytest.mark.parametrize("part", ["sgd-b20-lr2^-3", "penalty-b20-lr2^-3-lam2^-2", "n2-", "-micro20"])
def test_quick_cells_train(paper, tmp_path, part):
    cell = next(cell for cell in paper.scale("quick").cells if part in cell.name)
    metrics = training.train(_small(cell), RunContext(tmp_path, seed=1000))
    assert metrics["regulariser"] > 0
    assert {"train_acc", "test_acc", "train_loss"} <= set(metrics)


def test_measuring_the_regulariser_changes_nothing_else(paper, tmp_path):
    config = _small(paper.scale("quick").cells[4])
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours = training.train(config, RunContext(tmp_path / "ours", seed=1000))
    plain = {key: value for key, value in config.items() if key != "regulariser_batch"}
    theirs = engine.train(plain, RunContext(tmp_path / "theirs", seed=1000))
    del ours["regulariser"]
    assert ours == pytest.approx(theirs, nan_ok=True, abs=0)


def test_the_card_names_parts_that_exist(paper, tmp_path):
    assert paper.folder is not None
    shutil.copy(Path(paper.folder) / "README.md", tmp_path / "README.md")
    is_stale(tmp_path / "README.md", [paper])  # raises for a marker that is unknown or not closed


def test_coefficients_of_the_other_papers_are_converted(paper):
    cells = {cell.name: cell for cell in paper.scale("paper").cells}

    def coefficient(name):
        return cells[name].config["model"]["regularizers"][0]["init_args"]["coefficient"]

    assert coefficient("novack-resnet18/large+micro-128") == smith_coefficient(0.01, "plain")
    assert coefficient("novack-vgg11/large+micro-128") == smith_coefficient(0.5, "plain")
    converted = smith_coefficient(0.5, "block_strength", lr=0.8)
    assert coefficient("geiping-resnet18/full-batch+clip+penalty") == pytest.approx(converted)
