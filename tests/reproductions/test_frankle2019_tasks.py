"""The tasks of levels on tiny data: levels, stacks, resuming, and that they are those of ``find_ticket``."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F

from lightning_regs import Classifier, ImageDataModule
from lightning_regs.core import rng
from lightning_regs.core.runs import RunContext
from lightning_regs.procedures.level import LevelState
from lightning_regs.procedures.tickets import find_ticket
from lightning_regs.pruning import Mask
from lightning_regs.study.paper.config import search_folders
from lightning_regs.study.paper.tasks import add_to_path
from lightning_regs.training import fit as engine

add_to_path(search_folders("reproductions")[0])
deep, supermasks, training = (
    importlib.import_module(f"frankle2019.{name}") for name in ("deep", "supermasks", "training")
)

MODEL = {
    "architecture": "mlp",
    "architecture_args": {"hidden": [12, 8], "init": "xavier_normal"},
    "optimizer": {"name": "Adam", "lr": 0.01},
}
DATA = {"source": "digits", "batch_size": 20, "whiten": False, "val_split": 40, "train_size": 140, "test_size": 100}
LENGTH = {"iterations": 20, "every": 2}
LAYERS = ("body.1.weight", "body.3.weight", "head.weight")


def config(kind, level, **length):
    shared = {"model": MODEL, "data": DATA, "trainer": {"accelerator": "cpu"}, "pruning": {}} | LENGTH | length
    return shared | {"treatment": {"kind": kind, "level": level}}


class Ladder:
    """Runs cells in a folder as the engine does: each with the folders of what it needs."""

    def __init__(self, folder, seed=1000):
        self.folder, self.seed = folder, seed
        self.rows = {}

    def context(self, kind, level, *needs, seed=None):
        seed = self.seed if seed is None else seed
        path = self.folder / f"{kind}-{level}-{seed}"
        path.mkdir(exist_ok=True)
        inputs = {f"x/{k}/{n:02d}": str(self.folder / f"{k}-{n}-{seed}") for k, n in needs}
        return RunContext(path, seed, inputs=inputs)

    def __call__(self, kind, level, *needs):
        run = self.context(kind, level, *needs)
        self.rows[kind, level] = training.level(config(kind, level), run)
        return self.level(kind, level)

    def level(self, kind, level, seed=None):
        return LevelState.load(self.folder / f"{kind}-{level}-{self.seed if seed is None else seed}")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    ladder = Ladder(tmp_path_factory.mktemp("chain"))
    ladder("ticket", 0)
    ladder("ticket", 1, ("ticket", 0))
    ladder("ticket", 2, ("ticket", 1), ("ticket", 0))
    return ladder


def plain_loop(weights, mask, seed, steps):
    """Train the masked net without Lightning: Adam, the DataModule's batches, weights masked after each step."""
    data = ImageDataModule(**DATA, seed=seed)
    data.prepare_data()
    data.setup()
    network = Classifier(**MODEL, input_shape=data.input_shape, num_classes=10, seed=seed).network
    network.load_state_dict(mask.apply(weights))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    train, done = data.dataset("train"), 0
    while done < steps:
        generator = torch.Generator().manual_seed(rng.derive_seed(seed, "order") + done // 5)
        for rows in torch.randperm(len(train), generator=generator).split(20):
            x, y = train.__getitems__(rows.tolist())[:2]
            optimizer.zero_grad()
            F.cross_entropy(network(data.eval_transform(x)), y).backward()
            optimizer.step()
            with torch.no_grad():
                for name, kept in mask.items():
                    network.get_parameter(name).mul_(kept)
            done += 1
            if done == steps:
                break
    return network, data


@pytest.mark.slow
def test_levels_are_those_of_a_plain_loop(chain):
    initial = chain.level("ticket", 0).initial
    mask = Mask.dense({name: initial[name] for name in LAYERS})
    for number in range(3):
        level = chain.level("ticket", number)
        assert level.mask == mask
        assert all(torch.equal(level.start[name], initial[name]) for name in initial)
        network, _ = plain_loop(initial, mask, chain.seed, 20)
        final = network.state_dict()
        for name, value in level.final.items():
            assert torch.allclose(value, final[name], atol=1e-5)
        kept = {}
        for name in LAYERS:
            rate = 0.1 if name == "head.weight" else 0.2
            scores = torch.where(mask[name], level.final[name].abs(), torch.inf).flatten()
            goes = scores.argsort(stable=True)[: round(rate * int(mask[name].sum()))]
            kept[name] = mask[name].flatten().index_fill(0, goes, False).view_as(mask[name])
        mask = Mask(kept)


def test_pruned_weights_end_at_zero(chain):
    level = chain.level("ticket", 2)
    for name, kept in level.mask.items():
        assert not level.final[name][~kept].any()
        assert level.final[name][kept].all()
    assert chain.rows["ticket", 2]["p_m"] == pytest.approx(100 * level.mask.density)


def test_early_stopping_is_the_least_validation_loss_and_its_weights(chain):
    row, folder = chain.rows["ticket", 1], chain.folder / "ticket-1-1000"
    curve = RunContext(folder, 1000).curves
    assert [point["step"] for point in curve] == list(range(2, 21, 2))
    best = min(curve, key=lambda point: point["val_loss"])
    assert (row["stop_iteration"], row["stop_val_loss"], row["stop_val_acc"]) == pytest.approx(
        (best["step"], best["val_loss"], best["val_acc"])
    )
    level = chain.level("ticket", 1)
    for steps, name in ((int(row["stop_iteration"]), "test_acc_stop"), (20, "test_acc"), (0, "start_test_acc")):
        network, data = plain_loop(level.initial, level.mask, chain.seed, steps)
        x, y = data.eval_transform(data.dataset("test").x), data.dataset("test").y
        assert row[name] == pytest.approx(100 * float((network(x).argmax(1) == y).float().mean()), abs=1e-4)


def test_distances_are_those_of_the_dense_net(chain):
    dense, level, row = chain.level("ticket", 0), chain.level("ticket", 2), chain.rows["ticket", 2]
    moved = torch.cat([(dense.final[name] - dense.initial[name]).abs().flatten() for name in LAYERS])
    kept = torch.cat([level.mask[name].flatten() for name in LAYERS])
    assert row["moved_kept"] == pytest.approx(float(moved[kept].mean()), rel=1e-5)
    assert row["moved_pruned"] == pytest.approx(float(moved[~kept].mean()), rel=1e-5)


@pytest.mark.slow
def test_a_stack_is_its_runs_apart(tmp_path):
    """Two seeds, and treatments of four kinds among which one freezes weights."""
    kinds = ("ticket", "reinit-1", "one-shot", "one-shot-frozen")
    apart = Ladder(tmp_path)
    for seed in (1000, 1001):
        training.level(config("ticket", 0), apart.context("ticket", 0, seed=seed))
    members = [(kind, seed) for kind in kinds for seed in (1000, 1001)]
    rows = {
        (kind, seed): training.level(config(kind, 1), apart.context(kind, 1, ("ticket", 0), seed=seed))
        for kind, seed in members
    }
    levels = {member: apart.level(member[0], 1, member[1]) for member in members}
    together = training.level.stacked(
        [config(kind, 1) for kind, _ in members],
        [apart.context(kind, 1, ("ticket", 0), seed=seed) for kind, seed in members],
    )
    for member, row in zip(members, together, strict=True):
        assert row == pytest.approx(rows[member], rel=1e-4, abs=1e-4, nan_ok=True)
        level = apart.level(member[0], 1, member[1])
        assert level.mask == levels[member].mask
        for name, value in level.final.items():
            assert torch.allclose(value, levels[member].final[name], atol=1e-5)


def test_frozen_weights_stay_and_the_others_move(chain):
    frozen = chain("one-shot-frozen", 2, ("ticket", 0))
    initial = chain.level("ticket", 0).initial
    for name, kept in frozen.mask.items():
        assert torch.equal(frozen.final[name][~kept], initial[name][~kept])
        assert (frozen.final[name][kept] != initial[name][kept]).float().mean() > 0.5


@pytest.mark.slow
def test_a_twin_differs_in_order_only(chain):
    chain("ticket-twin", 1, ("ticket", 1))
    twin, level = chain.level("ticket-twin", 1), chain.level("ticket", 1)
    assert twin.mask == level.mask
    assert chain.rows["ticket-twin", 1]["start_test_acc"] == chain.rows["ticket", 1]["start_test_acc"]
    assert any(not torch.equal(twin.final[name], level.final[name]) for name in LAYERS)
    assert chain.rows["ticket-twin", 1]["barrier"] >= 0


@pytest.mark.parametrize("kind", ["ticket", "reinit-1", "ticket-twin"])
def test_a_level_of_fixed_seeds_is_that_of_a_run_with_these(chain, tmp_path, kind):
    """Masks and new weights that are drawn go with the weights."""
    needs = {"ticket": (("ticket", 0),), "reinit-1": (("ticket", 0),), "ticket-twin": (("ticket", 1),)}[kind]
    rows = []
    for number, seeds in ((chain.seed, {}), (3, dict.fromkeys(("weights", "order", "split"), chain.seed))):
        run = RunContext(tmp_path / str(number), number, inputs=chain.context(kind, 1, *needs).inputs)
        rows.append(training.level(config(kind, 1) | {"seeds": seeds}, run))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("seeds", [[1000], [1000, 1001]], ids=["alone", "stacked"])
@pytest.mark.slow
def test_an_interrupted_level_goes_on_where_it_was(tmp_path, monkeypatch, seeds):
    checkpoint = engine.EpochCheckpoint
    monkeypatch.setattr(engine, "EpochCheckpoint", lambda path: checkpoint(path, every=0.0))
    whole, cut = Ladder(tmp_path / "whole"), Ladder(tmp_path / "cut")

    def run(ladder):
        ladder.folder.mkdir(exist_ok=True)
        contexts = [ladder.context("ticket", 0, seed=seed) for seed in seeds]
        configs = [config("ticket", 0) for _ in seeds]
        return (
            training.level.stacked(configs, contexts) if len(seeds) > 1 else [training.level(configs[0], contexts[0])]
        )

    expected = run(whole)

    class Killed(Exception):
        pass

    measured = training.BestWeights.on_train_batch_end

    def killing(self, trainer, *arguments):
        measured(self, trainer, *arguments)
        if trainer.global_step == 14:
            raise Killed

    with monkeypatch.context() as during:
        during.setattr(training.BestWeights, "on_train_batch_end", killing)
        with pytest.raises(Killed):
            run(cut)
    resumed = run(cut)
    assert resumed == expected
    for seed in seeds:
        ours, theirs = (ladder.level("ticket", 0, seed).final for ladder in (cut, whole))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        curves = [RunContext(ladder.folder / f"ticket-0-{seed}", seed).curves for ladder in (cut, whole)]
        assert curves[0] == curves[1]


def test_only_treatments_may_differ_in_a_stack(tmp_path):
    ladder = Ladder(tmp_path)
    runs = [ladder.context("ticket", 0, seed=seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match="another stack"):
        training.level.stacked([config("ticket", 0), config("ticket", 0, iterations=30)], runs)


def test_frozen_weights_do_not_decay(chain):
    decayed = config("one-shot-frozen", 1)
    decayed["model"] = MODEL | {"optimizer": {"name": "Adam", "lr": 0.01, "weight_decay": 0.1}}
    training.level(decayed, chain.context("one-shot-frozen", 1, ("ticket", 0)))
    level, initial = chain.level("one-shot-frozen", 1), chain.level("ticket", 0).initial
    for name, kept in level.mask.items():
        assert torch.equal(level.final[name][~kept], initial[name][~kept])


@pytest.mark.slow
def test_a_chain_of_cells_is_a_search_for_tickets(chain, tmp_path):
    """The same net, data, seed and pruning: the same masks and weights, bit for bit."""

    def module(seed):
        return Classifier(**MODEL, seed=seed)

    tickets = find_ticket(
        module,
        lambda: ImageDataModule(**DATA, seed=chain.seed),
        folder=tmp_path,
        levels=2,
        trainer={"max_epochs": 4, "accelerator": "cpu", "limit_val_batches": 0},
        controls=["sign-constant", "one-shot-frozen", "small-init"],
        seed=chain.seed,
    )
    for kind in ("sign-constant", "one-shot-frozen", "small-init"):  # these draw nothing
        chain(kind, 2, ("ticket", 1), ("ticket", 0))
    for one in tickets:
        if one.level == 2 or one.kind in ("ticket", "dense"):
            level = chain.level("ticket" if one.kind == "dense" else one.kind, one.level)
            assert Mask({name.removeprefix("network."): kept for name, kept in one.mask.items()}) == level.mask
            final = one.weights()
            assert all(torch.equal(final[f"network.{name}"], value) for name, value in level.final.items()), one.name


# -- supermasks --------------------------------------------------------------------------------------------------------


def learning(rescale, weights="initial"):
    return {
        "model": MODEL | {"optimizer": {"name": "SGD", "lr": 100.0, "momentum": 0.9}},
        "data": DATA,
        "trainer": {"max_epochs": 12, "accelerator": "cpu"},
        "supermask": {"weights": weights, "rescale": rescale},
    }


@pytest.mark.slow
def test_masks_are_learned_alone_and_in_a_stack(tmp_path):
    alone = supermasks.learned(learning(True), Ladder(tmp_path).context("mask", 0, seed=1000))
    assert alone["train_acc"] > 15
    assert 10 < alone["density"] < 60
    fixed = learning(True) | {"seeds": dict.fromkeys(("weights", "order", "split"), 1000)}
    assert supermasks.learned(fixed, Ladder(tmp_path).context("mask", 1, seed=3)) == alone
    configs = [learning(rescale, weights) for rescale in (True, False) for weights in ("initial", "signed_constant")]
    runs = [Ladder(tmp_path).context("masks", number, seed=1000) for number in range(4)]
    rows = supermasks.learned.stacked(configs, runs)
    assert len(rows) == 4
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(alone))}
    # Masks are drawn in another order, so the numbers are close and not equal.
    assert rows[0]["train_acc"] == pytest.approx(alone["train_acc"], abs=25)


