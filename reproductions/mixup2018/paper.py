"""Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization (1710.09412)."""

from typing import Any

from lightning_regs.study import (
    AGREE,
    ATTACKED,
    Cell,
    Cells,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    across,
    curves,
    difference,
    grid,
    points,
    resolve,
    trained,
    weighted_sum,
)


def _mixup(alpha: float) -> dict[str, object]:
    return {"model.regularizers": [{"class_path": "lightning_regs.Mixup", "init_args": {"alpha": alpha}}]}


_SMOOTH = {"model.regularizers": [{"class_path": "lightning_regs.LabelSmoothing", "init_args": {"smoothing": 0.1}}]}
_DROPOUT = "model.architecture_args.dropout"
_DECAY = {"model.optimizer.weight_decay": 5e-4}
_METHODS = {"erm": {}, "mixup-1": _mixup(1), "mixup-8": _mixup(8), "mixup-32": _mixup(32),
            "dropout": {_DROPOUT: 0.5}, "mixup-8+dropout": _mixup(8) | {_DROPOUT: 0.3}}  # fmt: skip
_CONTROLS = {"smoothing": _SMOOTH, "erm+decay": _DECAY, "mixup-1+decay": _mixup(1) | _DECAY}
_NOISE = {p: {"data.corruption": "partial_labels", "data.corruption_p": p / 100} for p in (20, 50, 80)}
# Noise in percent -> the paper's alpha, its errors after the last epoch of ERM and mixup, and where they are from.
_TABLE = {20: (8, 16.6, 6.4), 50: (32, 44.6, 12.7), 80: (32, 73.9, 30.9)}


def _cells(net: str, config: str, epsilon: float = 0.0, noises: tuple[int, ...] = ()) -> Cells:
    """A net on clean labels and, where asked for, on noisy ones and under attack."""
    pair, path = {name: _METHODS[name] for name in ("erm", "mixup-1")}, f"configs/mixup2018/{config}.yaml"
    cells = grid(f"{net}/clean/{{method}}", path, method=pair | (_CONTROLS if noises else {}))
    for p in noises:
        cells += grid(f"{net}/noise-{p}/{{method}}", path, _NOISE[p], method=_METHODS)
    attack = {"crafted_on": {"model.regularizers": []}, "attack": {"epsilon": epsilon}}
    attacked = [Cell(f"{net}/attacked/{name}", ATTACKED, resolve(path, pair[name]) | attack) for name in pair]
    return cells + (attacked if epsilon else ())


QUICK = _cells("mlp", "digits-mlp", 0.1, (20, 50, 80))
QUICK += (Cell("study/agreement", AGREE, QUICK.only("mlp/noise-50/erm")[0].config | {"other": _mixup(32)}, seeds=3),)
STANDARD = _cells("preact", "fashion-mnist", 4 / 255, (50, 80))
FULL = _cells("preact18", "cifar10", 4 / 255, (20, 50, 80)) + _cells("wrn-28-10", "cifar10-wrn")
FULL += _cells("preact18-c100", "cifar100")

REPOSITORY = Source("repo", "The authors' later code and its figures", link="github.com/hongyi-zhang/mixup")
ISSUE = Source("issue", "The authors' answer on the 3.9 % of a first version", link=f"{REPOSITORY.link}/issues/1")
RELEASED = Source("fb", "The released code, and an issue", link="github.com/facebookresearch/mixup-cifar10")
TABLE_2 = Source("table2", "A public page that quotes Table 2")
NOTES = Source("notes", "Public reading notes of the paper")
PAPER_ITSELF = Source("paper", "mixup: Beyond Empirical Risk Minimization", "Zhang, Cisse, Dauphin, Lopez-Paz", 2018,
                      "arxiv.org/abs/1710.09412")  # fmt: skip


def _lower(id: str, sentence: str, worse: str, better: str, published: float | str, source: Source,
           metric: str = "test_error", **more: Any) -> Claim:  # fmt: skip
    """One cell has a lower error than another, in points."""
    more = {"above": 0, "unit": "points"} | more
    return Claim(id, sentence, difference(worse, better, metric), published=published, source=source, **more)


