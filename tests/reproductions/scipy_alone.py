"""Numbers and intervals of declared measures from a committed table, with scipy alone.

Of the package only what was declared is taken: a measure's kind, cells and metrics, and its number at one seed. Tables
are read with ``csv``; intervals are those of ``scipy.stats``, or found by searching for what a test just does not
reject. So a mistake would have to be made twice, in two ways.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from pathlib import Path

import numpy as np
import scipy.stats

ITEMS = re.compile(
    "^((best_|start_|(gl|pq|up)[0-9.]+_)?test_(acc|error)|(error_(m|snapshot)|mc_error_)[0-9]|(transfer_)?i?fgsm_error"
    "|signs_error|(random|ensemble|tuned|separate|first)_acc)"
)
PERCENT = re.compile("(^|_)(acc|error)(_|$)|^barrier$")


class Unfit(Exception):
    """There is no number to be had."""


class Table:
    """One ``SCALE.csv``: columns of numbers, seed by seed; test items where they are a sample."""

    def __init__(self, path: Path, items: int) -> None:
        self.columns = {}
        self.cells = []
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                self.cells += [row["cell"]]
                for name, text in row.items():
                    self.columns.setdefault((row["cell"], name), {})[int(row["seed"])] = text
        self.items = items
        self.within, self.between = 1.0, 0.0
        if items and "study/agreement" in self.cells:
            pairs = np.array(list(zip(*(self.column("study/agreement", name).values()
                                        for name in ("agreement_within", "agreement")), strict=True)))  # fmt: skip
            pairs = pairs[~np.isnan(pairs).any(1)]
            if len(pairs):
                self.within, self.between = np.clip(pairs.mean(0), 0, 1)
                self.between = min(self.within, self.between)

    def best(self, tuned):
        """Return at which position of a grid the mean over the seeds that all have is the best, and these seeds."""
        columns = [self.column(cell, tuned.by) for cell in tuned]
        seeds = sorted(set.intersection(*map(set, columns)))
        if not seeds:
            raise LookupError("no seed in common")
        means = np.mean([[column[seed] for seed in seeds] for column in columns], axis=1)
        means = np.where(np.isfinite(means), -means if tuned.by.endswith("_acc") else means, np.inf)
        if np.isinf(means).all():
            raise Unfit
        return int(means.argmin()), seeds

    def column(self, cell, metric):
        if hasattr(cell, "by"):
            at, seeds = self.best(cell)
            return {seed: number for seed, number in self.column(cell[at], metric).items() if seed in seeds}
        if not isinstance(cell, str):
            columns = [self.column(each, metric) for each in cell]
            return {
                seed: np.mean([column[seed] for column in columns]) for seed in set.intersection(*map(set, columns))
            }
        found = {seed: float(text) for seed, text in self.columns.get((cell, metric), {}).items() if text}
        if not found and metric.endswith("_error"):
            found = {seed: 100 - acc for seed, acc in self.column(cell, metric.replace("_error", "_acc")).items()}
        if not found:
            raise LookupError(f"{metric} of {cell}")
        return found

    def matrix(self, parts):
        """Return the parts' numbers, a line a part, at the seeds that all have."""
        columns = [self.column(*part) for part in parts]
        seeds = sorted(set.intersection(*map(set, columns)))
        if not seeds:
            raise LookupError("no seed in common")
        return np.array([[column[seed] for seed in seeds] for column in columns])

    def error(self, weights, parts, numbers):
        """Return the variance that the sample of test items gives to a weighted sum of means."""
        if not self.items:
            return 0.0
        spreads = np.zeros(len(parts))
        for at, (_, metric) in enumerate(parts):
            if ITEMS.match(metric):
                right = (self.items * numbers[at].mean() / 100 + 2) / (self.items + 4)
                spreads[at] = 100 * math.sqrt(right * (1 - right) / self.items) * (-1 if "error" in metric else 1)
        correlated = np.full((len(parts),) * 2, self.between) + (self.within - self.between) * np.eye(len(parts))
        return float((np.asarray(weights) * spreads) @ correlated @ (np.asarray(weights) * spreads))


def student(values, confidence, error=0.0):
    """Return the ends of a mean's interval, with the error of the test items."""
    if np.ptp(values) == 0:
        half = 0.0
    else:
        half = scipy.stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * scipy.stats.sem(values)
    half = math.hypot(half, scipy.stats.norm.ppf(0.5 + confidence / 2) * math.sqrt(max(error, 0.0)))
    return values.mean() - half, values.mean() + half


