"""When to stop: Prechelt's criteria and patience, as functions of the errors measured so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from lightning_regs.core.checks import Count, Positive, Range, check, checked
from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.measured import PRECHELT

Errors = NDArray[np.float64]
Truths = NDArray[np.bool_]
Curve = Sequence[Annotated[float, Range(infinite=True, missing=True)]]

STRIP = 5
"""Prechelt's k: measurements in a strip, at whose ends PQ and UP are asked."""
_ENDS = slice(STRIP - 1, None, STRIP)


def _loss(validation: Errors) -> Errors:
    """Return the generalization loss, by how many percent each error is above the least up to it; NaN for 0 over 0."""
    least = np.minimum.accumulate(validation)
    loss: Errors = 100 * ((validation - least) / np.abs(least))
    return loss


def _quotient(validation: Errors, training: Errors) -> Errors:
    r"""Return at the ends of strips the quotient of generalization loss and progress, and 0 elsewhere.

    The progress is :math:`P_k(t) = 1000 (\bar{E}_{tr} / \min E_{tr} - 1)`, how far the mean training error in the strip
    is above the least: while training makes progress, a generalization loss may pass.
    """
    strips = training[: len(training) // STRIP * STRIP].reshape(-1, STRIP)
    progress = np.nan_to_num(1000 * (strips.mean(1) / strips.min(1) - 1), nan=0.0, posinf=np.inf)
    found = np.zeros(len(validation))
    found[_ENDS] = _loss(validation)[_ENDS] / progress
    return found


def _rises(validation: Errors) -> NDArray[np.int64]:
    """Return at the ends of strips how often running the error was above that at the end before, and 0 elsewhere."""
    ends, found = validation[_ENDS], np.zeros(len(validation), dtype=np.int64)
    found[_ENDS] = _running(np.diff(ends, prepend=ends[:1]) > 0)
    return found


def _waited(validation: Errors) -> NDArray[np.int64]:
    """Return how many errors running were no new least: Lightning's own rule, without its ``min_delta``."""
    before = np.minimum.accumulate(np.concatenate([[np.inf], validation]))[:-1]
    return _running(~(validation < before))


def _running(truths: Truths) -> NDArray[np.int64]:
    """Return how many there are without a break up to each, itself included."""
    places = np.arange(1, len(truths) + 1)
    return places - np.maximum.accumulate(np.where(truths, 0, places))


# Kind -> what its threshold is, and after which measurements it holds, each a function of those before and itself.
_KINDS: dict[str, tuple[str, Any, Callable[[Errors, Errors, Any], Truths]]] = {
    "GL": ("alpha", Positive, lambda validation, _, alpha: _loss(validation) > alpha),
    "PQ": ("alpha", Positive, lambda validation, training, alpha: _quotient(validation, training) > alpha),
    "UP": ("strips", Count, lambda validation, _, strips: _rises(validation) >= strips),
    "patience": ("measurements", Count, lambda validation, _, number: _waited(validation) >= number),
}


def criterion_of(name: str) -> Callable[[Errors, Errors], Truths]:
    """Return what ``"GL5"``, ``"PQ0.75"``, ``"UP3"``, ``"patience10"`` or their like says of a curve, ``(T,)``.

    Raises:
        ValueError: If there is none of that name, or its threshold is not above 0.
        TypeError: If the threshold of UP or patience is no whole number.
    """
    found = re.fullmatch(r"([A-Za-z]+)(\d+(?:\.\d+)?)", name)
    if found is None or found[1] not in _KINDS:
        raise ValueError(f"{unknown_name('criterion', name, (*PRECHELT, 'patience10'))} Other numbers work too.")
    what, kind, holds = _KINDS[found[1]]
    threshold = check(what, float(found[2]) if "." in found[2] else int(found[2]), kind)
    return lambda validation, training: holds(validation, training, threshold)


def reads_training(name: str) -> bool:
    """Whether a criterion compares with the training error."""
    return name.startswith("PQ")


def errors_of(values: Curve, smoothing: int = 1) -> Errors:
    """Return a curve with infinity for what is no number, each value the mean of the last ``smoothing`` up to it."""
    found = np.nan_to_num(np.array(values, dtype=np.float64), nan=np.inf, posinf=np.inf, neginf=np.inf)
    if smoothing == 1:
        return found
    return np.array([found[max(0, end - smoothing) : end].mean() for end in range(1, len(found) + 1)])


@checked
def stops(criterion: str, validation: Curve, training: Curve = (), smoothing: Count = 1) -> int | None:
    """Return after which measurement of a recorded training it would have been stopped.

    Prechelt, "Early stopping -- but when?" (1998). None of the criteria has to come true: give trainings an end too.
    After a validation error that is NaN or infinite each stops, as Lightning's own early stopping does.

    Args:
        criterion: Its name, such as ``"GL5"``, see :class:`~lightning_regs.StopWhen`.
        validation: The validation error at each measurement, lower is better; give accuracies with a minus.
        training: The unregularised training error at each, of which PQ reads the progress.
        smoothing: Over how many measurements, the last ones, the validation error is averaged.

    Returns:
        The index, from 0; None where it is not stopped.

    Raises:
        ValueError: If the criterion is none, or PQ has no training error for each validation error, or one below 0.
    """
    holds = criterion_of(criterion)
    if reads_training(criterion) and len(training) != len(validation):
        raise ValueError(
            f"{criterion} reads the progress of the training error, and there are {len(training)} training errors for "
            f"{len(validation)} validation errors; record the unregularised training error with each."
        )
    if reads_training(criterion) and min(training, default=0.0) < 0:
        raise ValueError(
            f"{criterion} compares training errors by their quotient, and one is {min(training):g}; give an error that "
            "is at least 0."
        )
    errors = errors_of(validation, smoothing)
    with np.errstate(divide="ignore", invalid="ignore"):
        held = holds(errors, np.array(training, dtype=np.float64)) | ~np.isfinite(errors)
    return int(held.argmax()) if held.any() else None
