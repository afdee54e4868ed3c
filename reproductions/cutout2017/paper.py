"""DeVries & Taylor: Improved Regularization of Convolutional Neural Networks with Cutout (1708.04552)."""

from functools import partial

from lightning_regs.study import (
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    across,
    grid,
    lower,
    regularized,
    sweep,
    trained,
)

DIGITS, CIFAR = "configs/cutout2017/digits-resnet18.yaml", "configs/cutout2017/cifar10.yaml"
CROPS = {"data.image_size": 32, "data.padding": 4, "data.random_crop": True, "data.random_flip": True}
WRN = {"model.architecture": "wide_resnet",
       "model.architecture_args": {"depth": 28, "width": 10, "norm": "batch", "dropout": 0.3}}  # fmt: skip


def _lengths(config: str, *lengths: int) -> Cells:
    """ResNet-18 with patches of so many pixels; 0 is without."""
    patches = {length: regularized("Cutout", length=length) if length else {} for length in lengths}
    return grid("resnet18/length-{length}", config, length=patches)


HALF = {"none": {}, "cutout": regularized("Cutout", length=16)}
QUICK = _lengths(DIGITS, 0, 2, 4, 6)
QUICK += grid("study/agreement", DIGITS, {"other": regularized("Cutout", length=4)}, seeds=3)
STANDARD = _lengths(CIFAR, 0, 8, 16, 24)
NARROW = {"model.architecture_args": {"width": 8}, "model.schedule.milestones": [18, 36, 48], "data.train_size": 5000,
          "trainer.max_epochs": 60, "trainer.precision": "32-true"}  # fmt: skip
FULL = STANDARD + grid("resnet18/crops/{method}", CIFAR, CROPS, method=HALF)
FULL += grid("wrn-28-10/{data}/{method}", CIFAR, WRN, data={"plain": {}, "crops": CROPS}, method=HALF)

REPOSITORY = Source("repo", "The authors' code and its table of results", link="github.com/uoguelph-mlrg/Cutout")
NOTES = Source("notes", "Public reading notes of the paper")
PAPER_ITSELF = Source(
    "paper", "Improved Regularization of Convolutional Neural Networks with Cutout", "DeVries, Taylor", 2017,
    "arxiv.org/abs/1708.04552",
)  # fmt: skip

_table_1 = partial(lower, source=PAPER_ITSELF, where="Table 1", origin="recalled")
_repository = partial(lower, source=REPOSITORY, origin="derived", on=("paper",))


def _claims(side: int) -> tuple[Claim, ...]:
    """What lengths of none, a quarter, a half and three quarters of the side give, where the net without fits."""
    none, short, best, longest = (f"resnet18/length-{side * quarter // 4}" for quarter in range(4))
    fitted = trained(none, at_least=95.0)
    figure_3 = partial(lower, published="> 0", source=NOTES, where="Figure 3", valid_if=fitted)
    return (
        _table_1("5", "Without other augmentation ResNet-18 has a lower test error with cutout of half the image's "
                 "side than without.", best, none, 1.32, headline=True, valid_if=fitted),
        figure_3("6", "Without other augmentation cutout of three quarters of the image's side has a higher test "
                 "error than of half of it.", best, longest, headline=True),
        figure_3("6-short", "Cutout of a quarter of the side has a higher test error than of half of it.", best, short),
        lower("control-train", "With cutout of half the side the net fits fewer of its training images, seen whole, "
              "than without.", best, none, metric="train_acc", kind="control"),
    )  # fmt: skip


CLAIMS = (
    _repository("1", "With crops and flips cutout lowers the test error of ResNet-18 on CIFAR-10, from 4.72 to 3.99 %.",
                "resnet18/crops/cutout", "resnet18/crops/none", 0.73, headline=True),
    _repository("2", "With crops and flips cutout lowers the test error of WRN-28-10 on CIFAR-10, from 3.87 to 3.08 %.",
                "wrn-28-10/crops/cutout", "wrn-28-10/crops/none", 0.79, headline=True),
    *across(quick=_claims(8), standard=_claims(32), paper=_claims(32)),
    _table_1("5-wrn", "Without other augmentation cutout lowers the test error of WRN-28-10 too.",
             "wrn-28-10/plain/cutout", "wrn-28-10/plain/none", 1.43, on=("paper",)),
    Claim("3", "Shake-Shake 26 2x96d with cutout has 2.56 % errors on CIFAR-10 and 15.20 % on CIFAR-100.",
          source=REPOSITORY, out_of_reach="The net trains for 1,800 epochs on two GPUs, and is not in this package"),
    Claim("4", "WRN-16-8 has 1.30 % errors on SVHN with cutout, and 1.60 % without.", source=REPOSITORY,
          out_of_reach="SVHN, of 604,000 images, is not among this package's data sets"),
    Claim("7", "Cutout raises activations in shallow layers and spreads them wider in deep ones.", source=PAPER_ITSELF,
          origin="recalled", out_of_reach="A picture without a number"),
    Claim("8", "Cutout goes on improving nets that have shake-shake regularization and dropout.", source=REPOSITORY,
          out_of_reach="Its nets are those of claim 3"),
)  # fmt: skip

PAPER = Paper(
    "cutout2017", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2017, "1708.04552",
    summary="Blanking a square at a random place of every training image makes a convolutional net look at the whole "
    "image, and lowers its test error, most of all without other augmentation.",
    scales=(
        Scale("quick", "scikit-learn's digits and ResNet-18 at an eighth of its width: the claims' direction, "
              "budget 5 minutes on two cores", QUICK, seeds=5),
        Scale("standard", "5,000 images of CIFAR-10, ResNet-18 at an eighth of its width, 60 epochs: 90 minutes on two "
              "cores, an estimate; six on one H200", STANDARD, overrides=NARROW, seeds=5),
        Scale("paper", "CIFAR-10 with ResNet-18 and WRN-28-10: two days on one GPU", FULL, seeds=5, jobs=1),
    ),
    claims=CLAIMS,
    figures=tuple(
        sweep(id, "Test error against the length of the patch", "test_error",
              {"ResNet-18": {length: f"resnet18/length-{length}" for length in range(0, side, side // 4)}},
              "The paper's error on CIFAR-10 falls to a patch of half the side and then rises.",
              x=f"length of the patch (pixels of {side})", y="test error (%)", on=on)
        for id, side, on in (("length", 8, ("quick",)), ("length-32", 32, ("standard", "paper")))
    ),
    deviations=(
        Deviation("quick", "ResNet-18 on CIFAR-10, 200 epochs of 50,000 images", "An eighth of its width, 60 epochs of "
                  "1,200 digits of 8 x 8", "Only directions can be compared; strokes may hide behind a patch"),
        Deviation("quick", "Pixels less the data set's mean colour, over its deviation", "Each image has mean 0 and "
                  "variance 1, so that a patch has the image's own mean", "Small"),
        Deviation("standard", "ResNet-18 on CIFAR-10, 200 epochs of 50,000 images", "An eighth of its width, 60 epochs "
                  "of 5,000 images", "Narrow nets in short trainings may fit less well, against cutout"),
        Deviation("paper", "float32 (presumably)", "bf16-mixed", "Small"),
        Deviation("", "The length chosen on held-out training images", "The paper's, as a share of the side",
                  "Another may be best here"),
    ),
)  # fmt: skip