def bounded(ends, low, high):
    return tuple(np.clip(ends, low, high))


def limits(weights, parts):
    """Return between which a weighted sum of percentages lies."""
    if not all(PERCENT.search(metric) for weight, (_, metric) in zip(weights, parts, strict=True) if weight):
        return -math.inf, math.inf
    return sum(100 * min(w, 0) for w in weights), sum(100 * max(w, 0) for w in weights)


def ranges(measure, table):
    """Return the least and the most that each number can be: a time that never came is longer than its run."""
    numbers = table.matrix(measure.parts)
    if not measure.until:
        if np.isnan(numbers).any():
            raise Unfit
        return numbers, numbers
    both = table.matrix([*measure.parts, *((cell, measure.until) for cell, _ in measure.parts)])
    numbers, lengths = np.split(both, 2)
    return np.where(np.isnan(numbers), lengths + 1, numbers), np.where(np.isnan(numbers), math.inf, numbers)


def of_ends(lows, highs, confidence, error=0.0):
    """Return number and interval of what is known to lie between two numbers at each seed."""
    low = student(lows, confidence, error)[0] if np.isfinite(lows).all() else -math.inf
    high = student(highs, confidence, error)[1] if np.isfinite(highs).all() else math.inf
    known = [side.mean() for side in (lows, highs) if np.isfinite(side).all()]
    if not known:
        raise Unfit
    return np.mean(known), low, high


def linear(sums, choose):
    """Return the recomputation of the least or largest of weighted sums, whose weights a function finds."""

    def recompute(measure, table, confidence):
        lows, highs = ranges(measure, table)
        weights = np.array(sums(measure), float)
        up, down = np.maximum(weights, 0), np.minimum(weights, 0)

        def weighted(positive, negative):
            with np.errstate(invalid="ignore"):
                return np.nansum(up[:, :, None] * positive, 1) + np.nansum(down[:, :, None] * negative, 1)

        least, most = (choose(each, axis=0) for each in (weighted(lows, highs), weighted(highs, lows)))
        error = max(table.error(each, measure.parts, lows) for each in weights)
        bounds = [choose(ends) for ends in zip(*(limits(each, measure.parts) for each in weights), strict=True)]
        ours, low, high = of_ends(least, most, confidence, error)
        return ours, *bounded((low, high), *bounds), ""

    return recompute


def probed(measure):
    """Return the weights of a sum, from what it makes of one part being 1 and the others 0."""
    return [[measure.each(*unit) for unit in np.eye(len(measure.parts))]]


def every_part(measure):
    return np.eye(len(measure.parts))


def steps(measure):
    sign = measure.each(*range(len(measure.parts)))  # of a rise of 1 from each cell to the next
    return sign * np.diff(every_part(measure), axis=0)


def margins(measure):
    return every_part(measure)[0] - every_part(measure)[1:]


def ratio(measure, table, confidence):
    (a_low, b_low), (a_high, b_high) = ranges(measure, table)
    if min(a_low.min(), b_low.min()) <= 0:
        return fieller(measure, table, confidence, [1, 0], [0, 1])
    with np.errstate(divide="ignore"):
        lows, highs = np.log(a_low) - np.log(b_high), np.log(a_high) - np.log(b_low)
    weights = np.array([1 / a_high.mean(), -1 / b_high.mean()])
    found = of_ends(lows, highs, confidence, table.error(weights, measure.parts, np.array([a_high, b_high])))
    return *np.exp(found), ""


def percent_lower(measure, table, confidence):
    ours, low, high, invalid = ratio(measure, table, confidence)
    return 100 - 100 * ours, 100 - 100 * high, 100 - 100 * low, invalid


def share(measure, table, confidence):
    if len(measure.parts) == 3:
        return fieller(measure, table, confidence, [1, -1, 0], [0, -1, 1])
    return fieller(measure, table, confidence, [1, -1, 0, 0], [0, 0, 1, -1])


