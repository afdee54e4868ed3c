"""The paper's plan and claims hang together, before anything is trained."""

import csv
import gc
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_regs.study import Measure, Paper, Rows, RunContext, load_paper
from lightning_regs.training.fit import train

ROOT = Path(__file__).parents[2]
MLP = "mlp-1x512"


@pytest.fixture(scope="module")
def paper() -> Paper:
    return load_paper("zhang2017")


def test_every_sentence_of_the_sheet_is_a_claim(paper: Paper) -> None:
    assert {str(n) for n in range(1, 15)} <= {claim.id.partition("-")[0] for claim in paper.claims}


@pytest.mark.parametrize(("name", "rows"), [("quick", 63), ("standard", 58)])
def test_committed_rows_are_runs_of_the_cells(paper: Paper, name: str, rows: int) -> None:
    by_name = {cell.name: cell for cell in paper.scale(name).cells}
    with (ROOT / f"reproductions/zhang2017/results/{name}.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) >= rows
    for row in found:
        assert by_name[row["cell"]].hash(int(row["seed"])) == row["config_hash"]


def test_table_1_has_all_its_rows_at_paper_scale(paper: Paper) -> None:
    (table,) = [figure for figure in paper.figures if figure.id == "table1"]
    cells = {cell for cell, _ in table.published}
    assert len(cells) == 19
    assert cells <= {cell.name for cell in paper.scale("paper").cells}


def test_a_number_of_cifar_is_not_drawn_at_digits(paper: Paper) -> None:
    cell = (f"{MLP}/true-labels", "test_acc")
    assert paper.published("standard")[cell] == 50.51
    assert cell not in paper.published("quick")
    assert paper.published("paper")["small-inception/true-labels", "test_acc"] == 85.75


@pytest.mark.parametrize(
    ("id", "fitted", "ours", "high"),
    [
        ("3-factor", {"random-labels": 26.0, "true-labels": 13.0}, 2.0, 2.0),
        ("3-factor", {"random-labels": math.nan, "true-labels": 13.0}, 5.0, math.inf),
        ("4-order", {"random-labels": 30.0, "random-pixels": 10.0, "gaussian": 12.0}, 18.0, 18.0),
        ("4-order", {"random-labels": math.nan, "random-pixels": 10.0, "gaussian": 12.0}, 53.0, math.inf),
    ],
)
def test_a_net_that_never_fits_gives_a_lower_bound(
    paper: Paper, id: str, fitted: dict[str, float], ours: float, high: float
) -> None:
    (claim,) = [claim for claim in paper.claims if claim.id == id]
    rows = Rows({"cell": f"{MLP}/{name}", "seed": 0, "fit_epoch": at, "epochs": 64} for name, at in fitted.items())
    assert isinstance(claim.measure, Measure)
    estimate = claim.measure(rows)
    assert (estimate.ours, *estimate.ends(0.95)) == pytest.approx((ours, ours, high))


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images in two classes, as small as Inception V3 can take."""
    folder = tmp_path_factory.mktemp("imagenet")
    rng = np.random.Generator(np.random.PCG64(0))
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            (folder / split / label).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (90, 100, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.png")
    return folder


@pytest.mark.slow
def test_configurations_of_table_2_train(paper: Paper, image_folder: Path, tmp_path: Path) -> None:
    cells = paper.scale("imagenet").cells
    assert len(cells) == 7
    # Between them the first and the last have all that the others vary.
    for number, cell in enumerate((cells[0], cells[-1])):
        data = {"source": str(image_folder), "image_size": 75, "batch_size": 2, "num_workers": 0}
        trainer = {"max_epochs": 1, "accelerator": "cpu", "precision": "32-true"}
        config = cell.config | {"data": cell.config["data"] | data, "trainer": trainer}
        (tmp_path / str(number)).mkdir()
        metrics = train(config, RunContext(tmp_path / str(number)))
        assert {"train_acc", "test_acc"} <= set(metrics), cell.name
        gc.collect()  # a Trainer and its module refer to each other, and this module is large
