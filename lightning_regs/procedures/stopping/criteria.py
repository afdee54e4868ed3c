"""When to stop: Prechelt's criteria and patience, as functions of the errors measured so far."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lightning_regs.core.checks import Count, Positive, Range, checked
from lightning_regs.core.names import unknown_name
from lightning_regs.procedures.measured import PRECHELT

Errors = NDArray[np.float64]
Truths = NDArray[np.bool_]
Curve = Sequence[Annotated[float, Range(infinite=True, missing=True)]]

STRIP = 5
"""Prechelt's k: measurements in a strip, at whose ends PQ and UP are asked."""


class Criterion(ABC):
    """When to stop, of validation errors of which lower is better; one that is no number is infinitely large.

    Attributes:
        kind: The first part of its name, such as ``"GL"``; the second is its threshold.
        reads_training: Whether it compares with the training error.
    """

    kind: ClassVar[str]
    reads_training: ClassVar[bool] = False

    @abstractmethod
    def holds(self, validation: Errors, training: Errors) -> Truths:
        """Return after which of the measurements ``(T,)`` it holds; each is a function of those before and itself."""

    def __str__(self) -> str:
        """Return its name, as the paper writes it: ``"GL5"``."""
        return f"{self.kind}{getattr(self, fields(self)[0].name):g}"  # type: ignore[arg-type]


@checked
@dataclass(frozen=True)
class GL(Criterion):
    r"""Stop as soon as the generalization loss is above ``alpha`` percent.

    :math:`GL(t) = 100 (E(t) - E_{opt}(t)) / |E_{opt}(t)|` is by how many percent the error is above the least so far.
    """

    alpha: Positive = 5.0
    kind = "GL"

    def holds(self, validation: Errors, training: Errors) -> Truths:
        """Compare the loss of generalization with the threshold."""
        return generalization_loss(validation) > self.alpha


@checked
@dataclass(frozen=True)
class PQ(Criterion):
    r"""Stop at the end of a strip where the quotient of generalization loss and progress is above ``alpha``.

    The progress of a strip of k is :math:`P_k(t) = 1000 (\bar{E}_{tr} / \min E_{tr} - 1)`, how far the mean training
    error in it is above the least: while training makes progress, a generalization loss may pass.
    """

    alpha: Positive = 1.0
    strip: Count = STRIP
    kind = "PQ"
    reads_training = True

    def holds(self, validation: Errors, training: Errors) -> Truths:
        """Compare the quotient with the threshold, at the ends of strips."""
        held = np.zeros(len(validation), dtype=bool)
        ends = slice(self.strip - 1, None, self.strip)
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = generalization_loss(validation)[ends] / progress(training, self.strip)
        held[ends] = quotient > self.alpha
        return held


@checked
@dataclass(frozen=True)
class UP(Criterion):
    """Stop when the error at the end of a strip was above that at the end of the one before, so many times running."""

    strips: Count = 3
    strip: Count = STRIP
    kind = "UP"

    def holds(self, validation: Errors, training: Errors) -> Truths:
        """Count the rises from strip to strip."""
        held = np.zeros(len(validation), dtype=bool)
        ends = validation[self.strip - 1 :: self.strip]
        held[self.strip - 1 :: self.strip] = _running(np.diff(ends, prepend=ends[:1]) > 0) >= self.strips
        return held


@checked
@dataclass(frozen=True)
class Patience(Criterion):
    """Stop when ``measurements`` of them running were no new least: Lightning's own rule, without its ``min_delta``."""

    measurements: Count = 10
    kind = "patience"

    def holds(self, validation: Errors, training: Errors) -> Truths:
        """Count the measurements since the least."""
        before = np.minimum.accumulate(np.concatenate([[np.inf], validation]))[:-1]
        return _running(~(validation < before)) >= self.measurements


KINDS: dict[str, Callable[[Any], Criterion]] = {cls.kind: cls for cls in (GL, PQ, UP, Patience)}


def generalization_loss(validation: Errors) -> Errors:
    """Return by how many percent each error is above the least up to it, ``(T,)``; NaN where both are 0 or infinite."""
    least = np.minimum.accumulate(validation)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss: Errors = 100 * ((validation - least) / np.abs(least))
    return loss


def progress(training: Errors, strip: int) -> Errors:
    """Return the progress in each whole strip, in thousandths; 0 where its errors are 0 or no numbers."""
    strips = training[: len(training) // strip * strip].reshape(-1, strip)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Errors = np.nan_to_num(1000 * (strips.mean(1) / strips.min(1) - 1), nan=0.0, posinf=np.inf)
    return found


def _running(truths: Truths) -> NDArray[np.int64]:
    """Return how many there are without a break up to each, itself included."""
    places = np.arange(1, len(truths) + 1)
    return places - np.maximum.accumulate(np.where(truths, 0, places))


def criterion_of(name: str | Criterion) -> Criterion:
    """Return a criterion by its name, such as ``"GL5"``, ``"PQ0.75"``, ``"UP3"`` or ``"patience10"``.

    Raises:
        ValueError: If there is none of that name, or its threshold is not above 0.
        TypeError: If the threshold of UP or patience is no whole number.
    """
    if isinstance(name, Criterion):
        return name
    found = re.fullmatch(r"([A-Za-z]+)(\d+(?:\.\d+)?)", name)
    if found is None or found[1] not in KINDS:
        raise unknown_name("criterion", name, (*PRECHELT, "patience10"))
    threshold: Any = float(found[2]) if "." in found[2] else int(found[2])
    return KINDS[found[1]](threshold)


def errors_of(values: Curve, smoothing: int = 1) -> Errors:
    """Return a curve with infinity for what is no number, each value the mean of the last ``smoothing`` up to it."""
    found = np.nan_to_num(np.array(values, dtype=np.float64), nan=np.inf, posinf=np.inf, neginf=np.inf)
    if smoothing == 1:
        return found
    return np.array([found[max(0, end - smoothing) : end].mean() for end in range(1, len(found) + 1)])


@checked
def stops(criterion: str | Criterion, validation: Curve, training: Curve = (), smoothing: Count = 1) -> int | None:
    """Return after which measurement of a recorded training it would have been stopped.

    Prechelt, "Early stopping -- but when?" (1998). None of the criteria has to come true: give trainings an end too.

    Args:
        criterion: Or its name, such as ``"GL5"``; see :func:`criterion_of`.
        validation: The validation error at each measurement, lower is better; give accuracies with a minus.
        training: The unregularised training error at each, of which PQ reads the progress.
        smoothing: Over how many measurements, the last ones, the validation error is averaged.

    Returns:
        The index, from 0; None where it is not stopped.

    Raises:
        ValueError: If PQ has no training error for each validation error, or one below 0.
    """
    criterion = criterion_of(criterion)
    if criterion.reads_training and len(training) != len(validation):
        raise ValueError(
            f"{criterion} reads the progress of the training error, and there are {len(training)} training errors for "
            f"{len(validation)} validation errors; record the unregularised training error with each."
        )
    if criterion.reads_training and min(training, default=0.0) < 0:
        raise ValueError(
            f"{criterion} compares training errors by their quotient, and one is {min(training):g}; give an error that "
            "is at least 0."
        )
    held = criterion.holds(errors_of(validation, smoothing), np.array(training, dtype=np.float64))
    return int(held.argmax()) if held.any() else None
