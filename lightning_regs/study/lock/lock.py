"""``claims.lock``: what each claim of a paper was, and how many seeds were planned, before its rows were measured.

A line a claim and scale. What is added or changed after its rows is marked as exploratory there, for good; seeds that
are planned after a look at rows stand behind those of before, one number for each look.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_regs.core.files import lock, renew
from lightning_regs.core.runs import csv_text
from lightning_regs.study.lock.fingerprint import Plan, plans
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import Frozen

FILE = "claims.lock"
COLUMNS = ("scale", "claim", "hash", "seeds", "date", "commit", "exploratory")
ADDED, CHANGED, WITHDRAWN = "added after its rows", "changed after its rows", "withdrawn after its rows"

_FORMS = {
    "scale": ".+",
    "claim": ".+",
    "hash": "[0-9a-f]{12}",
    "seeds": "[1-9][0-9]*( [1-9][0-9]*)*",
    "date": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
}


class DamagedLockError(ValueError):
    """Raised when a ``claims.lock`` cannot be read; the message names the file, the line and the remedy."""


@dataclass(frozen=True)
class Line(Frozen):
    """A claim at a scale as it was frozen; ``hash`` is that of its :class:`~.fingerprint.Plan`."""

    hash: str = ""

    def marked(self, why: str, reason: str = "") -> Line:
        """Return it with one more mark, unless it has that already."""
        why = f"{why} ({reason})" if reason else why
        return self if why in self._marks else replace(self, exploratory="; ".join([*self._marks, why]))

    @property
    def withdrawn(self) -> str:
        """How the claim was taken out of the paper after its rows, in words; empty where it was not."""
        return next((mark for mark in self._marks if mark.startswith(WITHDRAWN)), "")

    @property
    def _marks(self) -> list[str]:
        return [mark for mark in self.exploratory.split("; ") if mark]


Lines = dict[tuple[str, str], Line]


def read(folder: Path) -> Lines | None:
    """Read the lock of the paper in a folder: (scale, claim) -> line; None where there is none.

    Raises:
        DamagedLockError: If the file is no lock, or not whole.
    """
    path = folder / FILE
    try:
        text = path.read_bytes().decode() if path.exists() else None
        return None if text is None else parse(text)
    except (OSError, ValueError, csv.Error) as error:
        why = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None)
        raise DamagedLockError(
            f"{path} cannot be read ({why or error}); take it back from git, as the marks in it cannot be made anew."
        ) from None


def parse(text: str) -> Lines:
    """Read the text of a lock."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    if tuple(next(reader, ())) != COLUMNS:
        raise ValueError(f"its first line is not {','.join(COLUMNS)!r}")
    if not text.endswith("\n"):  # a mark may have stood there
        raise ValueError("its last line has no end")
    found: Lines = {}
    for row in reader:
        where = f"line {reader.line_num}"
        if len(row) != len(COLUMNS):
            raise ValueError(f"{where} has {len(row)} entries instead of {len(COLUMNS)}")
        entries = dict(zip(COLUMNS, row, strict=True))
        for name, form in _FORMS.items():
            if not re.fullmatch(form, entries[name]):
                raise ValueError(f"{where} has the {name} {entries[name]!r}")
        key = entries.pop("scale"), entries.pop("claim")
        if key in found:
            raise ValueError(f"{where} is about claim {key[1]!r} at scale {key[0]!r} again")
        found[key] = Line(**entries | {"seeds": tuple(map(int, entries["seeds"].split()))})  # type: ignore[arg-type]
    return found


def text(lines: Lines) -> str:
    """Write lines as the text of a lock, in their order."""
    rows = (
        vars(line) | {"scale": scale, "claim": claim, "seeds": " ".join(map(str, line.seeds))}
        for (scale, claim), line in lines.items()
    )
    return csv_text(COLUMNS, rows)


def marks(paper: Paper, scale: Scale, measured: Iterable[str] = ()) -> dict[str, Frozen]:
    """Return by id what was fixed about the claims of a scale, for :func:`~.verdicts.evaluate`.

    A claim that does not match the lock counts as exploratory; without a lock none was ever frozen. ``measured`` has
    the cell of each row of the scale: seeds beyond the planned ones are one more look.
    """
    try:
        lines = read(paper.folder) if paper.folder else None
    except DamagedLockError:
        return {claim.id: Frozen(exploratory="the lock of the claims cannot be read") for claim in paper.claims}
    if lines is None:
        return {}
    rows, found = Counter(measured), {}
    for id, plan in plans(paper, scale).items():
        line = lines.get((scale.name, id)) or Line().marked("not frozen")
        if line.hash and line.hash != plan.hash:
            line = line.marked("changed since it was frozen")
        for seeds in (plan.seeds, min((rows[cell] for cell in plan.cells), default=0)):
            if seeds > max(line.seeds, default=0):
                line = replace(line, seeds=(*line.seeds, seeds))
        found[id] = Frozen(line.seeds, line.date, line.commit, line.exploratory)
    return found


def withdrawn(paper: Paper, scale: str) -> dict[str, tuple[str, ...]]:
    """Return the ids of the claims that were taken out of a scale after its rows, by how that was said."""
    try:
        lines = read(paper.folder) if paper.folder else None
    except DamagedLockError:  # `mismatches` says so
        return {}
    asked, found = {claim.id for claim in paper.claims if claim.at(scale)}, dict[str, tuple[str, ...]]()
    for (known, id), line in (lines or {}).items():
        if known == scale and line.withdrawn and id not in asked:
            found[line.withdrawn] = (*found.get(line.withdrawn, ()), id)
    return found


