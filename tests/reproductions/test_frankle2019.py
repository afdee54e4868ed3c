"""The plan, the claims' measures and the starts of Frankle & Carbin 2019, before anything is trained for real."""

from __future__ import annotations

import importlib
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_regs.models import build
from lightning_regs.pruning import Pruning
from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.study.report.card import update

add_to_path(search_folders("reproductions")[0])
cells = importlib.import_module("frankle2019.cells")

# P_m after n rounds on LeNet, in percent, as the curves of the paper have them [derived: all its values lie on it].
LENET_P_M = (
    *(100, 80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5),
    *(10.8, 8.7, 7.0, 5.6, 4.5, 3.6, 2.9, 2.3, 1.8, 1.5),
)
SCALES = ("quick", "standard", "paper")


@pytest.fixture(scope="module")
def paper() -> Paper:
    return load_paper("frankle2019")


@pytest.mark.slow
def test_every_sentence_of_the_sheet_is_a_claim(paper):
    assert {claim.id.partition("-")[0] for claim in paper.claims} == {str(n) for n in range(1, 18)}


@pytest.mark.parametrize("name", SCALES)
def test_each_scale_measures_its_claims(paper, name):
    measured = {int(claim.id.partition("-")[0]) for claim in paper.claims if claim.measure and claim.at(name)}
    here = {1, 2, 3, 4, 10, 11, 13, 15, 16, 17}
    assert measured == {"quick": here, "standard": here | {5}, "paper": set(range(1, 18))}[name]


def test_sentences_name_net_length_and_size(paper):
    for claim in paper.claims:
        form = claim.at("standard")
        if form is not None and form.measure and claim.id[:2] not in ("17", "6-"):
            assert "iterations" in form.sentence
            assert "P_m = " in form.sentence or claim.id == "1-range"


def test_figures_from_memory_are_marked(paper):
    origins = {
        claim.id: claim.at("standard").origin
        for claim in paper.claims
        if claim.id.startswith("17") and claim.at("standard")
    }
    assert origins["17-learned-initial"] == origins["17-untrained-signed-constant"] == "read"
    assert origins["17-rescaled-initial"] == origins["17-untrained-initial"] == "recalled"


# -- the grid and the runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ladder", cells.LADDERS, ids=lambda ladder: ladder.key)
def test_the_grid_is_that_of_the_network_and_its_pruning(ladder):
    shape = {"quick": (40,), "lenet": (1, 28, 28)}.get(ladder.config, (3, 32, 32))
    dense = next(cell for cell in cells.of_ladders(ladder) if cell.name == ladder.dense)
    options = dense.config["model"]
    with torch.device("meta"):
        network = build(options["architecture"], shape, 10, **options["architecture_args"])
    weights = {n: tuple(w.shape) for n, w in network.named_parameters() if n.endswith("weight")}
    assert [math.prod(s) for s in weights.values()] == [count for count, _ in ladder.layers]
    last = max(ladder.levels["ticket"])
    expected = Pruning(**dense.config["pruning"]).densities(weights, last)
    assert [ladder.p_m(level) for level in range(last + 1)] == pytest.approx(expected, rel=1e-12)


def test_the_grid_is_the_papers():
    for level, p_m in enumerate(LENET_P_M):
        assert cells.LENET.p_m(level) == pytest.approx(p_m, abs=0.06)
    assert [round(cells.LENET.p_m(level), 1) for level in (0, 1, 2, 3, 7, 9, 15)] == [
        *(100, 80.0, 64.1, 51.3, 21.1, 13.5, 3.6)
    ]


@pytest.mark.parametrize("net", cells.SEARCHES, ids=lambda net: net.key)
def test_searches_prune_what_their_paper_prunes(net):
    [cell] = net.cells()
    with torch.device("meta"):
        network = nn.ModuleDict({"network": build(cell.config["model"]["architecture"], (3, 28, 28), 10)})
    start = Pruning(**cell.config["pruning"]).start(network)
    assert start.total == net.layers[0][0]
    assert sum(w.numel() for w in network.parameters() if w.ndim > 1) == sum(count for count, _ in net.layers)
    assert not any("downsample" in name for name in start) or net.key.startswith("renda")


def test_runs_of_a_stack_differ_in_treatment_only(paper):
    for scale in paper.scales:
        stacks: dict[str, list] = {}
        for cell in scale.cells:
            if cell.stack is not None:
                stacks.setdefault(cell.stack, []).append(cell)
        for members in stacks.values():
            shared = [
                {k: v for k, v in c.config.items() if k not in ("treatment", "supermask")} | {"task": c.task}
                for c in members
            ]
            assert all(other == shared[0] for other in shared)
            names = {cell.name for cell in members}
            assert not any(names & set(cell.needs) for cell in members)


def test_needed_cells_have_as_many_seeds(paper):
    for scale in paper.scales:
        seeds = {cell.name: cell.seeds or scale.seeds for cell in scale.cells}
        for cell in scale.cells:
            assert all(seeds[needed] >= seeds[cell.name] for needed in cell.needs)


def test_the_card_names_parts_that_exist(paper, tmp_path):
    assert paper.folder is not None
    shutil.copy(Path(paper.folder) / "README.md", tmp_path / "README.md")
    alone = replace(paper, folder=tmp_path)
    update([tmp_path / "README.md"], [alone])  # raises for a marker that is unknown or not closed
