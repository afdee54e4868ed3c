"""Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization (1710.09412)."""

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
    across,
    curves,
    grid,
    lower,
    points,
    regularized,
    trained,
    weighted_sum,
)

_DROPOUT, _DECAY = "model.architecture_args.dropout", {"model.optimizer.weight_decay": 5e-4}
_MIXUP = {alpha: regularized("Mixup", alpha=alpha) for alpha in (1, 8, 32)}
_PAIR = {"erm": {}, "mixup-1": _MIXUP[1]}
_METHODS = {**_PAIR, "mixup-8": _MIXUP[8], "mixup-32": _MIXUP[32], "dropout": {_DROPOUT: 0.5},
            "mixup-8+dropout": _MIXUP[8] | {_DROPOUT: 0.3}}  # fmt: skip
_CONTROLS = {"smoothing": regularized("LabelSmoothing", smoothing=0.1), "erm+decay": _DECAY,
             "mixup-1+decay": _MIXUP[1] | _DECAY}  # fmt: skip
_NOISE = {p: {"data.corruption": "partial_labels", "data.corruption_p": p / 100} for p in (20, 50, 80)}
_NETS = {"Digits, MLP": "mlp", "Fashion-MNIST, narrow PreAct-18": "preact", "CIFAR-10, PreAct-18": "preact18"}
# Noise in percent -> the paper's alpha, and its errors after the last epoch of ERM and mixup.
_TABLE = {20: (8, 16.6, 6.4), 50: (32, 44.6, 12.7), 80: (32, 73.9, 30.9)}


def _cells(net: str, config: str, epsilon: float = 0.0, noises: tuple[int, ...] = ()) -> Cells:
    """A net on clean labels and, where asked for, on noisy ones and under attack."""
    config, attack = f"mixup2018/{config}", {"attack.epsilon": epsilon, "crafted_on": {"model.regularizers": []}}
    cells = grid(f"{net}/clean/{{method}}", config, method=_PAIR | (_CONTROLS if noises else {}))
    cells += grid(f"{net}/noise-{{p}}/{{method}}", config, p={p: _NOISE[p] for p in noises}, method=_METHODS)
    return cells + grid(f"{net}/attacked/{{run}}", config, attack, task=ATTACKED, run=_PAIR if epsilon else {})


QUICK = _cells("mlp", "digits-mlp", 0.1, (20, 50, 80))
QUICK += grid("study/agreement", "mixup2018/digits-mlp", _NOISE[50] | {"other": _MIXUP[32]}, seeds=3)
STANDARD = _cells("preact", "fashion-mnist", 4 / 255, (50, 80))
FULL = _cells("preact18", "cifar10", 4 / 255, (20, 50, 80)) + _cells("wrn-28-10", "cifar10-wrn")
FULL += _cells("preact18-c100", "cifar100")

REPOSITORY = Source("repo", "The authors' later code and its figures", link="github.com/hongyi-zhang/mixup")
ISSUE = Source("issue", "The authors' answer on the 3.9 % of a first version", link=f"{REPOSITORY.link}/issues/1")
RELEASED = Source("fb", "The released code, and an issue", link="github.com/facebookresearch/mixup-cifar10")
NOTES = Source("notes", "Public reading notes of the paper")
PAPER_ITSELF = Source("paper", "mixup: Beyond Empirical Risk Minimization", "Zhang, Cisse, Dauphin, Lopez-Paz", 2018,
                      "arxiv.org/abs/1710.09412")  # fmt: skip
_QUOTED: Any = {"source": Source("table2", "A public page that quotes Table 2"), "where": "Table 2",
                "origin": "derived"}  # fmt: skip
_table_2 = partial(lower, **_QUOTED)
_table_3 = partial(lower, source=NOTES, where="Table 3")
_recalled = partial(lower, source=PAPER_ITSELF, origin="recalled")


def _claims(net: str, noises: tuple[int, ...] = tuple(_NOISE)) -> tuple[Claim, ...]:
    err, best, last = "test_error", "best_test_acc", "test_acc"
    erm, mixup = f"{net}/clean/erm", f"{net}/clean/mixup-1"
    fooled, sturdy = f"{net}/attacked/erm", f"{net}/attacked/mixup-1"
    noisy, mixed, dropout, both = (f"{net}/noise-50/{run}" for run in ("erm", "mixup-32", "dropout", "mixup-8+dropout"))
    half, made = "With 50 % of the labels random", "On examples made by"
    return (
        lower("1", "With true labels mixup has a lower test error than training on the samples themselves (ERM).",
              mixup, erm, 1.4, source=ISSUE, where="Table 1", headline=True, valid_if=trained(erm, at_least=95.0)),
        _recalled("9-smoothing", "With true labels mixup has a lower test error than label smoothing by 0.1.", mixup,
                  f"{net}/clean/smoothing", 1.09, where="Table 5"),
        Claim("9-decay", "With true labels mixup gains more over ERM at weight decay 1e-4 than at 5e-4.",
              weighted_sum((1, erm, err), (-1, mixup, err), (-1, f"{erm}+decay", err), (1, f"{mixup}+decay", err)),
              above=0, published=0.79, source=REPOSITORY, where="ablation", origin="derived"),
        *(_table_2(f"4-{p}", f"With {p} % of the labels random mixup's last epoch has a lower test error than ERM's.",
                   f"{net}/noise-{p}/mixup-{alpha}", f"{net}/noise-{p}/erm", round(plain - less, 1), headline=p == 50)
          for p, (alpha, plain, less) in _TABLE.items() if p in noises),
        _table_2("4-best", f"{half} mixup's best epoch has a lower test error than ERM's.", noisy, mixed, 7.5, best),
        _table_2("4-dropout", f"{half} mixup's last epoch has a lower test error than dropout's.", mixed, dropout, 2.8,
                 headline=True),
        _recalled("4-memory", f"{half} ERM fits more of those that were changed than mixup.", mixed, noisy, 85.1,
                  "train_acc_corrupted", where="Table 2"),
        Claim("5", f"{half} ERM loses more test accuracy from its best to its last epoch than mixup.",
              weighted_sum((1, noisy, best), (-1, noisy, last), (-1, mixed, best), (1, mixed, last)),
              above=0, published=24.4, headline=True, **_QUOTED),
        Claim("5-both", f"{half} mixup with dropout loses at most a point from its best to its last epoch.",
              weighted_sum((1, both, best), (-1, both, last)), at_most=1.0, published=0.0, **_QUOTED),
        _table_3("6", f"{made} a gradient step (FGSM) against the net itself mixup has a lower error than ERM.",
                 sturdy, fooled, "2.7 times", "fgsm_error", headline=True),
        _table_3("6-transfer", f"{made} ten steps (I-FGSM) against another net of ERM mixup has a lower error than "
                 "ERM.", sturdy, fooled, "40 % less", "transfer_ifgsm_error"),
    )  # fmt: skip


