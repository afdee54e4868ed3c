"""Smith, Kindermans, Ying & Le: Don't Decay the Learning Rate, Increase the Batch Size (1711.00489)."""

from typing import Any

from lightning_regs.study import (
    AGREE,
    TRAIN,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    curves,
    difference,
    grid,
    lower,
    points,
    ratio,
    trained,
)

CONFIG = "configs/smith2018_batch/mnist1d-mlp.yaml"
FALLS = (18, 36, 48)  # at 30, 60 and 80 % of 60 epochs, each by a factor of 5


def _run(batch: int = 16, grows: int = 0, **optimizer: Any) -> dict[str, Any]:
    """Grow the batch at the first falls, and decay the rate at the others."""
    sizes = [[0, batch], *([epoch, batch * 5 ** (i + 1)] for i, epoch in enumerate(FALLS[:grows]))]
    falls = {"name": "MultiStepLR", "milestones": list(FALLS[grows:]), "gamma": 0.2} if FALLS[grows:] else None
    changes = {f"model.optimizer.{name}": setting for name, setting in optimizer.items()}
    return changes | {"data.batch_size": sizes if grows else batch, "model.schedule": falls}


ADAM = {"model.optimizer": None, "model.optimizer.name": "Adam", "model.optimizer.lr": 0.001}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "momentum": {}, "nesterov": {"nesterov": True}, "plain": {"lr": 0.5, "momentum": 0.0},
}  # fmt: skip
CELLS = grid("{run}", CONFIG, stack=True, run={
    **{f"{name}/{way}": _run(grows=grows, **options) for name, options in OPTIMIZERS.items()
       for way, grows in (("decay", 0), ("grow", 3))},
    **{f"adam/{way}": ADAM | _run(grows=grows) for way, grows in (("decay", 0), ("grow", 3))},
    "momentum/constant": {},
    "momentum/hybrid": _run(grows=1),
    "momentum/grow-rate": _run(batch=80, grows=2, lr=0.25),
    "momentum/grow-momentum": _run(batch=400, grows=1, lr=0.25, momentum=0.98),
})  # fmt: skip
CELLS += grid("study/agreement", CONFIG, _run() | {"other": _run(grows=3)}, task=AGREE, seeds=3, stack=True)

PAPER_ITSELF = Source("paper", "Don't Decay the Learning Rate, Increase the Batch Size", "Smith, Kindermans, Ying, Le",
                      2018, "arxiv.org/abs/1711.00489")  # fmt: skip
DECAY, GROW, BASE = "momentum/decay", "momentum/grow", {"source": PAPER_ITSELF, "origin": "derived"}
HELPS = "control-decay"
SAME = "has the same test error, within a point"


def _same(id: str, sentence: str, cell: str, than: str, published: float, **about: Any) -> Claim:
    """Two ways have one test error: the interval of the difference, in points, lies within a point of the paper's."""
    return Claim(id, sentence, difference(cell, than, "test_error"), within=1.0, unit="points", published=published,
                 valid_if=HELPS, **BASE | about)  # fmt: skip


CLAIMS = (
    _same("8", f"Growing the batch in place of decaying the rate {SAME}.", GROW, DECAY, -0.1, where="Section 5.2",
          headline=True),
    Claim("8-loss", "Both end at the same training loss, within a tenth.", ratio(GROW, DECAY, "train_loss"), within=0.1,
          published=1.0, unit="x", valid_if=HELPS, headline=True, **BASE),
    _same("8-hybrid", f"Growing it at the first fall and decaying the rate at the others {SAME}.", "momentum/hybrid",
          DECAY, 0.0),
    *(_same(f"8-{name}", f"With {words} growing the batch {SAME}, as decaying the rate.", f"{name}/grow",
            f"{name}/decay", 0.0)
      for name, words in (("nesterov", "Nesterov's momentum"), ("plain", "no momentum"), ("adam", "Adam"))),
    _same("9", f"Beginning with five times the rate and the batch {SAME}.", "momentum/grow-rate", GROW, -0.1,
          where="Section 5.2", headline=True),
    lower("9-momentum", "Momentum 0.98 with five times the batch once more has a higher test error.", GROW,
          "momentum/grow-momentum", 1.1, where="Section 5.2", headline=True, **BASE),
    lower(HELPS, "Decaying the rate lowers the test error at all, without which the ways were the same for nothing.",
          DECAY, "momentum/constant", "not compared", kind="control", valid_if=trained(DECAY, at_least=95)),
    Claim("9-imagenet", "ResNet-50 trains on ImageNet in under 30 minutes at the accuracy of small batches.",
          source=PAPER_ITSELF, origin="recalled", where="abstract", out_of_reach="It is about ImageNet and a TPU pod"),
)  # fmt: skip

WAYS = {"decay the rate": DECAY, "grow the batch": GROW, "first grow, then decay": "momentum/hybrid",
        "neither": "momentum/constant"}  # fmt: skip
PAPER = Paper(
    "smith2018_batch", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1711.00489",
    summary="What a falling rate does to the noise of SGD a growing batch does as well: the curves are the same over "
    "epochs, in a third of the updates.",
    scales=(Scale("quick", "MNIST-1D and an MLP: the claims' direction, 10 minutes on two cores", CELLS, seeds=10,
                  replicas=5, test_items=1000),),
    claims=CLAIMS,
    figures=(
        curves("curves", "Training accuracy over epochs", "train_acc", WAYS, "In the paper the curves of the three "
               "ways lie on each other.", y="training accuracy (%)", epochs=True),
        points("errors", "Test error", "test_error", {cell.name: cell.name for cell in CELLS if cell.task == TRAIN},
               y="test error (%)"),
    ),
    deviations=(
        Deviation("quick", "Wide ResNet 16-4 on CIFAR-10, 200 epochs, batches of 128 to 5,120", "An MLP of two layers "
                  "of 128 on 4,000 signals of MNIST-1D, 60 epochs, batches of 16 to 2,000", "Only directions can be "
                  "compared"),
        Deviation("quick", "Ghost batch norm of 128", "No batch norm", "Small batches are not noisier by it"),
        Deviation("quick", "Falls at 60, 120 and 160 of 200 epochs (recalled)", "At the same shares", "None"),
    ),
)  # fmt: skip
