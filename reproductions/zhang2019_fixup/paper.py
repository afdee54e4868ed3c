"""Zhang, Dauphin, Ma: Fixup Initialization: Residual Learning Without Normalization (1901.09321)."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    INITIALIZED,
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    across,
    difference,
    grid,
    lower,
    points,
    regularized,
    sweep,
    trained,
    value,
)

MLP, RESNET = "configs/zhang2019_fixup/mlp.yaml", "configs/zhang2019_fixup/resnet.yaml"
FIXUP, HE = {"rule": "fixup", "samples": 8}, {"rule": "kaiming_normal"}
BATCH: dict[str, Any] = {"model.architecture_args.norm": "batch"}
RULES: dict[str, dict[str, Any]] = {
    "fixup": {"initial": FIXUP}, "he": {"initial": HE}, "batch": {"initial": HE} | BATCH,
    "zero-last": {"initial": FIXUP | {"scaled": False, "scalars": False}},
}  # fmt: skip
LONGER = RULES | {"no-scalars": {"initial": FIXUP | {"scalars": False}},
                  "xavier": {"initial": {"rule": "xavier_normal"}}}  # fmt: skip
MIXED = {rule: RULES[rule] | regularized("Mixup", alpha=1.0) for rule in ("fixup", "batch")}


def _depths(nets: dict[int, Any], rule: str) -> list[int]:
    """Return the depths at which a rule is measured: over a thousand layers two are, for their time."""
    return [depth for depth in nets if depth < 1000 or rule in ("fixup", "he")]


def _cells(
    config: str, nets: dict[int, dict[str, Any]], rate: float, depth: int, long: dict[str, Any], stack: bool
) -> Cells:
    """Return nets by their depth after one epoch, and those of one depth after a longer training."""
    one, slower = nets[depth] | long, {"model.optimizer.groups": {"*fixup_*": {"lr": rate / 10}}}

    def of(rules: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {rule: changes | slower if rule == "fixup" else changes for rule, changes in rules.items()}

    made = Cells()
    for rule, changes in of(RULES).items():
        made += grid(f"epoch/{{depth}}/{rule}", config, changes, task=INITIALIZED, stack=stack,
                     depth={n: nets[n] for n in _depths(nets, rule)})  # fmt: skip
    made += grid("long/{rule}", config, one, task=INITIALIZED, stack=stack, rule=of(LONGER))
    made += grid("mixup/{rule}", config, one, task=INITIALIZED, rule=of(MIXED))
    return made + grid("study/agreement", config, one | BATCH | {"other": {"model.architecture_args.norm": "group"}},
                       seeds=2, stack=stack)  # fmt: skip


MLPS = {depth: {"model.architecture_args.hidden": [32] * (depth - 1)} for depth in (12, 102, 1002)}
RESNETS = {depth: {"model.architecture_args.depth": depth} for depth in (20, 110, 1202)}
FASHION = {"data.source": "fashion_mnist", "data.train_size": 20_000, "data.batch_size": 128}
CIFAR = {"data.image_size": 32, "data.padding": 4, "data.random_crop": True, "data.random_flip": True}
CELLS = _cells(MLP, MLPS, 0.05, 12, {"trainer.max_epochs": 15}, True)
SCHEDULE = {"trainer.max_epochs": 200,
            "model.schedule": {"name": "MultiStepLR", "milestones": [100, 150], "gamma": 0.1}}  # fmt: skip

PAPER_ITSELF = Source("paper", "Fixup Initialization: Residual Learning Without Normalization", "Zhang, Dauphin, Ma",
                      2019, "arxiv.org/abs/1901.09321")  # fmt: skip
CODE = Source("code", "The authors' code", link="github.com/hongyi-zhang/Fixup")
LEARNED, STUCK = 60, 80  # percent of the test samples wrong, of which a guess has 90
_said = partial(Claim, source=PAPER_ITSELF, origin="recalled")
_lower = partial(lower, source=PAPER_ITSELF, origin="recalled")


def _claims(shallow: int, deep: int, deepest: int) -> tuple[Claim, ...]:
    """Say of a scale's nets what the paper says of its own."""

    def gap(cell: str, other: str, **options: Any) -> dict[str, Any]:
        return {"measure": difference(cell, other, "test_error")} | options

    return (
        _said("1", "With Fixup the deepest net (1,002 layers; at paper scale 1,202) learns in its first epoch.",
              value(f"epoch/{deepest}/fixup", "test_error"), at_most=LEARNED, published="learns",
              where="Figure 3", headline=True),
        _said("1-he", "With He's weights and no normalization the deepest net (1,002 layers; at paper scale 1,202) "
              "does not learn in its first epoch.",
              value(f"epoch/{deepest}/he", "test_error"), at_least=STUCK, published="does not", headline=True),
        _said("2", "With Fixup depth costs the first epoch little: within ten points of the shallowest net.",
              **gap(f"epoch/{deepest}/fixup", f"epoch/{shallow}/fixup", at_most=10, published="little")),
        _said("3", "At about a hundred layers Fixup is no slower than batch norm: after an epoch its test error is at "
              "most five points higher.",
              **gap(f"epoch/{deep}/fixup", f"epoch/{deep}/batch", at_most=5, published="no slower"), headline=True),
        _lower("4", "At about a hundred layers zero last layers of branches alone, without scaling and scalars, do "
               "worse than Fixup.",
               f"epoch/{deep}/fixup", f"epoch/{deep}/zero-last", "> 0", where="section 3"),
        _lower("5", "Trained to the end without other regularization Fixup has a higher error than batch norm.",
               "long/batch", "long/fixup", 0.63),
        _lower("6", "It has a lower one than Xavier's weights without normalization.", "long/fixup", "long/xavier",
               0.54),
        _lower("7", "It has a lower one with its scalars than without.", "long/fixup", "long/no-scalars", "> 0"),
        _said("8", "Regularized alike, by mixup, Fixup is level with batch norm: its test error is at most two points "
              "higher.",
              **gap("mixup/fixup", "mixup/batch", at_most=2, published=0.7), where="ImageNet", headline=True,
              valid_if=trained("mixup/*", at_least=60)),
    )  # fmt: skip