_OTHERS = (
    lower("2", "WRN-28-10 is better with mixup on CIFAR-10 too.", "wrn-28-10/clean/mixup-1", "wrn-28-10/clean/erm", 1.1,
          source=RELEASED, where="Table 1", on=("paper",)),
    _recalled("3", "PreAct ResNet-18 is better with mixup on CIFAR-100 too.", "preact18-c100/clean/mixup-1",
              "preact18-c100/clean/erm", 4.5, where="Table 1", on=("paper",)),
    Claim("3-third", "Mixup helps a third net, DenseNet-BC-190, on CIFAR-10 and CIFAR-100 too.", source=PAPER_ITSELF,
          where="Table 1", origin="recalled", out_of_reach="Its baseline was not found in what was read"),
    Claim("7", "Ten steps against the net itself break both nets (99.9 and 99.6 % on ImageNet).", source=PAPER_ITSELF,
          where="Table 3", origin="recalled", out_of_reach="It is about ImageNet; a smaller set breaks elsewhere"),
    Claim("8", "Mixing real and generated samples stabilises a GAN.", source=REPOSITORY, where="Figure 5",
          out_of_reach="A picture without a number; examples/gan_mixup.py draws it"),
    Claim("9-inputs", "Mixing inputs alone, without their labels, gains less.", source=NOTES, where="ablation",
          origin="recalled", out_of_reach="Which of the two labels a mixture then has is not in what was read"),
    Claim("9-three", "Mixing three samples gains no more than two.", source=NOTES, out_of_reach="No number is printed"),
)  # fmt: skip

PAPER = Paper(
    "mixup2018", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2018, "1710.09412",
    summary="A net that is trained on convex combinations of pairs of samples and of their labels makes fewer errors, "
    "and hardly memorises labels that are wrong.",
    scales=(
        Scale("quick", "scikit-learn's digits and an MLP: the claims' direction, budget 5 minutes on two cores", QUICK,
              seeds=5),
        Scale("standard", "10,000 images of Fashion-MNIST, PreAct ResNet-18 at an eighth of its width, 20 epochs: 90 "
              "minutes on two cores, an estimate; five on one H200", STANDARD, overrides={"data.train_size": 10_000}),
        Scale("paper", "CIFAR-10 and CIFAR-100 with the paper's nets: days on one GPU", FULL, jobs=1),
    ),
    claims=(*across(quick=_claims("mlp"), standard=_claims("preact", (50, 80)), paper=_claims("preact18")), *_OTHERS),
    figures=(
        curves("fig", "Test accuracy with half of the labels random", "test_acc", y="test accuracy (%)",
               plots={title: {each: f"{net}/noise-50/{each}" for each in _METHODS} for title, net in _NETS.items()},
               caption="ERM falls from its best epoch; with an alpha of 8 or 32 mixup stays near its own."),
        points("table2", "Test error after the last epoch", "test_error", y="test error (%)", plots={
            title: {f"{p} % random: {each}": f"{net}/noise-{p}/{each}" for p in _NOISE for each in _METHODS
                    if (net, p) != ("preact", 20)} for title, net in _NETS.items()}),
    ),
    deviations=(
        Deviation("", "Where the best epoch is told, it was chosen on test images",
                  "So here, in claims 4-best, 5 and 5-both alone", "It flatters every method's best epoch"),
        Deviation("quick", "PreAct ResNet-18 on CIFAR-10, 200 epochs", "An MLP of two layers of 256 on 1,200 digits, "
                  "60 epochs; a setting of a trial before this paper was written, whose test errors were seen",
                  "Only directions can be compared"),
        Deviation("", "Dropout alone at 0.7 to 0.8", "Dropout alone at 0.5, and 0.3 with mixup, chosen for quick",
                  "Dropout may be stronger or weaker than the paper's"),
        Deviation("", "Table 3 is on ImageNet, at 4/255 a pixel", "On the data of the scale; digits at 0.1 a pixel",
                  "Only directions can be compared"),
        Deviation("standard", "PreAct ResNet-18, 200 epochs of 50,000 images of CIFAR-10, with crops and flips",
                  "An eighth of its width, 20 epochs of 10,000 images of Fashion-MNIST, without",
                  "Short trainings may underfit, against mixup; a lack of crops may be for it"),
        Deviation("", "Median of the last ten epochs; float32 (presumably)", "The last; bf16 but at quick", "Small"),
    ),
)  # fmt: skip
