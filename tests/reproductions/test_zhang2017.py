"""The paper's plan and claims hang together, before anything is trained."""

import gc
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_regs.core.runs import RunContext
from lightning_regs.study.paper.loading import load_paper
from lightning_regs.study.paper.paper import Paper
from lightning_regs.study.paper.rows import MissingRows, Rows
from lightning_regs.study.paper.tasks import check_tasks
from lightning_regs.training.fit import train

ROOT = Path(__file__).parents[2]
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def paper() -> Paper:
    return load_paper("zhang2017")


def test_every_sentence_of_the_sheet_is_a_claim(paper: Paper) -> None:
    sentences = {claim.id.partition("-")[0] for claim in paper.claims}
    assert {str(n) for n in range(1, 15)} <= sentences


def test_tasks_exist(paper: Paper) -> None:
    for scale in paper.scales:
        check_tasks(scale.cells)


def test_table_1_has_all_its_rows_at_paper_scale(paper: Paper) -> None:
    from zhang2017.published import TABLE_1

    assert len(TABLE_1) == 19
    assert set(TABLE_1) <= {cell.name for cell in paper.scale("paper").cells}


@pytest.mark.parametrize("name", ["quick", "standard", "paper", "imagenet"])
def test_claims_measure_cells_that_their_scale_has(paper: Paper, name: str) -> None:
    """Give every cell of the scale rows with every metric: then every claim of the scale finds what it measures."""
    names = ["train_acc", "test_acc", "best_test_acc", "fit_epoch", "test_error", "train_error", "ridge_gain", "norm"]
    names += ["max_residual", "excess_weights", "width_ratio", "distance"]
    scale = paper.scale(name)
    rows = Rows(
        {"cell": cell.name, "seed": seed, "epochs": 9.0} | dict.fromkeys(names, 1.0 + seed)
        for number, cell in enumerate(scale.cells)
        for seed in SEEDS
    )
    decided = 0
    for claim in paper.claims:
        if claim.measure is None or (claim.scales is not None and name not in claim.scales):
            continue
        try:
            values = claim.measure(rows)
        except MissingRows:
            assert claim.out_of_reach, f"claim {claim.id} needs a cell that scale {name} lacks, and does not say why"
        else:
            assert len(values) == len(SEEDS)
            decided += 1
    assert decided >= 3


@pytest.mark.parametrize(("reference", "bound"), [(13.0, 5.0), (29.0, math.nan)])
def test_a_cell_that_never_fits_gives_a_lower_bound(paper: Paper, reference: float, bound: float) -> None:
    (claim,) = [claim for claim in paper.claims if claim.id == "3-factor"]
    rows = Rows(
        [
            {"cell": "mlp-1x512/random-labels", "seed": 0, "fit_epoch": math.nan, "epochs": 64},
            {"cell": "mlp-1x512/true-labels", "seed": 0, "fit_epoch": reference, "epochs": 64},
        ]
    )
    assert claim.measure is not None
    assert list(claim.measure(rows)) == pytest.approx([bound], nan_ok=True)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images in two classes, as small as Inception V3 can take."""
    folder = tmp_path_factory.mktemp("imagenet")
    rng = np.random.Generator(np.random.PCG64(0))
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            (folder / split / label).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(rng.integers(0, 256, (90, 100, 3), dtype=np.uint8)).save(
                    folder / split / label / f"{i}.png"
                )
    return folder


def test_every_configuration_of_table_2_trains(paper: Paper, image_folder: Path, tmp_path: Path) -> None:
    cells = paper.scale("imagenet").cells
    assert len(cells) == 7
    for number, cell in enumerate(cells):
        data = {"source": str(image_folder), "image_size": 75, "batch_size": 2, "num_workers": 0}
        trainer = {"max_epochs": 1, "accelerator": "cpu", "precision": "32-true"}
        config = cell.config | {"data": cell.config["data"] | data, "trainer": trainer}
        (tmp_path / str(number)).mkdir()
        metrics = train(config, RunContext(tmp_path / str(number)))
        assert {"train_acc", "test_acc"} <= set(metrics), cell.name
        gc.collect()  # a Trainer and its module refer to each other, and seven of this module are two gigabytes