def fieller(measure, table, confidence, above, below):
    """Search for the quotients r at which the mean of above - r * below is just not significantly other than 0."""
    numbers, _ = ranges(measure, table)
    above, below = np.array(above, float), np.array(below, float)

    def excess(r):
        weights = above - r * below
        values = weights @ numbers
        _, half = np.array(student(values, confidence, table.error(weights, measure.parts, numbers))) - values.mean()
        return values.mean() ** 2 - half**2

    ours = (above @ numbers).mean() / (below @ numbers).mean()
    denominator = student(below @ numbers, 0.95, table.error(below, measure.parts, numbers))
    invalid = "denominator" if denominator[0] <= 0 <= denominator[1] else ""
    # It is a parabola in r, known by three of its points; where that opens downwards the set is no interval.
    parabola = np.polyfit([-1, 0, 1], [excess(-1), excess(0), excess(1)], 2)
    low, high = sorted(np.roots(parabola).real) if parabola[0] > 0 else (-math.inf, math.inf)
    return ours, low, high, invalid


def rank_correlation(measure, table, confidence):
    """Try every order of the times that never came, behind those that did."""
    lows, highs = ranges(measure, table)
    found = []
    for line, end in zip(lows.T, highs.T, strict=True):
        never = np.flatnonzero(np.isinf(end))
        assert not len(never) or line[never].min() > np.delete(line, never).max(initial=-math.inf)
        tried = []
        for order in itertools.permutations(range(len(never))):
            line[never] = 1e9 + np.array(order, float)
            tried.append(scipy.stats.spearmanr(range(len(line)), line).statistic)
        found.append((min(tried), max(tried)))
    ours, low, high = of_ends(*np.array(found).T, confidence)
    return ours, *bounded((low, high), -1, 1), ""


def peak_distance(measure, table, confidence):
    """Leave out every position that another one of its curve beats; positions are the exponents in the cells' names."""
    numbers, _ = ranges(measure, table)
    names = [cell for cell, _ in measure.parts]
    curves = [[at for at, name in enumerate(names) if ("-lam2^" in name) == second] for second in (False, True)]
    position = [int(name.rpartition("2^")[2]) for name in names]
    left = []
    for curve in curves:
        level = 1 - (1 - confidence) / (len(curve) - 1)
        kept = []
        for at in curve:
            beaten = []
            for other in curve:
                weights = np.eye(len(names))[other] - np.eye(len(names))[at]
                low, _ = student(numbers[other] - numbers[at], level, table.error(weights, measure.parts, numbers))
                beaten.append(low > 0 and other != at)
            kept += [] if any(beaten) else [position[at]]
        left.append(kept)
    best = [max(curve, key=lambda at: (numbers[at].mean(), position[at])) for curve in curves]
    ends = min(left[1]) - max(left[0]), max(left[1]) - min(left[0])
    return position[best[1]] - position[best[0]], *ends, ""


def turns(curve):
    """Return valley and peak: of all pairs of positions that with the largest rise."""
    return max(itertools.combinations(range(len(curve)), 2), key=lambda pair: curve[pair[1]] - curve[pair[0]])


