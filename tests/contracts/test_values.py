"""A bad value is refused in one sentence that names it, by every public callable: never taken, and no cryptic error.

Each callable has a valid call in ``CALLS``, of which one argument at a time is replaced by each of ``BAD``. What is
legal then all the same is in ``LEGAL``.
"""

from __future__ import annotations

import importlib
import inspect
import io
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lightning_regs
from lightning_regs.analysis import LowerTriangle, fit_relu, random_conv_filters
from lightning_regs.core.checks import shown
from lightning_regs.core.lightning import MisconfigurationException
from lightning_regs.procedures.agnostic.operators import first_graphs
from lightning_regs.pruning import Mask
from lightning_regs.study import Metric, Scale, Tuned, value

ROOMS = ("", ".functional", ".analysis", ".pruning", ".init", ".optim", ".layers", ".models", ".data", ".study")
# What functions return, for others to read: nobody makes them by hand.
RECORDS = [
    "AlongGradient",
    "ClaimResult",
    "Compressed",
    "ConvFilters",
    "Distances",
    "EigenvalueMap",
    "ErrorBarrier",
    "Estimate",
    "HessianEnds",
    "Initialized",
    "KernelMachine",
    "LossSurface",
    "MissingRows",
    "NoiseScale",
    "Outcome",
    "PathPlane",
    "ReluFit",
    "Selection",
    "Signal",
    "SpdSolution",
    "Travel",
    "Travelled",
    "WilsonProblem",
]
# They run for minutes, or take what they find; their arguments have tests of their own.
OWN_TESTS = [
    "ArraySource",
    "Cells",
    "ImageArrays",
    "ImageFiles",
    "RunContext",
    "Store",
    "Rows",
    "decompress",
    "diagnose",
    "find_ticket",
    "identity_collate",
    "load",
    "load_ensemble",
    "range_test",
    "reproduce",
    "retrain",
    "search",
    "train_snapshots",
]

BAD = (math.nan, math.inf, -1, 2.5, True, 10**30, "no", "", b"x", None, [], {}, object())