def test_an_untrained_mask_is_chosen_on_validation_data(chain):
    settings = config("ticket", 0) | {
        "pruning": {"criterion": "large_final_same_sign"},
        "weights": "signed_constant",
        "levels": 6,
    }
    run = chain.context("untrained", 0, ("ticket", 0))
    row = supermasks.untrained(settings, run)
    fixed = settings | {"seeds": dict.fromkeys(("weights", "order", "split"), chain.seed)}
    assert supermasks.untrained(fixed, RunContext(chain.folder / "fixed", 3, inputs=run.inputs)) == row
    values = [point["val_acc"] for point in run.curves]
    assert len(values) == 7
    assert row["val_acc"] == max(values)
    assert row["level"] == values.index(max(values))
    dense = chain.level("ticket", 0)
    data = ImageDataModule(**DATA, seed=chain.seed)
    data.prepare_data()
    data.setup()
    network = Classifier(**MODEL, input_shape=data.input_shape, num_classes=10, seed=chain.seed).network
    state = dict(dense.initial)
    for name, rate in zip(LAYERS, (0.2, 0.2, 0.1), strict=True):
        before, after = dense.initial[name], dense.final[name]
        scores = torch.where(before.sign() == after.sign(), after.abs(), 0.0).flatten()
        left = scores.numel()
        for _ in range(int(row["level"])):
            left -= round(rate * left)
        kept = torch.zeros_like(scores).index_fill(0, scores.argsort(stable=True)[scores.numel() - left :], 1.0)
        state[name] = before.sign() * before.std(correction=0) * kept.view_as(before)
    network.load_state_dict(state)
    x, y = data.eval_transform(data.dataset("test").x), data.dataset("test").y
    assert row["test_acc"] == pytest.approx(100 * float((network(x).argmax(1) == y).float().mean()), abs=1e-4)


