"""The plan, the claims' measures and the starts of Frankle & Carbin 2019, before anything is trained for real."""

from __future__ import annotations

import importlib
import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_regs.models import build
from lightning_regs.pruning import Mask, Pruning
from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.study.report.card import is_stale

add_to_path(search_folders("reproductions")[0])
cells = importlib.import_module("frankle2019.cells")
ladders = importlib.import_module("frankle2019.ladders")
searches = importlib.import_module("frankle2019.searches")
starts = importlib.import_module("frankle2019.starts")

# P_m after n rounds on LeNet, in percent, as the curves of the paper have them [derived: all its values lie on it].
LENET_P_M = (
    *(100, 80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5),
    *(10.8, 8.7, 7.0, 5.6, 4.5, 3.6, 2.9, 2.3, 1.8, 1.5),
)
SCALES = ("quick", "standard", "paper")


@pytest.fixture(scope="module")
def paper() -> Paper:
    return load_paper("frankle2019")


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


@pytest.mark.parametrize("ladder", ladders.LADDERS, ids=lambda ladder: ladder.key)
def test_the_grid_is_that_of_the_network_and_its_pruning(ladder):
    shape = {"quick": (40,), "lenet": (1, 28, 28)}.get(ladder.config or ladder.key, (3, 32, 32))
    options = cells.config_of(ladder)["model"]
    with torch.device("meta"):
        network = build(options["architecture"], shape, 10, **options["architecture_args"])
    weights = {n: tuple(w.shape) for n, w in network.named_parameters() if n.endswith("weight")}
    assert [math.prod(s) for s in weights.values()] == [count for count, _ in ladder.layers]
    (cell,) = (cell for cell in cells.ladder_cells(ladder) if cell.name == ladder.dense)
    expected = Pruning(**cell.config["pruning"]).densities(weights, ladder.last)
    assert [ladder.p_m(level) for level in range(ladder.last + 1)] == pytest.approx(expected, rel=1e-12)


def test_the_grid_is_the_papers():
    for level, p_m in enumerate(LENET_P_M):
        assert ladders.LENET.p_m(level) == pytest.approx(p_m, abs=0.06)
    assert [round(ladders.LENET.p_m(level), 1) for level in (0, 1, 2, 3, 7, 9, 15)] == [
        *(100, 80.0, 64.1, 51.3, 21.1, 13.5, 3.6)
    ]


@pytest.mark.parametrize("search", searches.SEARCHES, ids=lambda search: search.key)
def test_searches_prune_what_their_paper_prunes(search):
    cell = cells.search_cell(search)
    with torch.device("meta"):
        network = nn.ModuleDict({"network": build(cell.config["model"]["architecture"], (3, 28, 28), 10)})
    start = Pruning(**cell.config["pruning"]).start(network)
    assert start.total == search.weights[1]
    assert not any("downsample" in name for name in start) or search.key.startswith("renda")


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


# -- what a run starts from --------------------------------------------------------------------------------------------


