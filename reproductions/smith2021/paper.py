"""Smith, Dherin, Barrett, De: On the Origin of Implicit Regularization in Stochastic Gradient Descent (2101.12176)."""

from __future__ import annotations

from smith2021 import cells
from smith2021.claims import STUDIES_CLAIMS, THEORY
from smith2021.claims_others import OTHERS
from smith2021.studies import STUDIES, Study

from lightning_regs.study.paper.figure import Figure, Panel
from lightning_regs.study.paper.paper import Paper, Scale

_FLOWS = ("none", "half", "quarter")


def _training(study: Study) -> Panel:
    # The test set is looked at during training at the paper's scale only.
    column = "test_acc" if study.scale == "paper" else "train_loss"
    cells = (study.sgd(study.small), study.penalised(study.best_penalty), study.sgd(study.best_lr))
    return Panel("curve", (column,), cells)


def _sweeps(metric: str) -> tuple[Panel, ...]:
    return tuple(
        Panel("bar", (metric,), (f"{study.key}/sgd-b{study.batch}-*", f"{study.key}/penalty-b{study.batch}-*"))
        for study in STUDIES
    )


def _bars(*cells: str) -> Panel:
    return Panel("bar", ("test_acc",), tuple(dict.fromkeys(cells)))


# At the largest rate and coefficient training no longer fits every run: those are in the sweeps' figures only.
def _rates_by_batch(study: Study) -> Panel:
    runs = [*((study.batch, lr) for lr in study.lrs[:-1]), *(run for group in study.equal_lr for run in group)]
    return _bars(*(study.sgd(lr, batch) for batch, lr in (*runs, *([study.other_lr] if study.other_lr else []))))


def _penalties_by_batch(study: Study) -> Panel:
    equal = (study.penalised(strength, lr, batch) for group in study.equal_penalty for batch, lr, strength in group)
    return _bars(*map(study.penalised, study.penalties[:-1]), *equal)


PAPER = Paper(
    id="smith2021",
    title="On the Origin of Implicit Regularization in Stochastic Gradient Descent",
    authors="Smith, Dherin, Barrett, De",
    year=2021,
    arxiv="2101.12176",
    summary="Stochastic gradient descent with a finite learning rate follows the flow of a loss with a penalty on "
    "the norm of its minibatch gradients. Added explicitly at a small learning rate, it gives what a large one does.",
    scales=(
        Scale(
            "quick",
            "the theory, and an MLP on 1,000 MNIST-1D signals: minutes on two cores, every claim's direction",
            cells.quick(),
            seeds=5,
        ),
        Scale(
            "standard",
            "Fashion-MNIST subsets and small nets, batch 5120 of micro-batches 128, LeNet on MNIST: about an hour "
            "on two cores",
            cells.standard(),
            seeds=5,
        ),
        Scale(
            "paper",
            "Wide-ResNets on CIFAR-10 as in the paper, ResNet-18 and VGG-11 of Novack et al., full-batch ResNet-18 of "
            "Geiping et al.: GPUs for weeks",
            cells.paper(),
            seeds=7,
            jobs=1,
        ),
    ),
    claims=(*THEORY, *STUDIES_CLAIMS, *OTHERS),
    figures=(
        Figure(
            "flow",
            "Claim 1: SGD follows the flow of C + eps/4 R",
            "Distance between the mean end point of SGD over all orders of an epoch's four batches and the gradient "
            "flow of three losses, R the mean squared norm of the batches' gradients. With eps/4 the error is of third "
            "order, otherwise of second.",
            "smith2021.figures:flow_error",
            (
                Panel("bar", tuple(f"order_{flow}" for flow in _FLOWS), ("theory/sgd-flow",)),
                Panel("bar", tuple(f"error_{flow}_{i}" for i in range(6) for flow in _FLOWS), ("theory/sgd-flow",)),
            ),
        ),
        Figure(
            "fig1a",
            "Figure 1a: the penalty over training",
            "At the small learning rate with and without the penalty, and at the best learning rate. The paper's "
            "regularised run is clearly higher late in training (recalled).",
            "smith2021.figures:figure_1a",
            tuple(_training(study) for study in STUDIES),
        ),
        Figure(
            "fig1b",
            "Figure 1b: the same peak in learning rate and coefficient",
            "Test accuracy against the learning rate of plain SGD and against the coefficient of the explicit penalty "
            "at the small learning rate. In the paper both rise, peak at the same power of two and fall (recalled).",
            "smith2021.figures:figure_1b",
            _sweeps("test_acc"),
        ),
        Figure(
            "fig1c",
            "Figure 1c: the regulariser's value",
            "Mean squared norm of a batch's gradient on the training set after training. In the paper it falls as "
            "learning rate or coefficient grow (recalled).",
            "smith2021.figures:figure_1c",
            _sweeps("regulariser"),
        ),
        Figure(
            "fig2a",
            "Figure 2a: learning rate / batch size decides",
            "Test accuracy against learning rate over batch size, at equal epochs. In the paper the curves of small "
            "batches coincide (recalled).",
            "smith2021.figures:figure_2",
            tuple(_rates_by_batch(study) for study in STUDIES if study.equal_lr),
        ),
        Figure(
            "fig2b",
            "Figure 2b: coefficient / batch size decides",
            "The same for the explicit penalty. In the paper the curves of small batches coincide (recalled).",
            "smith2021.figures:figure_2b",
            tuple(_penalties_by_batch(study) for study in STUDIES if study.equal_penalty),
        ),
        Figure(
            "fig3",
            "Figure 3: several updates a minibatch",
            "Test accuracy with n updates on each minibatch against the bare learning rate, at equal numbers of "
            "updates. In the paper a large bare rate helps, and a larger n at the same bare rate hurts.",
            "smith2021.figures:figure_3",
            tuple(
                _bars(*map(study.sgd, study.lrs[:-1]), *(study.repeated(n, lr) for n, lr in study.steps))
                for study in STUDIES
                if study.steps
            ),
        ),
        Figure(
            "large-batch",
            "Large batches with the penalty of small ones",
            "Test accuracy of a small batch, a large one, and a large one whose micro-batches carry the penalty; rings "
            "are Novack et al.'s.",
            "smith2021.figures:large_batch",
            tuple(_bars(study.small_batch(), f"{study.key}/large-*") for study in STUDIES if study.large),
        ),
    ),
)
