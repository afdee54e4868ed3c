"""The figures of a search: its course, what was tried, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_regs.study.paper.rows import MissingRows
from lightning_regs.study.report import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_LEAST = 5  # complete trials, of which it can be said what mattered
_TEXT = 16  # signs of a choice that fit beside an axis


def course(study: Study, metric: str) -> Figure:
    """Draw the number of each trial in its order, and the best so far."""
    done = _complete(study)
    drawing, [axes] = plots.stack(1)
    x, y = [trial.number for trial in done], [_value(trial) for trial in done]
    better = max if study.directions[0].name == "MAXIMIZE" else min
    best = [better(y[: at + 1]) for at in range(len(y))]
    axes.plot(x, y, "o", color=plots.SERIES[0], markersize=3.5, label="trial")
    axes.plot(x, best, drawstyle="steps-post", color=plots.SERIES[1], label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.legend()
    plots.describe(drawing, f"{metric} by trial; the best is {best[-1]:.4g}, of trial {x[y.index(best[-1])]}.")
    if left := len(study.trials) - len(done):
        plots.note(drawing, f"{left} trials that failed or were stopped early are not drawn.")
    return drawing


def parallel(study: Study, metric: str) -> Figure:
    """Draw each trial as a line through its settings, the best half in colour and the best one thick."""
    done = sorted(_complete(study), key=_value, reverse=study.directions[0].name == "MAXIMIZE")
    paths = list(done[0].params)
    drawing, [axes] = plots.stack(1, height=0.5 + 0.55 * (len(paths) + 1))
    scales = [_scale(done[0].distributions[path]) for path in paths]
    values = [_value(trial) for trial in done]
    low, high = min(values), max(values)
    for rank, trial in reversed(list(enumerate(done))):
        at = [place(trial.params[path]) for path, (place, _) in zip(paths, scales, strict=True)]
        at.append((_value(trial) - low) / (high - low) if high > low else 0.5)
        color = plots.SERIES[1] if not rank else plots.SERIES[0] if 2 * rank < len(done) else plots.MUTED
        axes.plot(at, range(len(at)), color=color, linewidth=2.2 if not rank else 0.8, alpha=1 if not rank else 0.5)
    for line, (first, last) in enumerate([*(ends for _, ends in scales), (f"{low:.4g}", f"{high:.4g}")]):
        axes.text(-0.02, line, first, ha="right", va="center", fontsize=8.5, color=plots.MUTED)
        axes.text(1.02, line, last, ha="left", va="center", fontsize=8.5, color=plots.MUTED)
        axes.plot([0, 1], [line, line], color=plots.MUTED, linewidth=0.5)
        axes.text(0.5, line - 0.12, [*paths, metric][line], ha="center", va="bottom", fontsize=8.5)
    axes.set_xlim(-0.35, 1.35)
    axes.set_ylim(len(paths) + 0.3, -0.5)
    axes.set_axis_off()
    told = ", ".join(f"{path} {done[0].params[path]}" for path in paths)
    plots.describe(drawing, f"Settings of {len(done)} trials, a line each; the best has {told}.")
    plots.note(drawing, "The thick line is the best trial; grey ones are the worse half.")
    return drawing


def importances(study: Study, metric: str) -> Figure:
    """Draw the share of the variance over trials that each setting explains: fANOVA (Hutter et al., 2014)."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    done = _complete(study)
    if len(done) < _LEAST or len({_value(trial) for trial in done}) == 1:
        raise MissingRows(f"what mattered is asked of {_LEAST} complete trials that differ; there are {len(done)}")
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    drawing, [axes] = plots.stack(1, height=0.6 + 0.32 * len(found))
    names = list(found)[::-1]
    axes.barh(names, [100 * found[name] for name in names], color=plots.SERIES[0], height=0.6)
    axes.set_xlabel(f"share of the variance of {metric} (%)")
    shares = "; ".join(f"{name} {100 * share:.0f} %" for name, share in found.items())
    plots.describe(drawing, f"What the differences between trials come from: {shares}.")
    return drawing


def _complete(study: Study) -> list[FrozenTrial]:
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if not done:
        raise MissingRows("no trial is complete")
    return done


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _scale(distribution: Any) -> tuple[Any, tuple[str, str]]:
    """Return where a setting is between 0 and 1, and what stands at both ends."""
    if hasattr(distribution, "choices"):
        choices: Sequence[Any] = distribution.choices
        last = max(len(choices) - 1, 1)
        return lambda value: choices.index(value) / last, (str(choices[0])[:_TEXT], str(choices[-1])[:_TEXT])
    low, high = distribution.low, distribution.high
    by = math.log if distribution.log else float
    span = by(high) - by(low) or 1.0
    return lambda value: (by(value) - by(low)) / span, (f"{low:g}", f"{high:g}")
