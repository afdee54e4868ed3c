"""Compare the claims of every paper as they were committed with those that the committed rows give now.

    python tests/study/compare_claims.py REV [PAPER ...]

reads ``SCALE.claims.json`` of each paper at the git revision REV, judges the paper's claims anew on the rows of the
working tree, and prints each difference in verdict, seeds, number and interval. What is only labelled otherwise (a
claim that was out of reach, as its cells belong to another scale) is counted apart. The exit status is 1 if a judged
verdict or number differs or a judged claim is lost.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.store.results import check_claims, default_results
from lightning_regs.study.store.tables import read_table

ROOT = Path(__file__).parents[2]
# Where an id of REV is gone: the id that has its place, by the old id or its end ("*-lenet": "*" makes "1-lenet" "1").
RENAMED: dict[str, dict[str, str]] = {
    "zhang2017": {"*-digits": "*"},
    "smith2021": {
        "*-mnist1d": "*",
        "*-fashion-mnist": "*",
        "*-cifar10-wrn-10-1": "*",
        "*-cifar10-wrn-16-4": "*",
        "N-resnet18-closed": "N-closed",
        "N-vgg11-closed": "N-closed-vgg11",
        "N-vgg11-micro": "N-micro",
    },
    "frankle2019": {"*-mnist1d": "*", "*-lenet": "*", "*-lenet-50k": "*"},
}
NOT_JUDGED = ("out of reach", "not at this scale")
NUMBERS = ("ours", "low", "high")


def renamed(old: str, known: Mapping[str, object], rules: Mapping[str, str]) -> str:
    """Return the id that a claim has now."""
    if old in known or old in rules:
        return old if old in known else rules[old]
    ends = [rule for rule in rules if rule.startswith("*") and old.endswith(rule[1:])]
    rule = max(ends, key=len, default=None)
    return old if rule is None else rules[rule].replace("*", old.removesuffix(rule[1:]))


def compare(
    before: Iterable[Mapping[str, Any]], now: Iterable[ClaimResult], rules: Mapping[str, str]
) -> tuple[list[str], list[str], list[str]]:
    """Compare the entries of a claims file with results.

    Returns:
        What differs or is lost, what is only labelled otherwise, and the ids of judged claims that are new.
    """
    known = {claim.id: claim for claim in now}
    differences, relabelled, had = [], [], set()
    for entry in before:
        claim = known.get(renamed(entry["id"], known, rules))
        name = entry["id"] if claim is None or claim.id == entry["id"] else f"{entry['id']} -> {claim.id}"
        if entry["verdict"] in NOT_JUDGED:
            if claim is None or claim.verdict != entry["verdict"]:
                relabelled.append(f"{name}: {entry['verdict']} -> {claim.verdict if claim else 'gone'}")
            continue
        if claim is None:
            differences.append(f"{name}: lost ({entry['verdict']}, n={entry['n']})")
            continue
        had.add(claim.id)
        written = claim.as_dict()  # which has no number where an interval is open
        changed = [key for key in ("verdict", "n", *NUMBERS) if differs(entry[key], written[key])]
        changes = [f"{key} {entry[key]} -> {written[key]}" for key in changed]
        if changes:
            differences.append(f"{name}: {', '.join(changes)}")
    new = [claim.id for claim in known.values() if claim.verdict not in NOT_JUDGED and claim.id not in had]
    return differences, relabelled, new


def differs(old: object, new: object) -> bool:
    if not (isinstance(old, float) and isinstance(new, float)):
        return old != new
    return not (math.isclose(old, new, rel_tol=1e-9) or (math.isnan(old) and math.isnan(new)))


def judged(paper: Paper, scale: Scale) -> list[ClaimResult]:
    """Return the claims as the rows of the working tree give them."""
    return check_claims(paper, scale, read_table(default_results(paper) / f"{scale.name}.csv", paper.id, scale.name))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    revision, *papers = arguments
    status = 0
    for paper in map(load_paper, papers or find_papers()):
        folder = default_results(paper).relative_to(ROOT).as_posix()
        files = git("ls-tree", "--name-only", revision, f"{folder}/").splitlines()
        for scale in paper.scales:
            file = f"{folder}/{scale.name}.claims.json"
            if file not in files:
                continue
            before = json.loads(git("show", f"{revision}:{file}"))
            differences, relabelled, new = compare(before, judged(paper, scale), RENAMED.get(paper.id, {}))
            number = sum(entry["verdict"] not in NOT_JUDGED for entry in before)
            print(
                f"{paper.id} {scale.name}: {number} judged before; {len(differences)} differ or are lost, "
                f"{len(new)} are new, {len(relabelled)} labelled otherwise"
            )
            for lines, word in ((differences, "DIFFERS"), (new, "new"), (relabelled, "label")):
                for line in lines:
                    print(f"  {word:8}{line}")
            status |= bool(differences)
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