# -- searches ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_reports_every_level(tmp_path):
    settings = {
        "model": {
            "architecture": "mlp",
            "architecture_args": {"hidden": [12]},
            "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9},
            "schedule": {"name": "MultiStepLR", "milestones": [8], "gamma": 0.1, "interval": "step"},
        },
        "data": DATA,
        "trainer": {"max_epochs": -1, "max_steps": 10, "accelerator": "cpu"},
        "warmup": 4,
        "pruning": {"rate": 0.2, "scope": "global", "layers": ["*body*"]},
        "search": {
            "levels": 2,
            "rewind_to": "2it",
            "method": "weight_rewinding",
            "fine_tune": None,
            "controls": ["reinitialise:1"],
        },
    }
    row = deep.search(settings, RunContext(tmp_path, 1000))
    kept = [768, 614, 491]
    assert [row[f"p_m_{level:02d}"] for level in range(3)] == pytest.approx(
        [100 * (120 + count) / 888 for count in kept], rel=1e-6
    )
    assert {"test_acc_00", "test_acc_01", "test_acc_02", "reinitialise_acc_01", "reinitialise_acc_02"} <= set(row)
    assert deep.search(settings, RunContext(tmp_path, 1000)) == row
    with pytest.raises(ValueError, match=r"seeds=\{'order': 0\} is not possible in a search"):
        deep.search(settings | {"seeds": {"order": 0}}, RunContext(tmp_path, 1000))
    parts = settings["model"] | {"schedule": [{"length": "2it"}, {"name": "CosineAnnealing"}]}
    with pytest.raises(ValueError, match=r"override 'model.schedule.warmup' goes through 'model.schedule'"):
        deep.search(settings | {"model": parts}, RunContext(tmp_path, 1000))
