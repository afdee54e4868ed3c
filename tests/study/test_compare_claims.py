from __future__ import annotations

import json

import pytest
from compare_claims import RENAMED, compare, judged, renamed

from lightning_regs.study.paper.loading import find_papers, load_paper
from lightning_regs.study.paper.verdicts import ClaimResult
from lightning_regs.study.store.results import default_results

RULES = {"*-lenet": "*", "*-lenet-50k": "*", "odd": "even"}


def claim(name, **about):
    base = {"sentence": "", "paper_value": None, "provenance": "", "unit": "", "reason": ""}
    base |= {"ours": 1.0, "low": 0.5, "high": 1.5, "n": 3, "verdict": "reproduced"}
    return ClaimResult(id=name, **(base | about))


def test_an_id_that_is_gone_is_looked_up():
    known = {"1": None, "2-lenet": None}
    names = ("1-lenet", "1-lenet-50k", "2-lenet", "3", "odd")
    assert [renamed(name, known, RULES) for name in names] == ["1", "1", "2-lenet", "3", "even"]


def test_equal_claims_do_not_differ_and_those_of_other_scales_are_labelled_only():
    before = [claim(name).as_dict() for name in ("1-lenet", "2")]
    before.append(claim("1-lenet-50k", verdict="out of reach", ours=None, low=None, high=None, n=0).as_dict())
    before.append(claim("gone", verdict="out of reach").as_dict())
    differences, labels, new = compare(before, [claim("1", ours=1.0 + 1e-12), claim("2"), claim("3")], RULES)
    assert differences == []
    assert labels == ["1-lenet-50k -> 1: out of reach -> reproduced", "gone: out of reach -> gone"]
    assert new == ["3"]


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"verdict": "not decided"}, "verdict reproduced -> not decided"),
        ({"n": 4}, "n 3 -> 4"),
        ({"ours": 1.0 + 1e-8}, "ours 1.0 -> 1.00000001"),
        ({"low": None}, "low 0.5 -> None"),
        ({"verdict": "out of reach"}, "verdict reproduced -> out of reach"),
    ],
)
def test_what_differs_is_named(about, says):
    assert compare([claim("1").as_dict()], [claim("1", **about)], {})[0] == [f"1: {says}"]


def test_a_judged_claim_that_is_lost_is_named():
    assert compare([claim("1").as_dict()], [], {})[0] == ["1: lost (reproduced, n=3)"]


@pytest.mark.parametrize("paper_id", find_papers())
def test_the_committed_claims_are_those_of_the_committed_rows(paper_id):
    paper = load_paper(paper_id)
    for scale in paper.scales:
        file = default_results(paper) / f"{scale.name}.claims.json"
        if file.exists():
            rules = RENAMED.get(paper_id, {})
            assert compare(json.loads(file.read_text()), judged(paper, scale), rules)[0] == []
