"""Tuned methods: which setting is chosen, on what, and what is said where the grid was too narrow."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from lightning_regs.study import (
    Claim,
    MissingRows,
    Paper,
    Rows,
    Scale,
    Tuned,
    difference,
    grid,
    grid_search,
    lower,
    trained,
    value,
    weighted_sum,
)
from lightning_regs.study.lock.fingerprint import plans
from lightning_regs.study.paper.claims import Source
from lightning_regs.study.paper.estimates import UnfitError, mean
from lightning_regs.study.paper.verdicts import evaluate
from lightning_regs.study.report.telling import in_common, tell

VAL = {0.01: (30, 32, 31), 0.1: (20, 24, 22), 1.0: (21, 23, 28)}  # validation errors; the second is the best on average
TEST = {0.01: (1, 2, 3), 0.1: (21, 23, 28), 1.0: (4, 5, 6)}  # test errors, by which it would be the last


def made(val=VAL):
    return [{"cell": f"sgd/{lr}", "seed": seed, "val_acc": 100.0 - number, "test_acc": 100.0 - TEST[lr][seed]}
            for lr, numbers in val.items() for seed, number in enumerate(numbers)]  # fmt: skip


def tuned(name="sgd", of=VAL, **about):
    return Tuned(name, {lr: f"{name}/{lr}" for lr in of}, **about)


def test_the_setting_is_chosen_once_for_all_seeds_by_held_out_data():
    rows = Rows(made())
    assert value(tuned(), "test_error").values(rows) == [21, 23, 28]
    assert value(tuned(by="val_acc"), "test_error").values(rows) == [21, 23, 28]
    assert value(tuned(by="test_error"), "test_error").values(rows) == [1, 2, 3]
    found = value(tuned(), "test_error")(rows)
    assert found.ends(0.95) == pytest.approx(mean([21, 23, 28]).ends(0.95))
    assert found.tuned == ("sgd: learning rate 0.1, of 3 trials by val error",)
    assert found.invalid == ""


def test_a_search_makes_the_cells_of_a_grid_and_the_method_that_is_tuned_over_them():
    config = "configs/methods.yaml"
    sgd = grid_search("sgd/lr-{lr}", config, {"model.optimizer": {"name": "SGD"}}, lr=(0.1, 1), stack=True)
    assert (sgd.name, sgd.grid, len(sgd)) == ("sgd", {0.1: "sgd/lr-0.1", 1: "sgd/lr-1"}, 2)
    rates = {lr: {"model.optimizer.lr": lr} for lr in (0.1, 1)}
    assert sgd.cells == grid("sgd/lr-{lr}", config, {"model.optimizer": {"name": "SGD"}}, stack="sgd", lr=rates)

    plane = grid_search(
        "a/adam/{lr}/{decay}", config, lr=(0.1, 0.5), decay=(0, 1), of=("learning rate", "weight decay"), method="Adam",
        sets=lambda lr, decay: {"model.optimizer": {"name": "Adam", "lr": lr, "weight_decay": decay / lr}},
    )  # fmt: skip
    assert (plane.name, plane.grid[0.5, 1]) == ("Adam", "a/adam/0.5/1")
    assert plane.cells[-1].config["model"]["optimizer"] == {"name": "Adam", "lr": 0.5, "weight_decay": 2}
    with pytest.raises(ValueError, match=re.escape("sets 'model.optimizer.lr' to 2 numbers; give a function of them")):
        grid_search("a/{lr}/{decay}", config, lr=(0.1,), decay=(0, 1), of=("learning rate", "weight decay"))
    with pytest.raises(ValueError, match=re.escape("write {lr} in it")):
        grid_search("sgd", config, lr=(0.1, 1))


def test_it_stands_wherever_a_cell_does():
    rows = Rows([*made(), *({"cell": "plain", "seed": seed, "test_acc": 70.0} for seed in range(3))])
    expected = np.array([30 - 21, 30 - 23, 30 - 28])
    assert difference("plain", tuned(), "test_error").values(rows) == pytest.approx(expected)
    assert weighted_sum((1, "plain", "test_error"), (-1, tuned(), "test_error")).values(rows) == pytest.approx(expected)
    assert lower("1", "It is.", tuned(), "plain", kind="control").measure.cells == ("plain", *tuned())


def test_of_equals_the_first_is_chosen_and_what_diverged_never():
    assert Rows(made(val=dict.fromkeys(VAL, (5, 6, 7)))).chosen(tuned()) == 0.01
    assert Rows(made(val=VAL | {0.1: (0, 0, math.nan)})).chosen(tuned()) == 1.0
    with pytest.raises(UnfitError, match="no setting of sgd has a finite mean val_error"):
        Rows(made(val=dict.fromkeys(VAL, (math.nan,) * 3))).chosen(tuned())


def test_only_seeds_that_all_cells_have_count():
    fewer = [row for row in made() if (row["cell"], row["seed"]) != ("sgd/1.0", 2)]
    assert value(tuned(), "test_error").values(Rows(fewer)) == [21, 23]
    with pytest.raises(MissingRows, match=r"cell 'sgd/1\.0' has no rows"):
        value(tuned())(Rows([row for row in made() if row["cell"] != "sgd/1.0"]))
    apart = [row for row in made() if (row["cell"] == "sgd/1.0") == (row["seed"] == 0)]
    with pytest.raises(MissingRows, match="no seed in common"):
        value(tuned())(Rows(apart))


@pytest.mark.parametrize(
    ("best", "said"),
    [
        ((0.1, 0.0), ""),  # nothing is below 0
        ((0.01, 0.1), "lower edge of its grid of the learning rate"),
        ((1.0, 0.2), "upper edge of its grid of the learning rate and the upper edge of its grid of the weight decay"),
    ],
)
def test_a_best_setting_at_an_edge_is_told(best, said):
    plane = {(lr, decay): f"{lr}-{decay}" for lr in (0.01, 0.1, 1.0) for decay in (0.0, 0.1, 0.2)}
    method = Tuned("adam", plane, of=("learning rate", "weight decay"))
    rows = Rows({"cell": cell, "seed": seed, "val_error": 10.0 * (at != best)}
                for at, cell in plane.items() for seed in range(2))  # fmt: skip
    assert rows.chosen(method) == best
    assert method.edges(best) == (said and f"the best setting of adam is at the {said}")
    assert Tuned("one", {0.1: "a"}).edges(0.1) == ""


def test_a_claim_whose_best_setting_is_at_an_edge_is_invalid():
    claim = lower("1", "SGD is better.", tuned(), "plain", kind="control")
    plain = [{"cell": "plain", "seed": seed, "test_acc": 50.0 + seed} for seed in range(3)]
    (inside,) = evaluate([claim], Rows([*made(), *plain]), "quick")
    (edge,) = evaluate([claim], Rows([*made(val=VAL | {1.0: (1, 1, 1)}), *plain]), "quick")
    assert (inside.verdict, edge.verdict) == ("reproduced", "invalid")
    assert edge.reason == "the best setting of sgd is at the upper edge of its grid of the learning rate"
    ours = replace(edge, kind="paper")
    assert in_common([ours], {"1": claim}, Rows([])) == "The invalid claim has a best setting at an edge of its grid."
    assert tell(inside, "quick").facts[0] == "sgd: learning rate 0.1, of 3 trials by val error"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: difference(tuned(), tuned("adam", {0.1: 0})), "got 3 of sgd, 1 of adam; give them grids of one size"),
        (lambda: tuned(of={(0.1, 0.2): 0}), "the setting (0.1, 0.2) of sgd has not a number for each"),
        (lambda: Tuned("sgd", {}), "grid is empty"),
        (lambda: grid_search("sgd/{lr}", "zhang2017/mlp-1x512", lr=(0.1, 0.1)), "more than one cell named 'sgd/0.1'"),
        (lambda: grid_search("s/{lr}", "zhang2017/mlp-1x512", lr=(1, 1 + 1e-9)), "more than one cell named 's/1'"),
    ],
)
def test_unequal_budgets_and_unclear_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_a_condition_is_about_the_chosen_runs():
    rows = Rows(made())
    asked = trained(tuned(), "val_error", at_most=24)
    assert (asked.failing(rows), asked.lacks(rows.cells())) == ("", None)
    assert asked.text() == "every run of sgd at its best has val_error at most 24"
    assert trained((tuned(), "sgd/1.0"), "val_error", at_most=24).broken(rows).keys() == {"sgd/1.0"}
    assert asked.lacks(["sgd/0.1"]) == "sgd/0.01"


def test_the_lock_knows_the_rule_and_all_trials():
    cells = grid("sgd/{lr}", "configs/methods.yaml", task="m:f", lr={lr: {"optimizer": lr} for lr in VAL})
    paper = Paper("p", "T", "A", 2017, "", (Scale("quick", "d", cells, seeds=4),))

    def plan(measure):
        claim = Claim("1", "It is.", measure, above=0, source=Source("s", "S"))
        return plans(replace(paper, claims=(claim,)), paper.scales[0])["1"]

    mine = plan(value(tuned(), "test_error"))
    assert (mine.cells, mine.seeds) == ({"sgd/0.01", "sgd/0.1", "sgd/1.0"}, 4)
    assert plan(value(tuned(of={0.1: 0, 1.0: 0}), "test_error")).hash != mine.hash  # another grid
    assert plan(value(tuned(by="train_loss"), "test_error")).hash != mine.hash  # another choice