x, y = torch.rand(6, 2, 8, 8), torch.arange(6) % 3
flat, permutation = x.flatten(1), torch.tensor([1, 2, 3, 4, 5, 0])
net = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.ReLU(), nn.Linear(4, 3))
weights = {"1.weight": net[1].weight, "3.weight": net[3].weight}
masks = {name: torch.ones_like(weight) for name, weight in weights.items()}
state = {name: weight.detach() for name, weight in net.state_dict().items()}
points, gram = torch.rand(6, 3), torch.eye(6)
conv = random_conv_filters(x, 3, torch.Generator().manual_seed(0), 3, 50)
relu = fit_relu(points, points[:, 0], torch.rand(3))
operator = LowerTriangle(6, lambda start, stop, dtype: gram[start:stop, :stop].to(dtype, copy=True))
columns = torch.rand(6, 2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def supermasked() -> nn.Module:
    return lightning_regs.add_supermask(nn.Sequential(nn.Linear(2, 2)))


def gated() -> nn.Module:
    lightning_regs.pruning.add_gates(made := nn.Sequential(nn.Linear(2, 2)))
    return made


# Callable -> arguments of a valid call; what has a default and is not here is tried too.
CALLS: dict[str, Callable[[], dict[str, Any]]] = {
    "AdversarialTraining": lambda: {"steps": 2, "mode": "mixed"},
    "Classifier": lambda: {"num_classes": 3, "input_shape": (4,)},
    "CutMix": dict,
    "Cutout": dict,
    "GradientPenalty": dict,
    "ImageDataModule": dict,
    "L0": dict,
    "LabelSmoothing": dict,
    "LowerTriangle": lambda: {"size": 6, "rows": operator.rows},
    "Mask": lambda: {"masks": masks},
    "MaxNorm": dict,
    "MixedTarget": lambda: {"components": [(y, 1.0)]},
    "Mixup": dict,
    "NormPenalty": dict,
    "Pruning": dict,
    "Regularizer": dict,
    "SnapshotEnsemble": lambda: {"folder": "snapshots", "cycles": 2},
    "StopWhen": lambda: {"criterion": "GL5", "monitor": "val/loss"},
    "SyntheticGradients": dict,
    "WeightAgnosticNet": lambda: {"graph": first_graphs(1, 3, 2, 1.0, np.random.Generator(np.random.PCG64(0)))[0]},
    "WeightMask": dict,
    "LayerSignals": dict,
    "WeightNorms": dict,
    "add_gates": lambda: {"network": nn.Sequential(nn.Linear(2, 2))},
    "add_supermask": lambda: {"network": nn.Sequential(nn.Linear(2, 2))},
    "adversarial_error": lambda: {"module": nn.Linear(3, 3), "x": points, "y": y, "epsilon": 0.1},
    "adversarial_logits": lambda: {"module": nn.Linear(3, 3), "x": points, "y": y, "epsilon": 0.1},
    "agreement": lambda: {"right": y > 0, "other": y > 1},
    "apply_supermask": lambda: {"weights": weights, "mask": masks},
    "beale": lambda: {"point": points[:2]},
    "build": lambda: {"name": "mlp", "input_shape": (4,), "num_classes": 2},
    "along_gradient": lambda: {"network": net, "x": x, "y": y, "steps": [0.1]},
    "check_optimization": lambda: {"optimizer": {"name": "SGD", "lr": 0.1}, "schedule": None},
    "check_options": lambda: {"name": "mlp", "options": ["hidden"]},
    "coefficient_norm": lambda: {"coefficients": columns},
    "compact": lambda: {"network": gated()},
    "compress": lambda: {"module": nn.Linear(9, 2), "file": "compressed", "bits": 2},
    "cutmix": lambda: {"x": x, "y": y, "box": (0, 2, 0, 2), "permutation": permutation},
    "cutmix_box": lambda: {"lam": 0.5, "center": (1, 1), "height": 8, "width": 8},
    "cutout": lambda: {"x": x, "centers": torch.ones(6, 2, dtype=torch.long), "length": 2},
    "deep_relu": lambda: {"fit": relu, "depth": 3},
    "descent": lambda: {
        "function": torch.sum,
        "start": columns,
        "optimizer": lambda point: torch.optim.SGD(point, lr=0.1),
        "steps": 2,
    },
    "direction_to": lambda: {"network": net, "other": net},
    "distance_travelled": lambda: {"initial": weights, "final": weights, "mask": masks},
    "eigenvalue_map": lambda: {"network": net, "x": x, "y": y, "directions": [state], "points": 2, "tolerance": 1.0},
    "error_barrier": lambda: {"evaluate": lambda _: 0.5, "state_a": state, "state_b": state, "points": 3},
    "error_rate": lambda: {"scores": columns, "labels": y},
    "evaluate_relu": lambda: {"fit": relu, "x": points.double()},
    "expected_l0": lambda: {"log_alpha": torch.rand(3)},
    "fourier_features": lambda: {"x": points, "frequencies": points.T},
    "fgsm": lambda: {"loss": lambda x: x.sum(), "x": x, "epsilon": 0.1},
    "find_topology": lambda: {"x": points, "y": y, "population": 3, "generations": 1, "batch_size": 6, "enabled": 0.9},
    "fit": lambda: {"kernel": gram, "targets": columns},
    "fit_relu": lambda: {"x": points, "y": points[:, 0], "direction": torch.rand(3)},
    "full_precision": dict,
    "gabor_features": lambda: {"x": x, "filters": torch.rand(4, 2, 3, 3)},
    "gabor_filters": lambda: {"size": 5},
    "gaussian_kernel": lambda: {"x": points, "y": points, "bandwidth": 1.0},
    "gradient_descent": lambda: {"x": points, "y": y, "steps": 2, "batch_size": 2, "generator": generator()},
    "gradient_noise_scale": lambda: {"network": net, "x": x, "y": y, "small": 2, "large": 3},
    "gradient_penalty": lambda: {
        "loss": net(x).square().sum(),
        "parameters": list(net.parameters()),
        "coefficient": 0.1,
    },
    "gram_matrix": lambda: {"blocks": [points]},
    "hard_concrete": lambda: {"log_alpha": torch.rand(3)},
    "hessian_eigenvalues": lambda: {"network": net, "x": x, "y": y, "tolerance": 1.0},
    "hessian_trace": lambda: {"network": net, "x": x, "y": y, "generator": generator(), "draws": 2},
    "implicit_regularizer": lambda: {"network": net, "x": x, "y": y, "batch_size": 3},
    "initialize": lambda: {"module": net, "rule": None},
    "interpolate": lambda: {"state_a": state, "state_b": state, "alpha": 0.5},
    "label_smoothing": lambda: {"y": y, "smoothing": 0.1},
    "layer_replacements": lambda: {"entries": []},
    "layer_jacobians": lambda: {"module": nn.Sequential(net, nn.Tanh(), nn.Linear(3, 2), nn.Tanh()), "x": x},
    "layer_outputs": lambda: {"module": net, "x": x},
    "layer_signals": lambda: {"module": net, "x": x},
    "learned_mask": lambda: {"network": supermasked()},
    "Lookahead": lambda: {"params": list(net.parameters()), "base": {"name": "SGD", "lr": 0.1}},
    "Ranger": lambda: {"params": list(net.parameters())},
    "SlowWeights": lambda: {},
    "long_valley": lambda: {"point": points[:2]},
    "make_optimizer": lambda: {"params": list(net.parameters()), "config": {"name": "SGD", "lr": 0.1}},
    "make_schedules": lambda: {
        "optimizer": torch.optim.SGD(net.parameters(), lr=0.1),
        "config": {"name": "CosineAnnealing"},
        "epochs": 2,
        "steps": 4,
    },
    "loss_surface": lambda: {"network": net, "x": x, "y": y, "directions": [state], "points": 2},
    "max_norm": lambda: {"weight": points, "value": 1.0},
    "max_width": lambda: {"network": net},
    "mean_squared_distance": lambda: {"x": points},
    "min_norm_solution": lambda: {"x": points, "y": y},
    "mix_targets": lambda: {"y": y, "lam": 0.5, "permutation": permutation},
    "mixup": lambda: {"x": x, "y": y, "lam": 0.5, "permutation": permutation},
    "model_options": lambda: {"name": "mlp"},
    "norm_penalty": lambda: {"parameters": list(net.parameters())},
    "num_connections": lambda: {"network": net},
    "num_parameters": lambda: {"module": net},
    "one_hot": lambda: {"labels": y, "num_classes": 3},
    "open_gates": lambda: {"network": gated()},
    "outside_span": lambda: {"x": points, "w": torch.rand(3)},
    "pgd": lambda: {"loss": lambda x: x.sum(), "x": x, "epsilon": 0.1, "step_size": 0.1, "steps": 1},
    "predict": lambda: {"x": points, "x_train": points, "coefficients": columns, "bandwidth": 1.0},
    "prunable": lambda: {"module": net},
    "prune": lambda: {"scores": weights, "mask": Mask(masks), "rate": 0.5},
    "random_direction": lambda: {"network": net, "generator": generator()},
    "random_conv_features": lambda: {"x": x, "filters": conv},
    "random_conv_filters": lambda: {
        "x": x,
        "num_filters": 3,
        "generator": generator(),
        "patch_size": 3,
        "num_patches": 9,
    },
    "random_mask": lambda: {"mask": Mask(masks), "generator": generator()},
    "recomputed_kernel": lambda: {"blocks": lambda x: [x], "x": points, "x_test": points, "bandwidth": 1.0},
    "DropConnect": lambda: {"layer": nn.Linear(3, 3)},
    "GaussianDropout": dict,
    "InformationDropout": lambda: {"layer": nn.Linear(3, 3)},
    "InformationPenalty": dict,
    "Initialization": lambda: {"rule": "lsuv"},
    "monte_carlo": lambda: {"module": nn.Sequential(nn.Dropout()), "x": points, "samples": 2},
    "Maxout": dict,
    "MeanOnlyBatchNorm": lambda: {"num_features": 3},
    "GhostBatchNorm": lambda: {"num_features": 3},
    "replace_layers": lambda: {"module": nn.Sequential(nn.ReLU()), "replacements": {nn.ReLU: lambda _: nn.Tanh()}},
    "rkhs_norm": lambda: {"coefficients": columns, "fitted": columns},
    "rules": dict,
    "saddle": lambda: {"point": points[:2]},
    "select": lambda: {
        "gram": gram,
        "labels": y,
        "num_classes": 3,
        "bandwidths": [1.0],
        "ridges": [0.1],
        "generator": generator(),
    },
    "set_evaluation": lambda: {"network": supermasked(), "evaluation": "expected"},
    "share_weights": lambda: {"module": nn.Linear(9, 2), "bits": 2},
    "sharpness": lambda: {"network": net, "x": x, "y": y, "steps": 2},
    "solve_spd": lambda: {"operator": operator, "targets": columns, "ridge": 1.0},
    "squared_distances": lambda: {"gram": gram},
    "stored_kernel": lambda: {"blocks": lambda x: [x], "x": points, "x_test": points, "bandwidth": 1.0},
    "update_batch_norm": lambda: {"module": nn.BatchNorm1d(3), "batches": [points]},
    "weight_norms": lambda: {"weights": weights, "start": weights},
    "wilson_problem": lambda: {"rows": 3, "generator": generator(), "test_rows": 2},
    "zero_pruned": lambda: {"weights": [points.clone()], "masks": [torch.ones(6, 3)]},
    "synthetic_gradient": lambda: {"units": points, "predicted": points},
    # papers
    "Cell": lambda: {"name": "a", "task": "module:function"},
    "Claim": lambda: {"id": "c", "sentence": "s", "measure": value("a"), "above": 0.5, "kind": "control"},
    "Deviation": lambda: {"scale": "quick", "theirs": "t", "ours": "o"},
    "Family": lambda: {"title": "t", "metrics": (Metric("m", "M"),)},
    "Figure": lambda: {"id": "f", "title": "t", "draw": "module:function"},
    "Measure": lambda: {"name": "m", "parts": (("a", "test_acc"),), "each": float},
    "Metric": lambda: {"name": "m", "heading": "M"},
    "Paper": lambda: {
        "id": "p",
        "title": "t",
        "authors": "A",
        "year": 2020,
        "arxiv": "",
        "scales": (Scale("quick", "d", ()),),
    },
    "Scale": lambda: {"name": "quick", "description": "d", "cells": ()},
    "Source": lambda: {"key": "k", "title": "t"},
    "across": dict,
    "bars": lambda: {"id": "f", "title": "t", "metrics": "m", "plots": {"a": "a"}},
    "curves": lambda: {"id": "f", "title": "t", "metric": "m", "plots": {"a": "a"}},
    "difference": lambda: {"cells": "a", "others": "b"},
    "find_papers": dict,
    "grid": lambda: {"name": "a", "config": "configs/methods.yaml", "task": "m:f"},
    "grid_search": lambda: {"name": "a/{lr}", "config": "configs/methods.yaml", "lr": (0.1, 0.2)},
    "lower": lambda: {"id": "c", "sentence": "s", "cell": "a", "than": "b", "kind": "control"},
    "regularized": lambda: {"name": "Mixup"},
    "largest": lambda: {"metric": "m"},
    "load_paper": lambda: {"paper_id": "smith2021"},
    "margin": lambda: {"cell": "a", "others": ["b"]},
    "override": lambda: {"config": {}, "overrides": {}},
    "path_plane": lambda: {"network": net, "path": [state, net, {n: w + 1 for n, w in state.items()}]},
    "peak_distance": lambda: {"cells": {1: "a", 2: "b"}, "others": {1: "c", 2: "d"}},
    "peak_over_fit": lambda: {"line": {1: "a", 2: "b"}},
    "peak_position": lambda: {"line": {1: "a", 2: "b"}},
    "fall": lambda: {"line": {1: "a", 2: "b"}},
    "rise": lambda: {"line": {1: "a", 2: "b"}},
    "second_descent": lambda: {"line": {1: "a", 2: "b"}},
    "per_seed": lambda: {"function": float},
    "percent_lower": lambda: {"cells": "a", "others": "b"},
    "points": lambda: {"id": "f", "title": "t", "metrics": "m", "plots": {"a": "a"}},
    "rank_correlation": lambda: {"metric": "m"},
    "ratio": lambda: {"cells": "a", "others": "b"},
    "resolve": lambda: {"config_path": "configs/methods.yaml"},
    "share": lambda: {"cells": "a", "start": "b", "end": "c"},
    "share_of_variance": lambda: {"cell": "a"},
    "smallest": lambda: {"metric": "m"},
    "smallest_step": lambda: {"metric": "m", "sign": 1.0},
    "sweep": lambda: {"id": "f", "title": "t", "metric": "m", "plots": {"a": {1.0: "a"}}},
    "trained": lambda: {"cells": "a", "at_least": 0.5},
    "Tuned": lambda: {"name": "sgd", "grid": {0.1: "a", 0.2: "b"}},
    "tuning": lambda: {"id": "f", "title": "t", "methods": {"sgd": Tuned("sgd", {0.1: "a", 0.2: "b"})}},
    "value": lambda: {"cell": "a"},
    "variance_cells": lambda: {"config": {}},
    "variance_figure": lambda: {"what": "w"},
    "weighted_sum": dict,
}


def public() -> dict[str, Any]:
    """Return every public callable by name."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"lightning_regs{room}")
        found |= {name: getattr(module, name) for name in module.__all__ if callable(getattr(module, name))}
    return found


def parameters(target: Any) -> list[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(target).parameters.values() if p.kind not in kinds]


def cryptic(error: Exception, parameter: str, bad: object) -> str:
    """Say what is wrong with how a bad value is refused; nothing where it is clear."""
    if not isinstance(error, (ValueError, TypeError, MisconfigurationException)):
        return "of another kind"
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or Path(lightning_regs.__file__).parent not in Path(last.tb_frame.f_code.co_filename).parents:
        return "from the inside"
    said = str(error).replace("\u2212", "-")
    named = parameter in said or shown(bad) in said or (isinstance(bad, (list, dict)) and not bad)
    return "" if named and "\n" not in said else f"names neither {parameter} nor {shown(bad)}"


def legal(name: str, parameter: inspect.Parameter, bad: object) -> bool:
    """Tell whether a value is meant to be taken: by what the annotation says in words, else by ``LEGAL``."""
    words = str(parameter.annotation)
    if any(fnmatchcase(f"{name}.{parameter.name}", pattern) for pattern in LEGAL.get(shown(bad), "").split()):
        return True
    if parameter.name not in ("batch", "generator") and isinstance(bad, list | dict):
        return "nonempty" not in words
    kinds: dict[Any, tuple[str, ...]] = {
        "None": ("None",),
        "True": ("bool",),
        "2.5": ("float", "Positive", "NotNegative"),
        str(10**30): ("float", "Positive", "NotNegative"),
        "'no'": ("str", "Name", "Cells", "Globs", "Parameters"),
    }
    return any(word in words for word in kinds.get(shown(bad), ()))


# Those that a range would have excluded, and one that takes whatever there is.
LEGAL = {
    "-1": "Maxout.dim Claim.above Claim.below Claim.published Cutout.fill cutout.fill add_supermask.initial_logit "
    "interpolate.alpha WeightAgnosticNet.weight "
    "lower.published smallest_step.sign trained.at_least trained.at_most",
    "''": "*.caption *.unit *.where *.until *.other_metric *.than_metric *.x *.y *.note *.link *.authors *.sentence "
    "*.published *.stack *.out_of_reach *.valid_if *.scale *.effect *.title *.draw *.heading *.never *.arxiv *.summary "
    "*.command *.description *.split *.what *.metrics *.source *.root",
    "None": "*.clip *.parameters Regularizer.batch SnapshotEnsemble.batch Initialization.batch "
    "SyntheticGradients.batch LayerSignals.batch",
}


@pytest.mark.parametrize("name", sorted(public()))
def test_a_bad_value_is_refused_in_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where files are written
    if name in RECORDS or name in OWN_TESTS:
        return
    assert name in CALLS, f"tests/contracts/test_values.py knows no valid call of {name}: add one to CALLS."
    target, wrong = public()[name], []
    target(**CALLS[name]())
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        for bad in BAD:
            said = f"{name}({parameter.name}={shown(bad)})"
            try:
                target(**{**CALLS[name](), parameter.name: bad})
            except Exception as error:
                if why := cryptic(error, parameter.name, bad):
                    wrong.append(f"{said} is refused {why}: {error}")
            else:
                if not legal(name, parameter, bad):
                    wrong.append(f"{said} is taken without a word")
    assert not wrong, "\n".join(wrong)


def test_what_stands_for_a_plain_value_is_taken_as_it() -> None:
    """Numbers of numpy and tensors, paths, generators and views of mappings, as users have them at hand."""
    data = lightning_regs.ImageDataModule(
        np.str_("digits"), Path("data"), np.int64(32), val_split=np.int64(9), replicas=[0, np.int64(1)]
    )
    data.setup()
    next(iter(data.train_dataloader()))
    classifier = lightning_regs.Classifier(input_shape=np.array([4]), num_classes=y.max() + 1, replicas=np.arange(2))
    held = io.BytesIO()
    torch.save([dict(data.hparams), dict(classifier.hparams)], held)
    held.seek(0)
    (kept, shape), types = torch.load(held, weights_only=True), (str, str, int)
    assert tuple(type(kept[name]) for name in ("source", "root", "batch_size")) == types
    assert (shape["input_shape"], shape["num_classes"], shape["replicas"]) == ([4], 3, [0, 1])
    layers, kept_weights = {"a": points.clone()}, (weight for weight in [torch.zeros(6, 3)])
    lightning_regs.functional.zero_pruned(layers.values(), kept_weights)
    assert not layers["a"].any()
    assert lightning_regs.NormPenalty(p=2.0).p == 2
    groups = [{"params": list(net[1].parameters()), "lr": 0.5}, {"params": list(net[3].parameters())}]
    made = lightning_regs.optim.make_optimizer(groups, {"name": "SGD", "lr": 1})
    assert [group["lr"] for group in made.param_groups] == [0.5, 1]
