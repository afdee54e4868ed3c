"""What is trained and computed for Smith et al. 2021, at each scale, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smith2021.published import NOVACK_MICRO, NOVACK_SETTINGS, NOVACK_SMALL_LR
from smith2021.studies import STUDIES, Study

from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.config import resolve

TRAIN = "smith2021.training:train"

Overrides = dict[str, Any]

_THEORY = (
    Cell("theory/sgd-flow", "smith2021.theory:modified_flow", {"full_batch": False}),
    Cell("theory/gd-flow", "smith2021.theory:modified_flow", {"full_batch": True}),
    Cell("theory/composition", "smith2021.theory:batch_composition"),
)


def penalty(coefficient: float, **options: Any) -> list[dict[str, Any]]:
    """Write the gradient penalty as an entry of ``model.regularizers``."""
    return [{"class_path": "lightning_regs.GradientPenalty", "init_args": {"coefficient": coefficient} | options}]


def trained(name: str, config: str, seeds: int | None = None, **overrides: Any) -> Cell:
    """Make a training cell.

    Args:
        name: The cell's name.
        config: A file of ``configs/smith2021`` without its ending.
        seeds: Number of seeds; default: the scale's.
        **overrides: With ``__`` for the dots.
    """
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return Cell(name, TRAIN, resolve(f"configs/smith2021/{config}.yaml", dotted), seeds=seeds)


def study_cells(study: Study) -> tuple[Cell, ...]:
    """Make all cells of a study; one that several parts of it need is there once."""
    return tuple({cell.name: cell for cell in _cells(study)}.values())


def _cells(study: Study) -> Iterator[Cell]:
    gap = {study.sgd(study.small), study.sgd(study.best_lr), study.penalised(study.best_penalty)}

    def cell(name: str, lr: int, batch: int, epochs: int, **overrides: Any) -> Cell:
        seeds = study.gap_seeds if name in gap else study.large_seeds if batch == study.large else None
        sizes = {} if study.train_size is None else {"data__train_size": study.train_size}
        return trained(
            name,
            study.key,
            **sizes,
            model__optimizer__lr=2.0**lr,
            data__batch_size=batch,
            trainer__max_epochs=epochs,
            seeds=seeds,
            regulariser_batch=study.batch,
            **overrides,
        )

    def sgd(lr: int, batch: int) -> Cell:
        return cell(study.sgd(lr, batch), lr, batch, study.epochs)

    def penalised(strength: int, lr: int, batch: int) -> Cell:
        name = study.penalised(strength, lr, batch)
        return cell(name, lr, batch, study.penalty_epochs, model__regularizers=penalty(2.0**strength))

    for lr in study.lrs:
        yield sgd(lr, study.batch)
    for strength in study.penalties:
        yield penalised(strength, study.small, study.batch)
    for group in study.equal_lr:
        for batch, lr in group:
            yield sgd(lr, batch)
    if study.other_lr is not None:
        yield sgd(study.other_lr[1], study.other_lr[0])
    for members in study.equal_penalty:
        for batch, lr, strength in members:
            yield penalised(strength, lr, batch)
    for n, lr in study.steps:
        epochs = -(-study.epochs // n)  # as many updates as without repetition, rounded up to whole epochs
        yield cell(study.repeated(n, lr), lr, study.batch, epochs, data__batch_repeats=n)
    if study.large:
        lr, large = study.large_lr, study.large
        yield sgd(lr, study.micro[0])
        yield cell(study.large_batch(), lr, large, study.large_epochs)
        runs: dict[str, dict[str, Any]] = {
            study.large_batch(micro): {"micro_batch_size": micro} if micro < large else {} for micro in study.micro
        }
        if study.large_clip:
            clip = {"gradient_clip_val": study.large_clip}
            runs[study.large_batch_clipped()] = runs[study.large_batch(study.micro[0])] | clip
        for name, options in runs.items():
            method = penalty(2.0**study.large_penalty, **options)
            yield cell(name, lr, large, study.large_epochs, model__regularizers=method)


def quick() -> tuple[Cell, ...]:
    """The theory and the MNIST-1D study: minutes on two cores."""
    return (*_THEORY, *(cell for study in of_scale("quick") for cell in study_cells(study)))


def standard() -> tuple[Cell, ...]:
    """The theory, the studies on Fashion-MNIST and CIFAR-10 subsets, and LeNet on MNIST: about an hour on two cores."""
    return (
        *_THEORY,
        trained("mnist/lenet-penalty", "mnist-lenet"),
        *(cell for study in of_scale("standard") for cell in study_cells(study)),
    )


def paper() -> tuple[Cell, ...]:
    """The papers' networks on CIFAR-10: GPUs for weeks."""
    return (
        *_THEORY,
        *(cell for study in of_scale("paper") for cell in study_cells(study)),
        *_n_steps(),
        *_novack(),
        *_geiping(),
    )


def _n_steps() -> Iterator[Cell]:
    # n updates of 2^k on each minibatch; effective rates n * 2^k from 2^-7 to 2^-3.
    for n in (1, 2, 4, 8, 16):
        for effective in range(-7, -2):
            lr = effective - n.bit_length() + 1
            yield trained(
                f"cifar10-wrn-16-4/n{n}-lr2^{lr}",
                "cifar10-wrn-16-4",
                seeds=3,
                model__optimizer__lr=2.0**lr,
                data__batch_repeats=n,
            )


def _novack() -> Iterator[Cell]:
    for model, (lr, coefficient) in NOVACK_SETTINGS.items():
        config, options = f"cifar10-{model}", {"data__batch_size": 5120, "model__optimizer__lr": lr}
        yield trained(f"novack-{model}/small", config, seeds=3, model__optimizer__lr=NOVACK_SMALL_LR[model])
        yield trained(f"novack-{model}/large", config, seeds=3, **options)
        sizes = (128, *NOVACK_MICRO) if model == "vgg11" else (128,)
        for micro in sizes:
            strength = 4 * coefficient  # theirs is lambda |g|^2, ours lambda/4
            method = penalty(strength, micro_batch_size=micro)
            yield trained(f"novack-{model}/large+micro-{micro}", config, seeds=3, model__regularizers=method, **options)


def _geiping() -> Iterator[Cell]:
    # Their clip is a norm of 0.25, their block strength 0.5 at learning rate 0.8 on blocks of 128, by a forward
    # difference. The coefficient is that of the peak learning rate: ours follows the rate only without a factor.
    clip = {"micro_batch_size": 128, "gradient_clip_val": 0.25}
    strength = 0.5 * 0.8 / 2  # their code adds strength lr/8 |g|^2, ours lambda/4
    methods = {
        "full-batch": penalty(0.0, micro_batch_size=128, estimator="forward_difference"),
        "full-batch+clip": penalty(0.0, estimator="forward_difference", **clip),
        "full-batch+clip+penalty": penalty(strength, estimator="forward_difference", **clip),
    }
    for name, method in methods.items():
        lr = 0.8 if name.endswith("penalty") else 0.4
        yield trained(
            f"geiping-resnet18/{name}",
            "cifar10-full-batch",
            seeds=3,
            model__optimizer__lr=lr,
            model__regularizers=method,
        )


def of_scale(scale: str) -> tuple[Study, ...]:
    """Return the studies of a scale."""
    return tuple(study for study in STUDIES if study.scale == scale)
