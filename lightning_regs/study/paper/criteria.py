"""What a number has to satisfy for a claim to count as reproduced, in words of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

WORDS = ("above", "below", "at_least", "at_most", "within")  # in which a claim says its criterion


@dataclass(frozen=True)
class Criterion:
    """A range for a number, whose ends belong to it unless they are open; of one ``within`` a tolerance, that."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    within: float | None = None

    @classmethod
    def of(cls, name: str, published: float | str | None = None, **limits: float | None) -> Criterion | None:
        """Make the criterion from a claim's words; None where it has none.

        Args:
            name: What it belongs to, for the message.
            published: The number that ``within`` is around.
            **limits: By word of :data:`WORDS`: the number has to be ``above`` or ``at_least`` one, ``below`` or
                ``at_most`` another, or ``within`` so much of the published one, alone.

        Raises:
            ValueError: If the words contradict each other, leave no number, or there is no published number.
        """
        above, below, at_least, at_most, within = map(limits.get, WORDS)
        words = [word for word in WORDS if limits.get(word) is not None]
        for limit in filter(None, limits.values()):
            if not math.isfinite(limit):
                raise ValueError(f"{name} has the limit {limit}; give a finite number, or leave that side out.")
        if not words:
            return None
        for first, second in (("above", "at_least"), ("below", "at_most"), *(("within", w) for w in words[:-1])):
            if first in words and second in words:
                raise ValueError(f"{name} gives both {first}= and {second}=; one of them says it.")
        if within is not None:
            number = math.nan if published is None or isinstance(published, (str, bool)) else published
            if not math.isfinite(number) or within < 0:
                raise ValueError(f"{name} is within {within} of published={published!r}; give a number to be near to.")
            return cls(number - within, number + within, within=within)
        low, high = (at_least if above is None else above), (at_most if below is None else below)
        made = cls(
            -math.inf if low is None else low, math.inf if high is None else high, above is not None, below is not None
        )
        if made.low > made.high or (made.low == made.high and (made.open_low or made.open_high)):
            raise ValueError(f"{name} asks for a number {made.text()}, and there is none.")
        return made

    def share(self, larger: float | None) -> float | None:
        """Return the share of pairs on the side it asks for, given that of larger numbers; None of two ends."""
        if larger is None or math.isfinite(self.low) == math.isfinite(self.high):
            return None
        return larger if math.isfinite(self.low) else 1 - larger

    def contains(self, low: float, high: float) -> bool:
        """Whether a whole interval satisfies it."""
        return not self._under(low, self.low, self.open_low) and not self._under(-high, -self.high, self.open_high)

    def excludes(self, low: float, high: float) -> bool:
        """Whether no number of an interval satisfies it."""
        return self._under(high, self.low, self.open_low) or self._under(-low, -self.high, self.open_high)

    def text(self, unit: str = "") -> str:
        """Say it: ``"above 0 points"``, ``"at least 99 %"``, ``"49.01 to 52.01 %"``."""
        behind = f" {unit}".rstrip() if unit != "x" else "\u00d7"
        low, high = short(self.low), short(self.high)
        if not (self.open_low or self.open_high) and math.isfinite(self.low) and math.isfinite(self.high):
            return f"{low}{behind}" if self.low == self.high else f"{low} to {high}{behind}"
        words = [f"{'above' if self.open_low else 'at least'} {low}"] if math.isfinite(self.low) else []
        words += [f"{'below' if self.open_high else 'at most'} {high}"] if math.isfinite(self.high) else []
        return f"{' and '.join(words)}{behind}"

    @staticmethod
    def _under(number: float, end: float, is_open: bool) -> bool:
        return number < end or (is_open and number == end)


def short(number: float, digits: int = 6) -> str:
    """Write a number with so many digits."""
    return f"{number:.{digits}g}".replace("-", "\u2212")
