"""DeVries & Taylor: Improved Regularization of Convolutional Neural Networks with Cutout (1708.04552)."""

from typing import Any

from lightning_regs.study import AGREE, Cell, Claim, Deviation, Paper, Scale, Source, difference, grid, sweep, trained


def _cutout(length: int) -> dict[str, Any]:
    method = {"class_path": "lightning_regs.Cutout", "init_args": {"length": length}}
    return {"model.regularizers": [method]} if length else {}


_LENGTHS = (0, 2, 4, 6)  # of 8 pixels; the paper's 16 of 32 is 4
QUICK = grid("resnet18/length-{length}", "configs/cutout2017/digits-resnet18.yaml",
             length={length: _cutout(length) for length in _LENGTHS})  # fmt: skip
QUICK += (Cell("study/agreement", AGREE, QUICK[0].config | {"other": _cutout(4)}, seeds=3),)

REPOSITORY = Source("repo", "The authors' code and its table of results", link="github.com/uoguelph-mlrg/Cutout")
NOTES = Source("notes", "Public reading notes of the paper")
PAPER_ITSELF = Source(
    "paper", "Improved Regularization of Convolutional Neural Networks with Cutout", "DeVries, Taylor", 2017,
    "arxiv.org/abs/1708.04552",
)  # fmt: skip

NONE, BEST, LONGEST = (f"resnet18/length-{length}" for length in (0, 4, 6))
FITTED = trained(NONE, at_least=95.0)
CLAIMS = (
    *(Claim(id, f"With crops and flips cutout lowers the test error of {net} on CIFAR-10, from {plain} to {less} %.",
            source=REPOSITORY, out_of_reach="Its scale, CIFAR-10 on one GPU, is not declared here yet")
      for id, net, plain, less in (("1", "ResNet-18", 4.72, 3.99), ("2", "WRN-28-10", 3.87, 3.08))),
    Claim("5", "Without other augmentation ResNet-18 has a lower test error with cutout of half the image's side.",
          difference(NONE, BEST, "test_error"), above=0, published=1.32, unit="points", source=PAPER_ITSELF,
          where="Table 1", origin="recalled", headline=True, valid_if=FITTED),
    Claim("6", "A patch that is too long is worse than the best: the error is about a parabola of the length.",
          difference(LONGEST, BEST, "test_error"), above=0, published="> 0", unit="points", source=NOTES,
          where="Figure 3", headline=True, valid_if=FITTED),
    Claim("6-short", "A patch of a quarter of the side is worse than one of half of it.",
          difference("resnet18/length-2", BEST, "test_error"), above=0, published="> 0", unit="points", source=NOTES,
          where="Figure 3", valid_if=FITTED),
    Claim("control-train", "With cutout the net fits its training images less well, judged on whole images.",
          difference(NONE, BEST, "train_acc"), above=0, unit="points", kind="control"),
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
    scales=(Scale("quick", "scikit-learn's digits and ResNet-18 at an eighth of its width: the claims' direction",
                  QUICK, seeds=5, budget="5 minutes on two cores", test_items=597),),
    claims=CLAIMS,
    figures=(sweep("length", "Test error against the length of the patch", "test_error",
                   {"ResNet-18": {length: f"resnet18/length-{length}" for length in _LENGTHS}},
                   "Means over seeds. The paper's error on CIFAR-10 falls to a patch of half the side and then rises.",
                   x="length of the patch (pixels of 8)", y="test error (%)"),),
    deviations=(
        Deviation("quick", "ResNet-18 on CIFAR-10, 200 epochs of 50,000 images", "An eighth of its width, 60 epochs of "
                  "1,200 digits of 8 x 8", "Only directions can be compared; strokes may hide behind a patch"),
        Deviation("quick", "Pixels less the data set's mean colour, over its deviation", "Each image has mean 0 and "
                  "variance 1, so that a patch has the image's own mean", "Small"),
        Deviation("", "The length chosen on held-out training images", "The paper's, as a share of the side", "None"),
    ),
)  # fmt: skip