def mismatches(paper: Paper) -> str:
    """Say in a sentence in what a paper and its lock differ; empty where they agree, or there is no lock."""
    try:
        lines = read(paper.folder) if paper.folder else None
    except DamagedLockError as damaged:
        return f"{damaged} Until then all claims count as exploratory."
    if lines is None:
        return ""
    differ = []
    for scale in paper.scales:
        for id, plan in plans(paper, scale).items():
            line = lines.pop((scale.name, id), None)
            if line is None:
                differ.append(f"{id} at {scale.name} is not frozen")
            elif line.hash != plan.hash:
                differ.append(f"{id} at {scale.name} has changed")
            elif line.seeds[-1] != plan.seeds:
                differ.append(f"{id} at {scale.name} has {plan.seeds} seeds instead of {line.seeds[-1]}")
    differ += [f"{id} at {scale} is gone" for (scale, id), line in lines.items() if not line.withdrawn]
    if not differ:
        return ""
    more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
    return (
        f"{FILE} of {paper.id} does not match its claims ({', '.join(differ[:3])}{more}): what is new or changed "
        f"counts as exploratory; take them back, or run `lightning-regs freeze {paper.id}`."
    )


@dataclass(frozen=True)
class Change:
    """What freezing did to a claim, in words, and the seeds that are planned for it now; none where it is gone."""

    scale: str
    claim: str
    what: str
    seeds: tuple[int, ...]


def freeze(
    paper: Paper,
    measured: Mapping[str, Rows],
    *,
    date: str,
    commit: str,
    scale: str | None = None,
    reason: str = "",
) -> list[Change]:
    """Bring the lock of a paper in its folder up to date with its claims; return what was done, in the lock's order.

    Args:
        paper: The paper.
        measured: By scale, its rows; scales without rows may be missing.
        date: Today, as ``YYYY-MM-DD``.
        commit: The commit that this was done on.
        scale: The only scale to freeze; None for all.
        reason: Why claims were added or changed after their rows, to stand beside the marks.

    Raises:
        ValueError: If the paper has no folder of its own, or no such scale.
        DamagedLockError: If the lock that is there cannot be read.
    """
    if paper.folder is None:
        raise ValueError(f"paper {paper.id!r} has no folder to keep {FILE} in; load it from one.")
    order = {one.name: one for one in paper.scales}
    if scale is not None:
        paper.scale(scale)
    reason = " ".join(reason.replace(";", ",").split())
    with lock(paper.folder, file=""):
        old = read(paper.folder) or {}
        new, done = dict(old), []
        for name in [scale] if scale else dict.fromkeys([*order, *(known for known, _ in old)]):
            lines = {id: line for (known, id), line in old.items() if known == name}
            now = plans(paper, order[name]) if name in order else {}
            new = {key: line for key, line in new.items() if key[0] != name}
            have = set(measured[name].cells()) if name in measured else set()
            for id, line, what in _frozen(lines, now, have, Line((), date, commit), reason):
                new |= {(name, id): line} if line is not None else {}
                done += [Change(name, id, what, line.seeds if line and id in now else ())] if what else []
        places = {name: at for at, name in enumerate(order)}
        ranked = sorted(new, key=lambda key: places.get(key[0], len(places)))
        renew(paper.folder / FILE, text({key: new[key] for key in ranked}))
    return done


def _frozen(
    old: Mapping[str, Line], now: Mapping[str, Plan], have: set[str], today: Line, reason: str
) -> Iterable[tuple[str, Line | None, str]]:
    """Yield the id of each claim, now and before, its line (None: dropped) and what was done to it, if anything."""
    gone = {id: line for id, line in old.items() if id not in now}
    moved = {line.hash: id for id, line in gone.items()}
    for id, plan in now.items():
        begun = bool(plan.cells & have)
        seen = begun and plan.cells <= have
        line, what = old.get(id), []
        if line is None and plan.hash in moved:
            before = moved.pop(plan.hash)
            line = gone.pop(before)
            what.append(f"renamed from {before}")
        if line is None:
            line = replace(today, hash=plan.hash, seeds=(plan.seeds,))
            line = line.marked(ADDED, reason) if seen else line
            what.append(ADDED if seen else "new")
        elif line.hash != plan.hash:
            line = replace(line, hash=plan.hash, date=today.date, commit=today.commit)
            line = line.marked(CHANGED, reason) if begun else line
            what.append(CHANGED if begun else "changed before its rows")
        if line.seeds[-1] != plan.seeds:
            line = replace(line, seeds=(*(line.seeds if seen else line.seeds[:-1]), plan.seeds))
            what.append(f"{plan.seeds} seeds, look {len(line.seeds)}" if seen else f"{plan.seeds} seeds")
        yield id, line, ", ".join(what)
    for id, line in gone.items():
        if line.withdrawn:
            yield id, line, ""
        elif have:
            yield id, line.marked(WITHDRAWN, reason), "withdrawn after rows of its scale"
        else:
            yield id, None, "dropped, without rows"