def _claims(net: str, noises: tuple[int, ...]) -> tuple[Claim, ...]:
    clean, fitted = f"{net}/clean/", {"at_least": 95.0}
    found = [
        _lower("1", "With true labels mixup has a lower test error than training on the samples themselves (ERM).",
               clean + "erm", clean + "mixup-1", 1.4, ISSUE, where="Table 1", headline=True,
               valid_if=trained(clean + "erm", **fitted)),
        _lower("9-smoothing", "Mixup has a lower test error than label smoothing by 0.1.", clean + "smoothing",
               clean + "mixup-1", 1.09, PAPER_ITSELF, where="Table 5", origin="recalled"),
        Claim("9-decay", "Mixup gains more at weight decay 1e-4 than at 5e-4.",
              weighted_sum(*((sign, cell + end, "test_error") for end, sign in (("", 1), ("+decay", -1))
                             for cell, sign in ((clean + "erm", sign), (clean + "mixup-1", -sign)))),
              above=0, published=0.79, unit="points", source=REPOSITORY, where="ablation", origin="derived"),
    ]  # fmt: skip
    for p in noises:
        alpha, erm, mixed = _TABLE[p]
        at = f"{net}/noise-{p}/"
        found.append(_lower(
            f"4-{p}", f"With {p} % of the labels random mixup's last epoch has a lower test error than ERM's.",
            at + "erm", f"{at}mixup-{alpha}", round(erm - mixed, 1), TABLE_2, where="Table 2", origin="derived",
            headline=p == 50))  # fmt: skip
    at = f"{net}/noise-50/"
    gap = ((1, "best_test_acc"), (-1, "test_acc"))
    gap_of = {method: [(sign, at + method, metric) for sign, metric in gap] for method in _METHODS}
    found += [
        _lower("4-best", "With 50 % of the labels random mixup's best epoch is better too.", f"{at}mixup-32",
               at + "erm", 7.5, TABLE_2, "best_test_acc", where="Table 2", origin="derived"),
        _lower("4-dropout", "With 50 % of the labels random mixup's last epoch has a lower test error than dropout's.",
               at + "dropout", at + "mixup-32", 2.8, TABLE_2, where="Table 2", origin="derived", headline=True),
        _lower("4-memory", "With 50 % of the labels random ERM fits more of the random labels than mixup.", at + "erm",
               at + "mixup-32", 85.1, PAPER_ITSELF, "train_acc_corrupted", where="Table 2", origin="recalled"),
        Claim("5", "With 50 % of the labels random ERM loses more from its best to its last epoch than mixup.",
              weighted_sum(*gap_of["erm"], *((-sign, cell, metric) for sign, cell, metric in gap_of["mixup-32"])),
              above=0, published=24.4, unit="points", source=TABLE_2, where="Table 2", origin="derived", headline=True),
        Claim("5-both", "Mixup with dropout loses less than a point from its best to its last epoch.",
              weighted_sum(*gap_of["mixup-8+dropout"]), at_most=1.0, published=0.0, unit="points", source=TABLE_2,
              where="Table 2", origin="derived"),
    ]  # fmt: skip
    at, made = f"{net}/attacked/", "On examples made by"
    found += [
        _lower("6", f"{made} a gradient step (FGSM) against the net itself mixup has a lower error than ERM.",
               at + "erm", at + "mixup-1", "2.7 times", NOTES, "fgsm_error", where="Table 3", headline=True),
        _lower("6-transfer", f"{made} ten steps (I-FGSM) against another net of ERM mixup has a lower error than ERM.",
               at + "erm", at + "mixup-1", "40 % less", NOTES, "transfer_ifgsm_error", where="Table 3"),
    ]  # fmt: skip
    return tuple(found)


