"""What is particular to Smith et al. 2021: its plan, its theory, its task, and what its figures compare."""

from __future__ import annotations

import csv
import importlib

import pytest

from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.report import plots
from lightning_regs.study.store.curves import Curves
from lightning_regs.training import fit as engine

PAPER = load_paper("smith2021")
cells = importlib.import_module("smith2021.cells")
theory = importlib.import_module("smith2021.theory")
training = importlib.import_module("smith2021.training")

NET = cells.MNIST1D
LARGE = [*NET.large_batches().values()]
QUICK = {cell.name: cell for cell in PAPER.scale("quick").cells}


@pytest.mark.parametrize(("scale", "runs"), [("quick", 250), ("standard", 157)])
def test_every_committed_row_is_of_a_declared_run(scale, runs):
    cells = {cell.name: cell for cell in PAPER.scale(scale).cells}
    with (PAPER.folder / "results" / f"{scale}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == runs
    assert all(cells[row["cell"]].hash(int(row["seed"])) == row["config_hash"] for row in rows)


@pytest.mark.parametrize(("scale", "last"), [("quick", 8), ("standard", 7), ("paper", 8)])
def test_every_sentence_of_the_sheet_is_a_claim(scale, last):
    judged = {c.id.partition("-")[0] for c in PAPER.claims if c.at(scale) is not None or c.kind == "theory"}
    assert {str(number) for number in range(1, last + 1)} <= judged


def test_numbers_from_memory_are_marked():
    for claim in PAPER.claims:
        if claim.id.startswith(("6", "G-", "7-lam")):
            assert claim.origin == "recalled", claim.id
            assert "recalled" in claim.provenance


def test_equal_quotients_are_equal():
    for scale in PAPER.scales:
        for claim in filter(None, (c.at(scale.name) for c in PAPER.claims if c.id in ("7", "7-middle"))):
            configs = [cell.config for cell in scale.cells.only(*claim.measure.cells)]
            quotients = {c["model"]["optimizer"]["lr"] / c["data"]["batch_size"] for c in configs}
            assert len(configs) >= 2
            assert len(quotients) == len(configs) // 2


def test_penalised_runs_of_two_batch_sizes_have_an_equal_quotient():
    for scale in (PAPER.scale("quick"), PAPER.scale("paper")):
        (claim,) = (claim.at(scale.name) for claim in PAPER.claims if claim.id == "7-lam")
        configs = [cell.config for cell in scale.cells.only(*claim.measure.cells)]
        assert len({coefficient(c) / c["data"]["batch_size"] for c in configs}) == 1


def test_several_updates_a_minibatch_keep_the_number_of_updates():
    for n, lr in ((2, -2), (4, -3)):
        config = QUICK[f"mnist1d/n{n}-b20-lr2^{lr}"].config
        updates = config["trainer"]["max_epochs"] * config["data"]["batch_repeats"]
        assert config["data"]["batch_repeats"] == n
        assert 50 <= updates < 50 + n


def coefficient(config):
    return config["model"]["regularizers"][0]["init_args"]["coefficient"]


def test_coefficients_of_the_other_papers_are_converted():
    cells = {cell.name: cell.config for cell in PAPER.scale("paper").cells}
    for net, lr, theirs in (("resnet18", 0.1, 0.01), ("vgg11", 0.01, 0.5)):
        config = cells[f"novack-{net}/large+micro-128"]
        assert coefficient(config) == 4 * theirs  # of c ||g||^2, and ours of c/4 ||g||^2
        assert config["model"]["optimizer"]["lr"] == lr
        assert config["data"]["batch_size"] == 5120
    converted = 4 * 0.5 * 0.8 / 8  # of c lr/8 ||g||^2
    assert coefficient(cells["geiping-resnet18/full-batch+clip+penalty"]) == pytest.approx(converted)


# -- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.slow
def test_a_quarter_of_the_learning_rate_is_the_third_order_flow(tmp_path, monkeypatch, full_batch):
    monkeypatch.setattr(theory, "RATES", [0.01, 0.005, 0.0025])
    metrics = theory.modified_flow({"full_batch": full_batch}, RunContext(tmp_path, seed=1001))
    assert metrics["order_quarter"] == pytest.approx(3.0, abs=0.1)
    assert metrics["order_none"] == pytest.approx(2.0, abs=0.1)
    assert metrics["order_half"] == pytest.approx(2.0, abs=0.1)
    assert metrics["error_quarter_2"] < 0.1 * min(metrics["error_none_2"], metrics["error_half_2"])
    assert metrics["lr_2"] == 0.0025


def test_the_mean_penalty_over_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(theory, "SAMPLES", 6)
    monkeypatch.setattr(theory, "SIZES", (1, 2, 3))
    metrics = theory.batch_composition({}, RunContext(tmp_path))
    assert metrics["error"] < 1e-13
    assert metrics["slope"] == pytest.approx(-1.0, abs=1e-9)
    assert 1 > metrics["share_1"] > metrics["share_2"] > metrics["share_3"] > 0


def test_a_name_says_what_it_is():
    said = cells.read("net/large-b100-lr2^-1-lam2^-3-micro20-clip1")
    assert (said[cells.LR], said[cells.BATCH]) == (0.5, 100)
    options = {"coefficient": 0.125, "micro_batch_size": 20, "gradient_clip_val": 1.0}
    assert [each["init_args"] for each in said["model.regularizers"]] == [options]
    whole = cells.read("net/large-b100-lr2^-1-lam2^-3-micro100")
    assert [each["init_args"] for each in whole["model.regularizers"]] == [{"coefficient": 0.125}]
    assert cells.read("wide-16-4/n4-lr2^-10") == {cells.LR: 2.0**-10, "data.batch_repeats": 4}


def small(cell):
    data = cell.config["data"] | {"train_size": 60, "test_size": 40}
    return cell.config | {"data": data, "trainer": cell.config["trainer"] | {"max_epochs": 1, "accelerator": "cpu"}}


@pytest.mark.parametrize("name", [NET.penalised(-2), "mnist1d/n2-b20-lr2^-2", *LARGE[2::2]])
def test_measuring_the_regulariser_changes_nothing_else(tmp_path, name):
    config = small(QUICK[name])
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    ours = training.train(config, RunContext(tmp_path / "ours", seed=1000))
    plain = {key: value for key, value in config.items() if key != "regulariser_batch"}
    theirs = engine.train(plain, RunContext(tmp_path / "theirs", seed=1000))
    assert ours.pop("regulariser") > 0
    assert {"train_acc", "test_acc", "train_loss"} <= set(ours)
    assert ours == pytest.approx(theirs, nan_ok=True, abs=0)


# -- figures ---------------------------------------------------------------------------------------------------------


def drawn(paper: Paper, figure_id: str):
    """Draw a figure of the quick scale, where a cell's accuracy is its number; two seeds one point apart."""
    rows = Rows(
        {"cell": name, "seed": seed, "test_acc": 30.0 + number + seed}
        for number, name in enumerate(QUICK)
        for seed in (0, 1)
    )
    (figure,) = (figure for figure in paper.figures_at("quick") if figure.id == figure_id)
    with plots.style():
        axes = figure.render(rows, Curves(), paper.published("quick")).axes[0]
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    return axes, {name: list(line.get_xdata()) for name, line in lines.items()}


def test_both_sweeps_share_the_axes():
    _, found = drawn(PAPER, "fig1b")
    assert found["learning rate, no penalty"] == [2.0**lr for lr in NET.lrs]
    assert found["coefficient, at learning rate 2⁻³"] == [2.0**lam for lam in NET.lams]


def test_equal_quotients_stand_above_each_other():
    _, found = drawn(PAPER, "fig2a")
    assert set(found) == {"batch 10", "batch 20", "batch 40"}
    assert 0.025 in set.intersection(*map(set, found.values()))
    assert set(drawn(PAPER, "fig2b")[1]) == {"batch 20", "batch 40"}
    assert drawn(PAPER, "fig3")[1]["n = 4"] == [2.0**-3]


def test_large_batches_stand_beside_novacks():
    axes, _ = drawn(PAPER, "large-batch")
    assert len(axes.get_yticks()) == 5 + 6
    rings = {line.get_xdata()[0] for line in axes.lines if line.get_markerfacecolor() == "none"}
    assert {92.64, 89.83, 91.75, 78.19, 73.90, 77.62} <= rings
