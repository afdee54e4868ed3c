"""Smith, Kindermans, Ying & Le: Don't Decay the Learning Rate, Increase the Batch Size (1711.00489)."""

from typing import Any

from lightning_regs.study import (
    TRAIN,
    Cells,
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

SIGNALS, FASHION, CIFAR = (f"configs/smith2018_batch/{name}.yaml" for name in ("mnist1d-mlp", "fashion-mlp",
                           "cifar10-wrn"))  # fmt: skip
ADAM = {"model.optimizer": {"name": "Adam", "lr": 0.001}}


def _cells(config: str, start: int, falls: tuple[int, ...], rate: float, plain: float, stack: bool = False) -> Cells:
    """Begin with batches of a size and a rate, of SGD without momentum another; fall at some epochs, by 5 each."""

    def run(batch: int = start, grows: int = 0, **optimizer: Any) -> dict[str, Any]:
        """Grow the batch at the first falls, and decay the rate at the others."""
        sizes = [[0, batch], *([epoch, batch * 5 ** (i + 1)] for i, epoch in enumerate(falls[:grows]))]
        later = {"name": "MultiStepLR", "milestones": list(falls[grows:]), "gamma": 0.2} if falls[grows:] else None
        changes = {f"model.optimizer.{name}": setting for name, setting in optimizer.items()}
        return changes | {"data.batch_size": sizes if grows else batch, "model.schedule": later}

    ways = {"decay": run(), "grow": run(grows=3)}
    sgd = {"momentum": {}, "plain": {"model.optimizer.lr": plain, "model.optimizer.momentum": 0.0}}
    others = {"nesterov": {"model.optimizer.nesterov": True}, "adam": ADAM}
    momentum = {
        "constant": {"data.batch_size": start},
        "hybrid": run(grows=1),
        "grow-rate": run(batch=start * 5, grows=2, lr=5 * rate),
        "grow-momentum": run(batch=start * 25, grows=1, lr=5 * rate, momentum=0.98),
    }
    return (
        grid("{optimizer}/{way}", config, stack=stack and "{way}", optimizer=sgd, way=ways)
        + grid("{optimizer}/{way}", config, stack=stack, optimizer=others, way=ways)
        + grid("momentum/{way}", config, stack=stack, way=momentum)
        + grid("study/agreement", config, run() | {"other": run(grows=3)}, seeds=3, stack=stack)
    )


QUICK = _cells(SIGNALS, 16, (12, 24, 32), 0.05, 0.5, stack=True)

PAPER_ITSELF = Source("paper", "Don't Decay the Learning Rate, Increase the Batch Size", "Smith, Kindermans, Ying, Le",
                      2018, "arxiv.org/abs/1711.00489")  # fmt: skip
DECAY, GROW, BASE = "momentum/decay", "momentum/grow", {"source": PAPER_ITSELF, "origin": "derived"}
HELPS = "control-decay"
SAME = "has the same test error, within a point"


def _same(id: str, sentence: str, cell: str, than: str, published: float, **about: Any) -> Claim:
    """Two ways have one test error: the interval of the difference, in points, lies within a point of the paper's."""
    return Claim(id, sentence, difference(cell, than, "test_error"), within=1.0, published=published,
                 valid_if=HELPS, **BASE | about)  # fmt: skip


CLAIMS = (
    _same("8", f"Growing the batch in place of decaying the rate {SAME}.", GROW, DECAY, -0.1, where="Section 5.2",
          headline=True),
    Claim("8-loss", "Growing the batch and decaying the rate end at the same training loss, within a tenth.",
          ratio(GROW, DECAY, "train_loss"), within=0.1, published=1.0, valid_if=HELPS, headline=True, **BASE),
    _same("8-hybrid", f"Growing it at the first fall and decaying the rate at the others {SAME}.", "momentum/hybrid",
          DECAY, 0.0),
    *(_same(f"8-{name}", f"With {words} growing the batch {SAME}, as decaying the rate.", f"{name}/grow",
            f"{name}/decay", 0.0)
      for name, words in (("nesterov", "Nesterov's momentum"), ("plain", "no momentum"), ("adam", "Adam"))),
    _same("9", f"A growing batch that begins five times as large, at five times the rate, {SAME}, as one that begins "
          "small.", "momentum/grow-rate", GROW, -0.1, where="Section 5.2", headline=True),
    lower("9-momentum", "Beginning with 25 times the batch, five times the rate and momentum 0.98 has a higher test "
          "error than beginning small with momentum 0.9.", GROW, "momentum/grow-momentum", 1.1, where="Section 5.2",
          headline=True, **BASE),
    lower(HELPS, "Decaying the rate has a lower test error than leaving it as it is, or the ways would be the same for "
          "nothing.", DECAY, "momentum/constant", "not compared", kind="control", valid_if=trained(DECAY, at_least=95)),
    Claim("9-imagenet", "ResNet-50 trains on ImageNet in under 30 minutes at the accuracy of small batches.",
          source=PAPER_ITSELF, origin="recalled", where="abstract", out_of_reach="It is about ImageNet and a TPU pod"),
)  # fmt: skip

WAYS = {"decay the rate": DECAY, "grow the batch": GROW, "first grow, then decay": "momentum/hybrid",
        "neither": "momentum/constant"}  # fmt: skip
PAPER = Paper(
    "smith2018_batch", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1711.00489",
    summary="What a falling rate does to the noise of SGD a growing batch does as well: the curves are the same over "
    "epochs, in a third of the updates.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP: the claims' direction, 4 minutes on two cores", QUICK, seeds=10,
              replicas=20),
        Scale("standard", "10,000 images of Fashion-MNIST, the MLP: 15 minutes on two cores",
              _cells(FASHION, 16, (9, 18, 24), 0.01, 0.1, stack=True), overrides={"data.train_size": 10_000}, seeds=5,
              replicas=10),
        Scale("paper", "CIFAR-10 and WRN-16-4, 200 epochs: five days on one GPU",
              _cells(CIFAR, 128, (60, 120, 160), 0.1, 1.0), seeds=5, test_items=0),
    ),
    claims=CLAIMS,
    figures=(
        curves("curves", "Training accuracy over epochs", "train_acc", WAYS, "In the paper the curves of the three "
               "ways lie on each other.", y="training accuracy (%)", epochs=True),
        points("errors", "Test error", "test_error", {cell.name: cell.name for cell in QUICK if cell.task == TRAIN},
               y="test error (%)"),
    ),
    deviations=(
        Deviation("quick", "Wide ResNet 16-4 on CIFAR-10, 200 epochs, batches of 128 to 5,120", "An MLP of two layers "
                  "of 128 on 4,000 signals of MNIST-1D, 40 epochs, batches of 16 to 2,000", "Only directions can be "
                  "compared"),
        Deviation("standard", "Wide ResNet 16-4 on CIFAR-10, 200 epochs, batches of 128 to 5,120", "The MLP on 10,000 "
                  "images of Fashion-MNIST, 30 epochs, batches of 16 to 2,000", "Only directions can be compared"),
        *(Deviation(scale, "Ghost batch norm of 128", "No batch norm", "Small batches are not noisier by it")
          for scale in ("quick", "standard")),
        Deviation("", "Falls at 60, 120 and 160 of 200 epochs (recalled)", "At these shares of the epochs", "None"),
        Deviation("paper", "Batches of at most 5,120", "25 times the first, 16,000, at the last fall", "Not known"),
    ),
)  # fmt: skip
