"""Keskar et al.: On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima (1609.04836)."""

from typing import Any

from lightning_regs.study import (
    SHARPNESS,
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    grid,
    lower,
    points,
    rank_correlation,
    ratio,
    sweep,
    trained,
)

F1, C1 = "configs/keskar2016/f1.yaml", "configs/keskar2016/c1.yaml"


def _runs(**batches: tuple[int, int]) -> dict[str, dict[str, int]]:
    """Train with batches of some sizes, each for so many epochs."""
    return {name: {"data.batch_size": size, "trainer.max_epochs": epochs} for name, (size, epochs) in batches.items()}


def _cells(net: str, config: str, batch: dict[str, dict[str, int]], **sharpness: Any) -> Cells:
    return grid(f"{net}/{{batch}}", config, {"sharpness": sharpness}, task=SHARPNESS, stack=True, batch=batch)


SIGNALS = {"data.source": "mnist1d", "model.architecture_args.hidden": [128, 128, 128]}
SIZES = _runs(small=(32, 50), medium=(80, 80), larger=(200, 150), large=(400, 200))
QUICK = _cells("f1", F1, SIZES).at(SIGNALS)
_PAIR = SIGNALS | SIZES["small"] | {"other": SIZES["large"]}
QUICK += grid("study/agreement", F1, _PAIR, seeds=3, stack=True)
SOME = {"data.train_size": 20_000}
_PARTS = _runs(small=(256, 20), large=(2000, 50))
STANDARD = _cells("f1", F1, _PARTS, samples=10_000).at(SOME)
STANDARD += grid("study/agreement", F1, SOME | _PARTS["small"] | {"other": _PARTS["large"]}, seeds=3, stack=True)
FULL = _cells("f1", F1, _runs(small=(256, 50), large=(6000, 500)))
FULL += _cells("c1", C1, _runs(small=(256, 100), large=(5000, 500)))

PAPER_ITSELF = Source("paper", "On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima",
                      "Keskar, Mudigere, Nocedal, Smelyanskiy, Tang", 2017, "arxiv.org/abs/1609.04836")  # fmt: skip
SHARPER = "The loss rises at least 10 times as far near the large batch's weights as near the small one's, within"


def _claims(net: str, gap: float, times: dict[str, float], **about: Any) -> tuple[Claim, ...]:
    """Compare a small and a large batch that both fit the training data; the paper's quotients by metric."""
    small, large = f"{net}/small", f"{net}/large"
    given = {"source": PAPER_ITSELF, "origin": "derived", "valid_if": trained((small, large), at_least=98)} | about

    def sharper(id: str, within: str, metric: str, **more: Any) -> Claim:
        return Claim(f"{net}-{id}", f"{SHARPER} {within}.", ratio(large, small, metric), at_least=10,
                     published=times[metric], **given | more)  # fmt: skip

    return (
        lower(f"{net}-gap", "A large batch ends at a higher test error than a small one, though both fit.", small,
              large, gap, **given, where="Table 2"),
        sharper("1e-3", "0.001", "sharpness_1e-3", where="Table 3"),
        sharper("5e-4", "0.0005", "sharpness_5e-4", where="Table 3"),
        sharper("subspace", "0.001 of 100 random directions", "subspace_1e-3", where="Table 4", origin="recalled"),
    )  # fmt: skip


SHARES = ("f1/small", "f1/medium", "f1/larger", "f1/large")
CLAIMS = (
    *_claims("f1", 0.22, {"sharpness_1e-3": 166.8, "sharpness_5e-4": 70.3, "subspace_1e-3": 83.8}, headline=True),
    *_claims("c1", 2.78, {"sharpness_1e-3": 24.7, "sharpness_5e-4": 32.1, "subspace_1e-3": 63.0}, on=("paper",)),
    Claim("rises", "Sharpness rises with the batch.", rank_correlation("sharpness_1e-3", *SHARES), above=0,
          published="it rises", source=PAPER_ITSELF, origin="recalled", on=("quick",),
          valid_if=trained("f1/*", at_least=98), headline=True),
    Claim("rises-error", "So does the test error.", rank_correlation("test_error", *SHARES), above=0,
          published="it rises", source=PAPER_ITSELF, origin="recalled", on=("quick",),
          valid_if=trained("f1/*", at_least=98)),
    lower("control-loss", "The large batch ends at a lower training loss than the small one: it is not sharp for want "
          "of training.", "f1/large", "f1/small", metric="train_loss", kind="control"),
    Claim("others", "So it is on TIMIT and CIFAR-100, and with a deep VGG net.", source=PAPER_ITSELF, where="Table 3",
          out_of_reach="TIMIT is not free; CIFAR-100 and the VGG net were left out"),
    Claim("paths", "On the line between the two minima the loss is flat around the small batch's.", source=PAPER_ITSELF,
          where="Figure 3", out_of_reach="A picture without a number"),
)  # fmt: skip

PAPER = Paper(
    "keskar2016", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2017, "1609.04836",
    summary="Large batches find minima around which the loss is steep, and generalise worse; small ones, whose steps "
    "are noisy, end where it is flat.",
    scales=(
        Scale("quick", "MNIST-1D and an MLP with batch norm: the claims' direction, 4 minutes on two cores", QUICK,
              seeds=5, replicas=5),
        Scale("standard", "The paper's net F1 on 20,000 images of MNIST, sharpness on 10,000: 30 minutes on two cores",
              STANDARD, seeds=5, replicas=5),
        Scale("paper", "F1 on MNIST and C1 on CIFAR-10: half a day on one GPU", FULL, seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    figures=(
        sweep("batches", "Sharpness by batch", "sharpness_1e-3",
              {"within 0.001": {32: SHARES[0], 80: SHARES[1], 200: SHARES[2], 400: SHARES[3]}},
              "In the paper it grows with the batch.", x="batch, of 4,000 signals", y="sharpness (%)", log_x=1,
              log_y=10, on=("quick",)),
        points("errors", "Training and test error", {"train": "train_error", "test": "test_error"},
               {"small batch": "f1/small", "large batch": "f1/large"}, y="error (%)"),
    ),
    deviations=(
        Deviation("quick", "F1: five layers of 512 on MNIST, batches of 256 and 6,000", "Three layers of 128 on 4,000 "
                  "signals of MNIST-1D, batches of 32 and 400: 0.8 and 10 % of the data, there 0.4 and 10 %", "Only "
                  "directions can be compared"),
        Deviation("standard", "60,000 images of MNIST, batches of 256 and 6,000", "20,000, batches of 256 and 2,000: "
                  "1.3 and 10 % of the data", "The gap may be smaller"),
        Deviation("standard", "Sharpness on the whole training set", "On 10,000 of its images", "Small"),
        Deviation("", "Trained until the loss falls no further; epochs are not stated", "More epochs for larger "
                  "batches, fixed", "A batch whose loss still falls looks flatter or sharper than it would end"),
        Deviation("", "10 iterations of L-BFGS-B in the weights' units; how the directions are drawn is not stated",
                  "10 in the units of the box, from a thousandth of it, without stopping at small gradients; "
                  "standard normal directions", "Numbers are larger than theirs"),
        Deviation("paper", "C1", "Activations behind the pools, which is the same function", "None"),
    ),
)  # fmt: skip
