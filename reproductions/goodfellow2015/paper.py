"""Goodfellow, Shlens, Szegedy: Explaining and Harnessing Adversarial Examples (1412.6572)."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    ATTACKED,
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    difference,
    grid,
    lower,
    points,
    regularized,
    smallest,
    trained,
    value,
)

CONFIG = "configs/goodfellow2015/maxout.yaml"
RECTIFIED = {"model.architecture_args.activation": "relu"}
LINEAR = RECTIFIED | {"model.architecture_args": {"hidden": [], "dropout": 0.0, "input_dropout": 0.0}}


BOUNDED = partial(regularized, "MaxNorm", value=1.9365)  # as the authors' maxout nets are
ATTACK = partial(regularized, "AdversarialTraining", mode="mixed")
L1 = partial(regularized, "NormPenalty", p=1, parameters="network.body.2.weight")  # behind the dropout of inputs


def _cells(epsilon: float, small: float, overrides: dict[str, Any], net: dict[str, Any], large: int = 0) -> Cells:
    """Nets with and without adversarial training of a size, and what it is compared with; L1 also of a small size."""
    pair, bounded = {"plain": {}, "adversarial": ATTACK(epsilon=epsilon)}, BOUNDED(ATTACK(epsilon=epsilon))
    ways = {"plain": BOUNDED() | {"crafted_on": bounded}, "adversarial": bounded | {"crafted_on": BOUNDED()},
            "signs": BOUNDED(ATTACK(epsilon=epsilon, steps=0, random_start="signs")),
            "uniform": BOUNDED(ATTACK(epsilon=epsilon, steps=0)),
            "l1": BOUNDED(L1(coefficient=0.0025)), "l1-small": BOUNDED(L1(coefficient=small))}  # fmt: skip
    measured = overrides | {"attack": {"epsilon": epsilon, "clip": None}}
    cells = partial(grid, config=CONFIG, task=ATTACKED, stack=True)
    found = cells("softmax/{way}", overrides=measured | LINEAR, way=pair)
    found += cells("mlp/{way}", overrides=measured | net | RECTIFIED, way=pair)
    found += cells("maxout/{way}", overrides=measured | net, way=ways)
    found += cells("logistic/{way}", overrides=measured | LINEAR | {"data.classes": [3, 7]}, way={"plain": {}})
    units, both = {"model.architecture_args.hidden": [large] * 2}, {"plain": BOUNDED(), "adversarial": bounded}
    return found + (cells("maxout-1600/{way}", overrides=measured | units, way=both) if large else ())


SHORT = {"model.optimizer.momentum": 0.9, "model.schedule": {"name": "PolynomialLR", "interval": "step"}}
DIGITS = SHORT | {"data.source": "digits", "data.batch_size": 50, "trainer.max_epochs": 40}
NARROW = {"model.architecture_args.hidden": [60, 60]}
IMAGES = SHORT | {"data.train_size": 10_000, "trainer.max_epochs": 15}
QUICK = _cells(0.2, 2.5e-4, DIGITS, NARROW)
_PAIR = BOUNDED() | {"other": BOUNDED(ATTACK(epsilon=0.2))}
QUICK += grid("study/agreement", CONFIG, DIGITS | NARROW | _PAIR, seeds=3, stack=True)

PAPER_ITSELF = Source("paper", "Explaining and Harnessing Adversarial Examples", "Goodfellow, Shlens, Szegedy", 2015,
                      "arxiv.org/abs/1412.6572")  # fmt: skip
QUOTED = Source("quoted", "Public quotations of the paper's LaTeX source",
                note="In a repository of others; two public notes on the paper have the same numbers.")  # fmt: skip
MNIST = ("standard", "paper")
PLAIN, TOUGH = "maxout/plain", "maxout/adversarial"
LEARNED = trained((PLAIN, TOUGH), at_least=95)
# Published numbers: id, sentence, cell, metric, number, how near to it, section.
SIZES = (
    ("9-softmax", "Softmax has 99.9 % of adversarial examples wrong.", "softmax/plain", "fgsm_error", 99.9, 2, 4),
    ("9-maxout", "A maxout net has 89.4 % of adversarial examples wrong.", PLAIN, "fgsm_error", 89.4, 10, 4),
    ("9-sure-softmax", "Softmax is 79.3 % sure of what it has wrong.", "softmax/plain", "fgsm_confidence", 79.3, 10, 4),
    ("9-sure-maxout", "A maxout net is 97.6 % sure of what it has wrong.", PLAIN, "fgsm_confidence", 97.6, 10, 4),
    ("12", "With 1,600 units and adversarial training 0.782 % of clean samples are wrong.", "maxout-1600/adversarial",
     "test_error", 0.782, 0.1, 6),
    ("13-size", "An adversarially trained maxout net has 17.9 % of adversarial examples wrong.", TOUGH, "fgsm_error",
     17.9, 8, 6),
    ("15-new", "The adversarially trained net has 19.6 % of the examples made for the plain one wrong.", TOUGH,
     "transfer_fgsm_error", 19.6, 10, 6),
    ("15-old", "The plain net has 40.9 % of the examples made for the adversarially trained one wrong.", PLAIN,
     "transfer_fgsm_error", 40.9, 10, 6),
    ("16-clean", "Logistic regression has 1.6 % of threes and sevens wrong.", "logistic/plain", "test_error", 1.6, 0.8,
     5),
)  # fmt: skip
_lower, four, five, six = partial(lower, source=QUOTED), *({"where": f"section {number}"} for number in (4, 5, 6))
_says = partial(Claim, source=QUOTED)
_robust = partial(_lower, metric="fgsm_error", valid_if=LEARNED)
CLAIMS = (
    _says("9", "One step along the sign of the gradient (FGSM) makes more than half of the predictions wrong, of "
          "softmax, of an MLP and of a maxout net; shown is the net that has the fewest wrong.",
          smallest("fgsm_error", "softmax/plain", "mlp/plain", PLAIN), above=50, published=89.4,
          valid_if=trained(("mlp/plain", PLAIN), at_least=95), headline=True, **four),
    Claim("10", "A convolutional maxout net on CIFAR-10 has 87.15 % wrong at a size of 0.1.", source=QUOTED, **four,
          out_of_reach="There is no convolutional maxout net here, and how images were preprocessed was not read"),
    _lower("11", "Adversarial training lowers the test error of a maxout net with dropout on clean samples.", TOUGH,
           PLAIN, 0.10, valid_if=LEARNED, headline=True, **six),
    _lower("11-softmax", "Adversarial training raises the test error of softmax, which underfits, on clean samples.",
           "softmax/plain", "softmax/adversarial", "> 0", **five),
    _lower("12-gain", "With 1,600 units, too, adversarial training lowers the test error on clean samples.",
           "maxout-1600/adversarial", "maxout-1600/plain", 0.36, origin="derived", on=("paper",), **six),
    _robust("13", "Adversarial training lowers a maxout net's error on adversarial examples of one step (FGSM).", TOUGH,
            PLAIN, 71.5, origin="derived", headline=True, **six),
    _says("13-sure", "Where an adversarially trained maxout net is still wrong it is sure: by one half at least.",
          value(TOUGH, "fgsm_confidence"), at_least=50, published=81.4, **six),
    _says("14", "An L1 penalty of 0.0025 on the first layer is too large: over 5 % of the training set stay wrong.",
          value("maxout/l1", "train_error"), above=5, published="> 5", **five),
    _says("14-small", "A smaller L1 penalty lets the net learn, and lowers the test error by half a point at most.",
          difference(PLAIN, "maxout/l1-small", "test_error"), at_most=0.5, published="no benefit",
          valid_if=trained((PLAIN, "maxout/l1-small"), at_least=95), **five),
    _robust("14-robust", "A maxout net's error on adversarial examples of one step (FGSM) is lower with adversarial "
            "training than with the smaller L1 penalty.", TOUGH, "maxout/l1-small", "> 0", **five),
    _robust("15", "Adversarial examples made for a plain maxout net fool an adversarially trained one less often than "
            "those made for the adversarially trained one fool the plain one.", TOUGH, PLAIN, 21.3,
            **six | {"metric": "transfer_fgsm_error"}, origin="derived", headline=True),
    _says("16", "Logistic regression of threes and sevens has 99 % of adversarial examples wrong: 95 % at least.",
          value("logistic/plain", "fgsm_error"), at_least=95, published=99.0, **five),
    *(_robust(f"17-{way}", f"A maxout net's error on adversarial examples of one step (FGSM) is lower with adversarial "
              f"training than with {words} in training.", TOUGH, f"maxout/{way}", gap, origin="derived",
              headline=way == "signs", **six)
      for way, words, gap in (("signs", "random signs of the same size", 68.3),
                              ("uniform", "uniform noise up to that size", 72.5))),
    *(_says(id, sentence, value(cell, metric), within=near, published=number, where=f"section {section}",
            on=("paper",) if id == "12" else MNIST)
      for id, sentence, cell, metric, number, near, section in SIZES),
    lower("control-signs", "Random signs of the size of the attack make fewer predictions of the plain maxout net "
          "wrong than one step along the sign of the gradient (FGSM).",
          PLAIN, PLAIN, metric="signs_error", than_metric="fgsm_error", kind="control"),
    lower("control-steps", "Adversarial training by attacks of one step (FGSM) lowers a maxout net's error under an "
          "attack of ten steps, too.",
          TOUGH, PLAIN, metric="ifgsm_error", kind="control"),
    lower("control-mlp", "Adversarial training lowers the error of an MLP of rectified linear units on adversarial "
          "examples of one step.", "mlp/adversarial", "mlp/plain", metric="fgsm_error", kind="control"),
)  # fmt: skip
ALL = {cell.name.replace("/", ", "): cell.name for cell in QUICK if cell.task == ATTACKED}
KINDS = (
    "Rows are nets and how they were trained: signs and uniform are noise in the place of the attack; logistic tells "
    "threes from sevens."
)

PAPER = Paper(
    "goodfellow2015", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2015, "1412.6572",
    summary="A small step along the sign of the gradient makes a net wrong about most samples; the paper's reason is "
    "that nets are nearly linear. Trained on such examples, made anew in each step, a net resists that attack.",
    scales=(
        Scale("quick", "Digits, maxout nets of 60 units, 40 epochs: 15 minutes on one core", QUICK, seeds=5,
              replicas=5),
        Scale("standard", "10,000 images of MNIST, 15 epochs: an hour on one core", _cells(0.25, 2.5e-5, IMAGES, {}),
              seeds=5),
        Scale("paper", "MNIST, 250 epochs: hours on one GPU", _cells(0.25, 2.5e-5, {}, {}, 1600), seeds=5, replicas=5),
    ),
    claims=CLAIMS,
    figures=(
        points("attacked", "Errors under attack", {"none": "test_error", "random signs": "signs_error",
               "FGSM": "fgsm_error", "ten steps": "ifgsm_error"}, ALL,
               KINDS + " None is clean samples; the others change a pixel by 0.25 at most, of digits by 0.2. FGSM and "
               "ten steps are made for the net itself.",
               y="error (%)"),
        points("clean", "Test errors on clean samples", "test_error", ALL, KINDS, y="test error (%)"),
    ),
    deviations=(
        Deviation("", "Training ends by the error on validation images, of adversarial ones too, and is repeated on "
                  "all 60,000", "A fixed number of epochs, the last weights", "Errors may be larger"),
        Deviation("", "Momentum rises from 0.5 to 0.7; weights start within 0.005", "0.7 at paper scale, else 0.9 and "
                  "a rate that falls to 0; torch's initial weights", "Not measured; expected to be small"),
        Deviation("", "What was read does not describe softmax, logistic regression and smaller L1 penalties",
                  "Without dropout and max-norm, else as the maxout nets; one smaller penalty; an MLP beside them",
                  "How sure they are"),
        Deviation("", "17.9, 19.6, 40.9 and 81.4 % seem to be of nets of 1,600 units", "Asked of nets of 240, at quick "
                  "scale of 60", "Not known"),
        Deviation("quick", "MNIST at 0.25, maxout nets of 240 units", "Digits of 8x8 pixels at 0.2, nets of 60 units",
                  "Only directions can be compared"),
        Deviation("quick", "Settings", "Our notes on the paper had test errors of a trial on digits when this was "
                  "written; sizes and rates here were chosen on held-out digits", "Directions may be no surprise"),
        Deviation("standard", "60,000 images", "10,000, 15 epochs", "Errors on clean images are larger"),
    ),
)  # fmt: skip
