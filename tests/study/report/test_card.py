from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import NASTY, make_paper, make_rows, write_results

from lightning_regs.study.report.card import update


def card(path, *names):
    text = "# A paper\n\nBy hand.\n" + "".join(f"\n<!-- begin:{n} -->\n<!-- end:{n} -->\n" for n in names) + "\nMore.\n"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def paper(tmp_path):
    made = make_paper(folder=tmp_path / "smith2020")
    write_results(made, tmp_path / "smith2020" / "results")
    return made


ALL = ("smith2020/claims", "smith2020/results/quick", "smith2020/figures", "gallery")


@pytest.mark.slow
def test_a_card_is_stale_until_it_is_updated_and_what_is_written_by_hand_stays(tmp_path, paper):
    path = card(tmp_path / "smith2020" / "README.md", *ALL)
    assert update([path], [paper])
    assert not update([path], [paper])
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# A paper\n\nBy hand.\n")
    assert text.endswith("\nMore.\n")


def test_the_claims_table_has_one_line_for_each_claim_within_reach(tmp_path, paper):
    path = card(tmp_path / "smith2020" / "README.md", "smith2020/claims")
    update([path], [paper])
    lines = [line.split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    measured = {claim.id: line for claim, line in zip(paper.claims[:4], lines[2:6], strict=True)}
    for claim in paper.claims[:4]:
        line = measured[claim.id]
        assert line[1].partition("<br>")[0] == f"`{claim.id}` {claim.sentence}"
        assert line[3] == claim.criterion.text(claim.unit)
    assert measured["1"][0] == "| \u2713\u00a0reproduced"
    assert measured["1"][2:] == ["100.00\u202f%", "at least 99 %", "99.91\u202f%<br>99.89 to 99.93", "3 |"]
    assert measured["2"][2] == "80.00\u202f% (recalled)"
    assert "- Out of reach: ImageNet is not here (`5`)." in path.read_text(encoding="utf-8")


def test_deviations_are_a_table_with_numbers(tmp_path, paper):
    path = card(tmp_path / "smith2020" / "README.md", "smith2020/deviations")
    update([path], [paper])
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert lines[2:] == [
        "| D1 | `quick` | CIFAR-10 | Digits in place of CIFAR-10. |  |",
        "| D2 | all | Not stated | Seeds are 0, 1 and 2. | None. |",
    ]


def test_a_paper_without_deviations_says_so(tmp_path, paper):
    path = card(tmp_path / "smith2020" / "README.md", "smith2020/deviations")
    update([path], [replace(paper, deviations=())])
    assert "deviations -->\nNone.\n<!-- end" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["rows", "curves", "gone"])
@pytest.mark.slow
def test_new_results_make_a_card_stale(tmp_path, paper, change):
    path = card(tmp_path / "smith2020" / "README.md", *ALL)
    update([path], [paper])
    figure = tmp_path / "smith2020" / "figures" / "quick-loss.svg"
    before = figure.read_bytes()
    if change == "rows":
        rows = make_rows(paper)
        rows[0]["test_acc"] += 1
        write_results(paper, tmp_path / "smith2020" / "results", rows=rows)
    elif change == "curves":
        file = tmp_path / "smith2020" / "results" / "quick.curves.csv"
        file.write_text(file.read_text(encoding="utf-8").replace(",2.3\n", ",2.2\n"), encoding="utf-8")
    else:
        figure.unlink()
    assert update([path], [paper])
    assert not update([path], [paper])
    assert (figure.read_bytes() == before) == (change != "curves")  # the same bytes whoever writes them


def test_figures_are_files_that_the_card_links_from_where_it_is(tmp_path, paper):
    inner = card(tmp_path / "smith2020" / "README.md", "smith2020/figure/loss")
    outer = card(tmp_path / "README.md", "smith2020/figure/loss", "gallery")
    update([inner], [paper])
    assert not update([inner], [paper])
    update([outer], [paper])
    assert "](figures/quick-loss.svg)" in inner.read_text(encoding="utf-8")
    assert "](smith2020/figures/quick-loss.svg)" in outer.read_text(encoding="utf-8")
    assert "](smith2020/README.md)" in outer.read_text(encoding="utf-8")
    svg = (tmp_path / "smith2020" / "figures" / "quick-loss.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert 'fill="#ffffff"' in svg
    assert "Loss over 290 steps." in inner.read_text(encoding="utf-8")


def test_names_from_runs_cannot_break_table_or_page(tmp_path):
    paper = make_paper(folder=tmp_path / "p", cells=("net/true-labels", NASTY))
    write_results(paper, tmp_path / "p" / "results")
    path = card(tmp_path / "p" / "README.md", "smith2020/results", "smith2020/claims", "smith2020/figures")
    update([path], [paper])
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text.replace("`net/<script>alert('x')</script> $1 & \\|'*`", "")
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4, 7}


def test_without_results_the_card_gives_the_command(tmp_path):
    paper = make_paper(folder=tmp_path / "p")
    path = card(tmp_path / "README.md", "smith2020/claims", "smith2020/figures/full", "gallery")
    update([path], [paper])
    text = path.read_text(encoding="utf-8")
    assert "lightning-regs reproduce smith2020 --scale quick" in text
    assert "lightning-regs reproduce smith2020 --scale full" in text
    assert "no results yet" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smith2021/claims", "unknown paper 'smith2021'. Did you mean 'smith2020'"),
        ("smith2020/clams", "Did you mean 'claims'"),
        ("smith2020/figure/los", "Did you mean 'loss'"),
        ("smith2020/claims/quik", "Did you mean 'quick'"),
    ],
)
def test_an_unknown_marker_suggests_the_nearest(tmp_path, paper, name, says):
    with pytest.raises(ValueError, match=says):
        update([card(tmp_path / "README.md", name)], [paper])


def test_a_marker_without_its_end_is_refused_before_anything_is_written(tmp_path, paper):
    path = tmp_path / "README.md"
    path.write_text("<!-- begin:gallery -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match="begin:gallery has no partner"):
        update([path], [paper])
    assert path.read_text(encoding="utf-8") == "<!-- begin:gallery -->\n"


def test_a_part_that_another_command_writes_is_left_alone(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("<!-- begin:methods -->\na table\n<!-- end:methods -->\n")
    assert not update([card], [])
    assert "a table" in card.read_text()
