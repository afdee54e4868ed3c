"""Claims are frozen before their rows: what is added, changed, withdrawn or given more seeds after them is marked."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_regs.study import difference, per_seed, ratio, smallest, value
from lightning_regs.study.lock.fingerprint import plans
from lightning_regs.study.lock.lock import FILE, DamagedLockError, freeze, marks, mismatches, read, withdrawn
from lightning_regs.study.lock.power import needs, sees
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.claims import Claim, Source
from lightning_regs.study.paper.conditions import trained
from lightning_regs.study.paper.paper import Paper, Scale
from lightning_regs.study.paper.power import seeds_needed
from lightning_regs.study.paper.rows import Rows
from lightning_regs.study.paper.verdicts import evaluate
from lightning_regs.study.store.results import check_claims
from lightning_regs.study.store.tables import Row

HERE = Path(__file__).parent
NOTE = Source("note", "A note")
CELLS = tuple(Cell(name, "made.up:train", {"name": name}) for name in ("a", "b", "c"))
GAIN = Claim("gain", "b is better than a.", difference("b", "a"), above=0, unit="points", source=NOTE)
FIT = Claim("fit", "a fits.", value("a", "train_acc"), at_least=99, unit="%", source=NOTE)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def paper(folder, *claims, cells=CELLS, seeds=5):
    return Paper("toy2020", "Toys", "Doe", 2020, "", (Scale("quick", "small", cells, seeds=seeds),), claims,
                 folder=folder)  # fmt: skip


def measured(*names, seeds=5, scale="quick"):
    rows = [{"cell": name, "seed": seed, "test_acc": 50.0 + seed, "train_acc": 99.5} for name in names
            for seed in range(seeds)]  # fmt: skip
    return {scale: Rows(rows)} if names else {}


def frozen(folder, *claims, rows=(), day=1, **changes):
    """Freeze, and return the lock by claim and what was said."""
    more = {key: changes.pop(key) for key in ("scale", "reason") if key in changes}
    made = paper(folder, *claims, **changes)
    done = freeze(made, measured(*rows), date=f"2030-01-0{day}", commit=f"c0ffee{day}", **more)
    assert mismatches(made) == ""
    return {id: line for (_, id), line in read(folder).items()}, {change.claim: change.what for change in done}


def hash_of(claim, cells=CELLS, test_items=0):
    agreement = [Cell("study/agreement", "m:f")] if test_items else []
    scale = Scale("quick", "small", (*cells, *agreement), test_items=test_items)
    return plans(paper(None, replace(claim, id="x"), cells=cells), scale)["x"].hash


@pytest.mark.parametrize(
    "rewritten",
    [
        replace(GAIN, measure=per_seed(lambda a, b: -(a - b), ("a", "test_acc"), ("b", "test_acc"))),
        replace(GAIN, measure=difference("a", "b", "test_error")),
        replace(GAIN, sentence="Said otherwise.", headline=True, where="Table 1"),
    ],
)  # fmt: skip
def test_the_same_rule_in_other_words_has_the_same_hash(rewritten):
    assert hash_of(rewritten) == hash_of(GAIN)


@pytest.mark.parametrize(
    "other",
    [
        replace(GAIN, measure=difference("c", "a")),
        replace(GAIN, measure=difference("b", "a", "train_acc")),
        replace(GAIN, measure=ratio("b", "a")),
        replace(GAIN, measure=per_seed(lambda b, a: max(b - a, -0.5), ("b", "test_acc"), ("a", "test_acc"))),
        replace(GAIN, above=0.5),
        replace(GAIN, above=None, at_least=0),
        replace(GAIN, published=1.0),
        replace(GAIN, unit="%"),
        replace(GAIN, kind="theory"),
        replace(GAIN, exact=True),
        replace(GAIN, valid_if=trained("a", at_least=99)),
        replace(GAIN, valid_if=trained("a", at_least=98)),
        replace(GAIN, valid_if=("fit",)),
    ],
)
def test_another_rule_has_another_hash(other):
    cells, claims = CELLS, (FIT, replace(other, id="x"))
    assert plans(paper(None, *claims), Scale("quick", "small", cells))["x"].hash != hash_of(GAIN)


def test_what_a_rule_does_with_what_never_came_is_part_of_it():
    careful = replace(GAIN, measure=smallest("test_acc", "a", "b"))
    careless = per_seed(lambda *x: min([v for v in x if not math.isnan(v)], default=math.nan),
                        ("a", "test_acc"), ("b", "test_acc"))  # fmt: skip
    assert hash_of(replace(careful, measure=careless)) != hash_of(careful)


def test_a_measure_that_fails_has_a_hash_of_how_it_fails():
    one, other = (
        replace(GAIN, measure=per_seed(function, ("a", "test_acc"))) for function in (lambda a: {}[a], lambda a: a / 0)
    )
    assert hash_of(one) != hash_of(other)


def test_cells_may_be_renamed_and_their_configuration_may_not_change():
    renamed = tuple(replace(cell, name=cell.name.upper()) for cell in CELLS)
    assert hash_of(replace(GAIN, measure=difference("B", "A")), renamed) == hash_of(GAIN)
    longer = (replace(CELLS[0], config={"name": "a", "epochs": 2}), *CELLS[1:])
    assert hash_of(GAIN, longer) != hash_of(GAIN)


def test_whether_test_samples_are_a_sample_is_part_of_the_rule():
    assert len({hash_of(GAIN), hash_of(GAIN, test_items=597), hash_of(GAIN, test_items=1000)}) == 3


def test_a_claim_is_frozen_where_it_is_measured(folder):
    elsewhere = replace(GAIN, id="elsewhere", on=("full",))
    far = Claim("far", "It scales.", out_of_reach="too large", source=NOTE)
    scales = (Scale("quick", "small", CELLS, seeds=5), Scale("full", "large", (*CELLS, Cell("d", "made.up:train"))))
    wide = replace(GAIN, id="wide", measure=difference("d", "a"))
    made = Paper("toy2020", "Toys", "Doe", 2020, "", scales, (GAIN, elsewhere, far, wide), folder=folder)
    freeze(made, {}, date="2030-01-01", commit="c0ffee1")
    assert list(read(folder)) == [("quick", "gain"), ("full", "gain"), ("full", "elsewhere"), ("full", "wide")]


def test_before_any_row_all_is_free(folder):
    lock, said = frozen(folder, GAIN, FIT)
    assert said == {"gain": "new", "fit": "new"}
    assert lock["gain"].date == "2030-01-01"
    assert lock["gain"].seeds == (5,)
    other = replace(GAIN, above=3)
    lock, said = frozen(folder, other, seeds=3, day=2)
    assert said == {"gain": "changed before its rows, 3 seeds", "fit": "dropped, without rows"}
    assert (lock["gain"].date, lock["gain"].commit, lock["gain"].exploratory) == ("2030-01-02", "c0ffee2", "")
    assert lock["gain"].seeds == (3,)
    assert lock["gain"].hash == hash_of(other)


def test_what_is_added_after_its_rows_is_marked_for_good(folder):
    frozen(folder, FIT)
    lock, said = frozen(folder, FIT, GAIN, rows=("a", "b"), reason="one run\ncollapsed; so")
    assert said == {"gain": "added after its rows"}
    assert lock["gain"].exploratory == "added after its rows (one run collapsed, so)"
    lock, said = frozen(folder, FIT, GAIN, rows=("a", "b"), day=3)
    assert not said
    assert lock["gain"].exploratory.startswith("added after its rows")


def test_a_new_cell_beside_measured_ones_is_no_look(folder):
    frozen(folder, FIT)
    lock, said = frozen(folder, FIT, GAIN, rows=("a",))
    assert said == {"gain": "new"}
    assert lock["gain"].exploratory == ""
    lock, said = frozen(folder, FIT, replace(GAIN, above=1), rows=("a",))
    assert lock["gain"].exploratory == "changed after its rows"  # what is there has been looked at


def test_a_change_after_rows_is_marked_and_a_revert_keeps_the_mark(folder):
    frozen(folder, GAIN)
    lock, said = frozen(folder, replace(GAIN, above=-1), rows=("a", "b"), day=2)
    assert said == {"gain": "changed after its rows"}
    lock, said = frozen(folder, GAIN, rows=("a", "b"), day=3)
    assert said == {"gain": "changed after its rows"}
    assert (lock["gain"].exploratory, lock["gain"].date) == ("changed after its rows", "2030-01-03")


def test_another_protocol_after_rows_is_a_change(folder):
    frozen(folder, GAIN, FIT)
    longer = (CELLS[0], replace(CELLS[1], config={"name": "b", "epochs": 60}), CELLS[2])
    lock, said = frozen(folder, GAIN, FIT, rows=("a", "b"), cells=longer)
    assert said == {"gain": "changed after its rows"}
    assert lock["fit"].exploratory == ""


def test_seeds_added_after_rows_are_one_more_look(folder):
    frozen(folder, GAIN, FIT)
    lock, said = frozen(folder, GAIN, FIT, rows=("a",), seeds=10)
    assert said == {"gain": "10 seeds", "fit": "10 seeds, look 2"}
    assert (lock["gain"].seeds, lock["fit"].seeds) == ((10,), (5, 10))
    assert lock["fit"].exploratory == ""
    assert lock["fit"].confidence == pytest.approx(0.975)
    lock, said = frozen(folder, GAIN, FIT, rows=("a", "b"), seeds=3)  # fewer, after a look, are a choice too
    assert lock["fit"].seeds == (5, 10, 3)


def test_the_cell_with_the_fewest_seeds_says_how_many_are_planned(folder):
    few = (CELLS[0], replace(CELLS[1], seeds=2), CELLS[2])
    assert frozen(folder, GAIN, FIT, cells=few)[0]["gain"].seeds == (2,)


def test_a_withdrawn_claim_stays_visible_and_a_renamed_one_keeps_its_line(folder):
    before = frozen(folder, GAIN, FIT)[0]
    lock, said = frozen(folder, replace(GAIN, id="better"), rows=("a",), day=2, reason="counted twice")
    assert said == {"better": "renamed from gain", "fit": "withdrawn after rows of its scale"}
    assert lock["better"] == before["gain"]
    assert lock["fit"].withdrawn
    kept = paper(folder, replace(GAIN, id="better"))
    assert withdrawn(kept, "quick") == {"withdrawn after its rows (counted twice)": ("fit",)}
    assert withdrawn(kept, "full") == withdrawn(paper(folder, GAIN, FIT), "quick") == {}
    lock, said = frozen(folder, replace(GAIN, id="better"), rows=("a",), day=3)
    assert not said
    lock, said = frozen(folder, replace(GAIN, id="better"), FIT, rows=("a",), day=4)
    assert lock["fit"].exploratory == "withdrawn after its rows (counted twice)"


def test_one_scale_is_frozen_alone_and_a_scale_that_is_gone_is_seen(folder):
    frozen(folder, GAIN)
    scales = (Scale("full", "large", CELLS, seeds=3),)
    made = Paper("toy2020", "Toys", "Doe", 2020, "", scales, (GAIN,), folder=folder)
    freeze(made, measured("a"), date="2030-01-02", commit="x", scale="full")
    assert list(read(folder)) == [("full", "gain"), ("quick", "gain")]
    assert "gain at quick is gone" in mismatches(made)
    freeze(made, measured("a"), date="2030-01-02", commit="x")
    assert read(folder)["quick", "gain"].withdrawn
    with pytest.raises(ValueError, match="unknown scale 'ful'"):
        freeze(made, {}, date="2030-01-02", commit="x", scale="ful")


def test_what_does_not_match_the_lock_is_told_once_and_counts_as_exploratory(folder):
    assert mismatches(paper(folder, GAIN)) == ""
    assert marks(paper(folder, GAIN), paper(folder, GAIN).scale("quick")) == {}
    frozen(folder, GAIN, FIT, Claim("old", "c tests.", value("c"), above=0, source=NOTE))
    made = paper(folder, replace(GAIN, above=1), FIT, Claim("new", "c is new.", value("c"), above=1, source=NOTE))
    assert mismatches(made) == (
        "claims.lock of toy2020 does not match its claims (gain at quick has changed, new at quick is not frozen, old "
        "at quick is gone): what is new or changed counts as exploratory; take them back, or run "
        "`lightning-regs freeze toy2020`."
    )
    found = marks(made, made.scale("quick"))
    assert found["gain"].exploratory == "changed since it was frozen"
    assert found["new"].exploratory == "not frozen"
    assert (found["fit"].exploratory, found["fit"].date) == ("", "2030-01-01")
    more = paper(folder, GAIN, FIT, seeds=8)
    assert "gain at quick has 8 seeds instead of 5" in mismatches(more)
    assert marks(more, more.scale("quick"))["gain"].seeds == (5, 8)


def test_seeds_that_nobody_planned_widen_the_interval(folder):
    made = paper(folder, GAIN)
    frozen(folder, GAIN)
    rows = [Row.of({"cell": c, "seed": s, "test_acc": 50.0 + s * (c == "b"), "wall_s": 1.0}) for c in "ab"
            for s in range(9)]  # fmt: skip
    few = [row for row in rows if row.seed < 5]
    [planned], [more] = check_claims(made, made.scale("quick"), few), check_claims(made, made.scale("quick"), rows)
    assert (planned.confidence, more.confidence) == pytest.approx((0.95, 0.975))
    assert planned.frozen == "2030-01-01, on top of c0ffee1"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text.replace("scale,claim", "scale;claim"), "its first line is not 'scale,claim,hash,seeds"),
        (lambda text: "", "its first line is not"),
        (lambda text: text + "quick,gain,abc\n", "line 3 has 3 entries instead of 7"),
        (lambda text: text + text.splitlines(True)[1], "line 3 is about claim 'gain' at scale 'quick' again"),
        (lambda text: text.removesuffix("\n"), "its last line has no end"),
        (lambda text: text.replace(",5,", ",five,"), "line 2 has the seeds 'five'"),
        (lambda text: text.replace(",5,", ",0,"), "line 2 has the seeds '0'"),
        (lambda text: text.replace("2030-01-01", "yesterday"), "line 2 has the date 'yesterday'"),
        (lambda text: text.replace(hash_of(GAIN), "abc"), "line 2 has the hash 'abc'"),
        (lambda text: text.replace("c0ffee1", '"c0ffee1'), "unexpected end of data"),
        (lambda text: "<<<<<<< HEAD\n" + text, "its first line is not"),
        (lambda text: text.encode("utf-16"), "it is not text in UTF-8"),
        (None, "Is a directory"),
    ],
)
def test_a_damaged_lock_is_one_sentence_with_the_remedy(folder, damage, says):
    frozen(folder, GAIN)
    path, made = folder / FILE, paper(folder, GAIN)
    if damage is None:
        path.unlink()
        path.mkdir()
    else:
        damaged = damage(path.read_text())
        path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    before = None if damage is None else path.read_bytes()
    with pytest.raises(DamagedLockError) as told:
        freeze(made, {}, date="2030-01-02", commit="x")
    assert says in str(told.value)
    assert str(path) in str(told.value)
    assert str(told.value).count(". ") == 0
    assert "take it back from git" in str(told.value)
    assert damage is None or path.read_bytes() == before
    assert mismatches(made).startswith(str(told.value))
    assert marks(made, made.scale("quick"))["gain"].exploratory == "the lock of the claims cannot be read"


def test_a_lock_is_the_same_text_whoever_writes_it(folder):
    frozen(folder, GAIN, FIT)
    before = (folder / FILE).read_bytes()
    assert before == (
        b"scale,claim,hash,seeds,date,commit,exploratory\n"
        b"quick,gain,%b,5,2030-01-01,c0ffee1,\nquick,fit,%b,5,2030-01-01,c0ffee1,\n"
        % (hash_of(GAIN).encode(), hash_of(FIT).encode())
    )
    assert frozen(folder, GAIN, FIT, day=2)[1] == {}
    assert (folder / FILE).read_bytes() == before


@pytest.mark.slow
def test_two_commands_at_once_lose_nothing(folder):
    """Both freeze another scale; the one that comes second reads what the first has written, a killed one nothing."""
    (folder / f".{FILE}.0123456789abcdef.part").write_text("scale,cl")
    script = (
        "import sys; from pathlib import Path; from test_lock import *\n"
        "scales = tuple(Scale(name, 'x', CELLS) for name in ('one', 'two'))\n"
        "made = Paper('toy2020', 'Toys', 'Doe', 2020, '', scales, (GAIN, FIT), folder=Path(sys.argv[1]))\n"
        "freeze(made, {}, date='2030-01-01', commit='x', scale=sys.argv[2])\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script, str(folder), scale], cwd=HERE)
            for scale in ("one", "two")]  # fmt: skip
    assert [run.wait() for run in runs] == [0, 0]
    assert [scale for scale, _ in read(folder)] == ["one", "one", "two", "two"]
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_what_is_planned_sees_is_said_in_the_unit_of_a_pilot(folder):
    assert sees(GAIN, (5,)) == "5 seeds see 1.7 standard deviations over seeds"
    assert sees(FIT, (1,)) == "one seed sees nothing"
    assert sees(replace(GAIN, exact=True), (5,)) == ""
    pilot = Rows([{"cell": c, "seed": s, "test_acc": float(s * (c == "b"))} for c in "ab" for s in range(3)])
    assert sees(GAIN, (5,), pilot) == f"5 seeds see {1.682 * statistics.stdev([0, 1, 2]):.2g} points"
    assert sees(GAIN, (5,), Rows([])) == sees(GAIN, (5,))


def test_an_open_claim_says_how_many_seeds_would_decide_it_and_what_they_take(folder):
    numbers = {"a": (50.0, 52.0, 51.0), "b": (51.0, 52.0, 53.0)}
    rows = [{"cell": cell, "seed": seed, "test_acc": number, "wall_s": 10.0}
            for cell, at in numbers.items() for seed, number in enumerate(at)]  # fmt: skip
    made = paper(folder, GAIN, FIT)
    scale = made.scales[0]
    [need] = needs(made, scale, Rows(rows), evaluate((GAIN,), Rows(rows), scale.name))
    n = seeds_needed(1.0, 1.0, 0.975)
    assert (need.claim.id, need.distance, need.alone, need.seeds) == ("gain", 1.0, n, n)
    assert need.seconds == pytest.approx(2 * (n - 3) * 10.0)
    unfit = Rows([row | {"test_acc": math.nan} if row["seed"] else row for row in rows])
    assert list(needs(made, scale, unfit, evaluate((GAIN,), unfit, scale.name))) == []
    few = Rows(rows, test_items=100)
    [need] = needs(made, scale, few, evaluate((GAIN,), few, scale.name))
    assert (need.alone, need.seeds) == (n, None)
    assert need.error > 10