CLAIMS = (
    *across(quick=_claims(12, 102, 1002), standard=_claims(12, 102, 1002), paper=_claims(20, 110, 1202)),
    *(_said(f"error-{rule}", f"ResNet-110 on CIFAR-10 has this test error: {text}.",
            value(f"long/{rule}", "test_error"), published=number, within=0.3, on=("paper",))
      for rule, text, number in (("batch", "batch norm", 6.61), ("fixup", "Fixup", 7.24), ("xavier", "Xavier", 7.78))),
    Claim("9", "ResNet-50 by Fixup has about 76 % right on ImageNet.", source=CODE,
          out_of_reach="It takes days on eight GPUs"),
    _said("10", "A net of 10,000 layers trains, too.", out_of_reach="Its epoch takes a day"),
    _said("11", "Transformers without layer norm translate as well.", out_of_reach="Transformers are not built here"),
)  # fmt: skip


ENDS = {f"long, {rule}": f"long/{rule}" for rule in LONGER} | {f"mixup, {rule}": f"mixup/{rule}" for rule in MIXED}

PAPER = Paper(
    "zhang2019_fixup", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2019, "1901.09321",
    summary="A residual net whose branches start at zero and whose other layers are scaled down by the number of "
    "branches trains without normalization, however deep it is.",
    scales=(
        Scale("quick", "Digits, residual MLPs of 12 to 1,002 layers of 32: 8 minutes on two cores",
              CELLS, seeds=5, replicas=5),
        Scale("standard", "20,000 images of Fashion-MNIST, residual MLPs of 12 to 1,002 layers: 40 minutes on one core",
              CELLS, overrides=FASHION, seeds=5, replicas=5),
        Scale("paper", "CIFAR-10, ResNets of 20 to 1,202 layers, 200 epochs at 110: two weeks on a GPU",
              _cells(RESNET, RESNETS, 0.1, 110, SCHEDULE, False), overrides=CIFAR, seeds=5, test_items=0),
    ),
    claims=CLAIMS,
    figures=(
        *(sweep(f"depth-{scale}", "Test error after the first epoch, by depth", "test_error",
                {rule: {n: f"epoch/{n}/{rule}" for n in _depths(nets, rule)} for rule in RULES},
                "Where numbers overflowed a net counts as a guess, 90 %.", x="layers", y="test error (%)", log_x=10,
                on=(scale,))
          for scale, nets in (("quick", MLPS), ("standard", MLPS), ("paper", RESNETS))),
        points("errors", "Test error at the end", "test_error", ENDS, y="test error (%)"),
    ),
    deviations=(
        Deviation("", "Shortcuts that halve pool and pad", "Take every other pixel and pad", "None known"),
        Deviation("quick", "ResNets on CIFAR-10", "Residual MLPs of width 32 on digits of 8x8 pixels, batches of 50, "
                  "24 steps an epoch at a rate of 0.05; 15 epochs at 12 layers", "Only directions can be compared"),
        Deviation("standard", "ResNet-110 of width 16 on CIFAR-10, 200 epochs", "Residual MLPs of width 32 on 20,000 "
                  "images of Fashion-MNIST, 157 steps an epoch at a rate of 0.05; 15 epochs at 12 layers",
                  "Only directions can be compared"),
    ),
)  # fmt: skip