def _drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (6, 5), "a.bias": (6,), "b.weight": (4, 6), "b.bias": (4,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def dense():
    initial, final = _drawn(0), _drawn(1)
    mask = Mask.dense({name: initial[name] for name in ("a.weight", "b.weight")})
    return starts.Level(initial, initial, final, mask)


def _start(kind, level, dense, needed=None):
    inputs = {("ticket", level - 1): dense, ("ticket", 0): dense} if needed is None else needed
    return starts.make_start(kind, level, 7, Pruning(rate=0.5), dense.mask, lambda draw: _drawn(10 + draw), inputs)


def test_a_ticket_is_the_largest_final_weights_at_their_initial_values(dense):
    start = _start("ticket", 1, dense)
    assert start.weights is dense.initial
    for name, rate in (("a.weight", 0.5), ("b.weight", 0.25)):
        final = dense.final[name].abs()
        kept = final >= final.flatten().sort().values[round(rate * final.numel())]
        assert torch.equal(start.mask[name], kept)


def test_reinitialised_weights_are_new_and_the_mask_is_not(dense):
    ticket, first, second = (_start(kind, 1, dense) for kind in ("ticket", "reinit-1", "reinit-2"))
    assert first.mask == second.mask == ticket.mask
    assert torch.equal(first.weights["a.weight"], _drawn(11)["a.weight"])
    assert torch.equal(second.weights["a.weight"], _drawn(12)["a.weight"])


def test_a_random_mask_has_the_counts_of_the_ticket(dense):
    ticket, random = _start("ticket", 1, dense), _start("random", 1, dense)
    assert random.mask.counts == ticket.mask.counts
    assert random.mask != ticket.mask
    assert random.weights is dense.initial


@pytest.mark.parametrize("kind", ["sign-reinit", "sign-reshuffle", "sign-constant"])
def test_signs_are_kept(dense, kind):
    start = _start(kind, 1, dense)
    for name, kept in start.mask.items():
        assert torch.equal(start.weights[name][kept].sign(), dense.initial[name][kept].sign())
        assert not torch.equal(start.weights[name][kept], dense.initial[name][kept])
    assert torch.equal(start.weights["a.bias"], dense.initial["a.bias"])


def test_survivors_alone_are_reshuffled(dense):
    start = _start("reshuffle", 1, dense)
    for name, kept in start.mask.items():
        before, after = dense.initial[name], start.weights[name]
        assert torch.equal(before[kept].sort().values, after[kept].sort().values)
        assert torch.equal(before[~kept], after[~kept])


@pytest.mark.parametrize("kind", ["constant", "sign-constant"])
def test_constants_have_the_layers_deviation(dense, kind):
    for name in dense.mask:
        values = _start(kind, 1, dense).weights[name].abs().unique()
        assert values.tolist() == pytest.approx([dense.initial[name].std().item()])


def test_noise_is_in_units_of_the_layer(dense):
    little, much = (_start(f"noise-{sigma}", 1, dense).weights["a.weight"] for sigma in ("0.001", "3"))
    spread = dense.initial["a.weight"].std()
    assert 0 < (little - dense.initial["a.weight"]).abs().max() < 0.01 * spread
    assert (much - dense.initial["a.weight"]).std() == pytest.approx(3 * float(spread), rel=0.5)


def test_pruning_without_training_looks_at_initial_weights(dense):
    start = _start("small-init", 1, dense, needed={})
    initial = _drawn(10)["a.weight"]
    assert start.mask["a.weight"].sum() == 15
    assert initial[start.mask["a.weight"]].abs().min() > initial[~start.mask["a.weight"]].abs().max()


def test_frozen_weights_keep_their_initial_values(dense):
    zeroed, frozen, grown = (_start(f"one-shot{end}", 2, dense) for end in ("", "-frozen", "-frozen-grown"))
    assert zeroed.mask == frozen.mask == grown.mask
    assert [start.frozen for start in (zeroed, frozen, grown)] == [False, True, True]
    assert torch.equal(frozen.weights["a.weight"], dense.initial["a.weight"])
    larger = dense.final["a.weight"].abs() > dense.initial["a.weight"].abs()
    kept = grown.mask["a.weight"]
    assert torch.equal(grown.weights["a.weight"] != 0, kept | larger)


def test_pruning_without_rewinding_goes_on_and_resets_at_the_end(dense):
    continued, reset = _start("continued", 1, dense), _start("continued-reset", 1, dense)
    assert continued.mask == reset.mask == _start("ticket", 1, dense).mask
    assert continued.weights is dense.final
    assert reset.weights is dense.initial


def test_a_twin_starts_where_the_other_did(dense):
    twin = _start("reinit-1-twin", 3, dense, needed={("reinit-1", 3): dense})
    assert twin.weights is dense.start
    assert twin.mask is dense.mask


def test_unknown_treatments_are_refused(dense):
    with pytest.raises(ValueError, match="sign-reinit"):
        _start("sign-reinitialised", 1, dense)


def test_a_level_comes_back_from_its_file(dense, tmp_path):
    dense.save(tmp_path)
    found = starts.Level.load(tmp_path)
    assert found.mask == dense.mask
    for name in ("initial", "start", "final"):
        assert all(torch.equal(getattr(found, name)[key], value) for key, value in getattr(dense, name).items())
    path = tmp_path / starts.FILE
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"level\.pt cannot be read .*trained again"):
        starts.Level.load(tmp_path)


def test_the_card_names_parts_that_exist(paper, tmp_path):
    assert paper.folder is not None
    shutil.copy(Path(paper.folder) / "README.md", tmp_path / "README.md")
    is_stale(tmp_path / "README.md", [paper])  # raises for a marker that is unknown or not closed