def turning(above, below):
    """Read each seed at the turns of means over half of the others; 0 is the valley, 1 the peak, 2 the end."""

    def recompute(measure, table, confidence):
        numbers, _ = ranges(measure, table)
        size = len(numbers) // (2 if measure.name.endswith("_less") else 1)

        def weights(curve):
            at = (*turns(curve[:size]), size - 1)
            own = np.eye(size)[at[above]] - np.eye(size)[at[below]]
            return np.concatenate([own, -own])[: len(numbers)]

        n = numbers.shape[1]
        halves = list(itertools.combinations(range(n), n // 2))
        if n > 10:
            halves = [[seed % n for seed in range(first, first + n // 2)] for first in range(n)]
        # Exact sums: errors are counts of few test samples, and rounding would break their ties.
        chosen = np.array([weights([math.fsum(line) for line in numbers[:, half]]) for half in halves])
        read = chosen @ numbers
        for line, half in zip(read, halves, strict=True):
            line[list(half)] = np.nan
        values = np.nanmean(read, axis=0)
        error = np.mean([table.error(each, measure.parts, numbers) for each in chosen])
        half = scipy.stats.t.ppf(0.5 + confidence / 2, n - 1) * 1.4 * scipy.stats.sem(values)
        half = math.hypot(half, scipy.stats.norm.ppf(0.5 + confidence / 2) * math.sqrt(max(error, 0.0)))
        lows, highs = zip(*(limits(each, measure.parts) for each in chosen), strict=True)
        ends = values.mean() - half, values.mean() + half
        return values.mean(), *bounded(ends, min(lows), max(highs)), ""

    return recompute


def places(measure):
    """Return positions: the number at the end of a cell's name, or of a metric's where one cell has them all."""
    names = measure.parts if len(measure.cells) == 1 else [(metric, cell) for cell, metric in measure.parts]
    return [float(re.split("[/_]", name)[-1]) for _, name in names]


def peak_position(measure, table, confidence, half=1.0):
    numbers, _ = ranges(measure, table)
    at, place = range(len(numbers)), places(measure)
    if measure.name == "peak_over_fit":
        at = range(len(numbers) // 2)
    valley, peak = turns(numbers[at].mean(1))
    behind = at[valley + 1 :]
    level = 1 - half * (1 - confidence) / max(len(behind) - 1, 1)

    def beaten(one, other):
        weights = np.eye(len(numbers))[other] - np.eye(len(numbers))[one]
        return student(numbers[other] - numbers[one], level, table.error(weights, measure.parts, numbers))[0] > 0

    left = [place[one] for one in behind if not any(beaten(one, other) for other in behind if other != one)]
    return place[peak], min(left), max(left), ""


def peak_over_fit(measure, table, confidence):
    peak, low, high, _ = peak_position(measure, table, confidence, 0.5)
    numbers, place = ranges(measure, table)[0], places(measure)
    fitted = []
    for side in (0, 1, 2):  # the mean, its upper end, its lower end
        ends = [
            (each.mean(), *student(each, (1 + confidence) / 2)[::-1])[side] for each in numbers[len(numbers) // 2 :]
        ]
        fitted += [next((at for at, end in zip(place, np.clip(ends, 0, 100), strict=False) if end <= 1), math.inf)]
    return peak / fitted[0], low / fitted[1], high / fitted[2], ""


def per_seed(measure, table, confidence):
    values = np.array([measure.each(*line) for line in table.matrix(measure.parts).T.tolist()])
    if np.isnan(values).any():
        raise Unfit
    return values.mean(), *student(values, confidence), ""


KINDS = {
    "value": linear(probed, np.min),
    "difference": linear(probed, np.min),
    "weighted_sum": linear(probed, np.min),
    "smallest": linear(every_part, np.min),
    "largest": linear(every_part, np.max),
    "smallest_step": linear(steps, np.min),
    "margin": linear(margins, np.min),
    "ratio": ratio,
    "percent_lower": percent_lower,
    "share": share,
    "rank_correlation": rank_correlation,
    "peak_distance": peak_distance,
    "peak_position": peak_position,
    "peak_over_fit": peak_over_fit,
    "rise": turning(1, 0),
    "rise_less": turning(1, 0),
    "fall": turning(1, 2),
    "second_descent": turning(0, 2),
    "per_seed": per_seed,
}


def chosen(cells, table):
    """Return the cells that a condition is about: of tuned methods the best ones."""
    return [each[table.best(each)[0]] if hasattr(each, "by") else each for each in cells]


def at_an_edge(measure, table):
    """Say whether a tuned method of a measure is best where its grid ends, but for an end at 0."""
    for tuned in (cells for cells, _ in measure.parts if hasattr(cells, "by")):
        grid = np.array([np.atleast_1d(setting) for setting in tuned.grid])
        best, grid = grid[table.best(tuned)[0]], grid[:, np.ptp(grid, axis=0) > 0]
        varied = best[np.ptp(np.array([np.atleast_1d(setting) for setting in tuned.grid]), axis=0) > 0]
        if (((varied == grid.min(0)) & (varied != 0)) | (varied == grid.max(0))).any():
            return "edge"
    return ""


def recomputed(measure, table, confidence, exact):
    """Return n, ours, low, high and why it is invalid; None where it has no number, or no interval."""
    try:
        n = table.matrix(measure.parts).shape[1]
        if exact:
            values = [measure.each(*line) for line in table.matrix(measure.parts).T]
            if not np.isfinite(values).all():
                return None
            return (n if len(set(values)) > 1 else 1), np.mean(values), min(values), max(values), ""
        *found, invalid = KINDS[measure.name](measure, table, confidence)
    except (LookupError, Unfit):
        return None
    return n, *found, invalid or at_an_edge(measure, table)