_OTHERS = (
    _lower("2", "WRN-28-10 improves on CIFAR-10 too.", "wrn-28-10/clean/erm", "wrn-28-10/clean/mixup-1", 1.1, RELEASED,
           where="Table 1", on=("paper",)),
    _lower("3", "PreAct ResNet-18 improves on CIFAR-100 too.", "preact18-c100/clean/erm",
           "preact18-c100/clean/mixup-1", 4.5, PAPER_ITSELF, where="Table 1", origin="recalled", on=("paper",)),
    Claim("3-third", "A third net, DenseNet-BC-190, improves on CIFAR-10 and CIFAR-100 as well.", source=PAPER_ITSELF,
          where="Table 1", origin="recalled", out_of_reach="Its baseline was not found in what was read"),
    Claim("7", "Ten steps against the net itself break both nets (99.9 and 99.6 % on ImageNet).", source=PAPER_ITSELF,
          where="Table 3", origin="recalled", out_of_reach="It is about ImageNet; a smaller set breaks elsewhere"),
    Claim("8", "Mixing real and generated samples stabilises a GAN.", source=REPOSITORY, where="Figure 5",
          out_of_reach="A picture without a number; examples/gan_mixup.py draws it"),
    Claim("9-three", "Mixing three samples instead of two gains nothing.", source=NOTES,
          out_of_reach="No number is printed"),
)  # fmt: skip

PAPER = Paper(
    "mixup2018", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1710.09412",
    summary="A net that is trained on convex combinations of pairs of samples and of their labels makes fewer errors, "
    "and hardly memorises labels that are wrong.",
    scales=(
        Scale("quick", "scikit-learn's digits and an MLP: the claims' direction", QUICK, seeds=5,
              budget="5 minutes on two cores", test_items=597),
        Scale("standard", "10,000 images of Fashion-MNIST, PreAct ResNet-18 at an eighth of its width, 20 epochs",
              STANDARD, overrides={"data.train_size": 10_000}, budget="90 minutes on two cores"),
        Scale("paper", "CIFAR-10 and CIFAR-100 with the paper's nets", FULL, jobs=1, budget="days on one GPU"),
    ),
    claims=(*across(quick=_claims("mlp", (20, 50, 80)), standard=_claims("preact", (50, 80)),
                    paper=_claims("preact18", (20, 50, 80))), *_OTHERS),
    figures=(
        curves("fig", "Test accuracy with half of the labels random", "test_acc",
               {method: f"mlp/noise-50/{method}" for method in _METHODS}, "Test accuracy over training. ERM passes its "
               "best epoch and then fits the random labels; mixup stays near it.", y="test accuracy (%)",
               on=("quick",)),
        points("table2", "Test error after the last epoch", "test_error",
               {f"{p} % random: {method}": f"mlp/noise-{p}/{method}" for p in _NOISE for method in _METHODS},
               "Ticks are our seeds, dots their means, lines the 95 % intervals of these.", y="test error (%)",
               on=("quick",)),
    ),
    deviations=(
        Deviation("", "Where the best epoch is told, it was chosen on test images",
                  "So here, in claims 4-best and 5 alone", "It flatters every method's best epoch"),
        Deviation("quick", "PreAct ResNet-18 on CIFAR-10, 200 epochs", "An MLP of two layers of 256 on 1,200 digits, "
                  "60 epochs; a setting of a trial before this paper was written, whose test errors were seen",
                  "Only directions can be compared"),
        Deviation("quick", "Dropout 0.7 to 0.8 beside mixup", "Dropout 0.5, and 0.3 with mixup, as the net is small",
                  "Dropout may be stronger or weaker than the paper's"),
        Deviation("", "Table 3 is on ImageNet, at 4/255 a pixel", "On the data of the scale; digits at 0.1 a pixel",
                  "Only directions can be compared"),
        Deviation("standard", "PreAct ResNet-18, 200 epochs of 50,000 images", "An eighth of its width, 20 epochs of "
                  "10,000 images", "Short trainings underfit, which speaks against mixup"),
        Deviation("paper", "The median of the last ten epochs, in float32", "The last epoch, in bf16", "Small"),
    ),
)  # fmt: skip
