"""Jaderberg et al.: Decoupled Neural Interfaces using Synthetic Gradients (1608.05343), section 3.1: MNIST by depth."""

from functools import partial

from lightning_regs.study import (
    Claim,
    Deviation,
    Family,
    Metric,
    Paper,
    Scale,
    Source,
    difference,
    grid,
    lower,
    regularized,
    sweep,
    trained,
    value,
    weighted_sum,
)

CONFIG = "configs/jaderberg2017/mlp.yaml"
DNI, CDNI = (regularized("SyntheticGradients", **kind) for kind in ({}, {"kind": "cdni", "num_classes": 10}))
WAYS = {"backprop": {}, "dni": DNI, "cdni": CDNI, "none": regularized("SyntheticGradients", kind="none")}
DEPTHS = {n: {"model.architecture_args.hidden": [256] * n} for n in (3, 4, 5, 6)}
UNLOCKED = regularized("SyntheticGradients", unlocked=True)
CELLS = grid("{way}/{depth}", CONFIG, way=WAYS, depth=DEPTHS)
CELLS += grid("unlocked/6", CONFIG, DEPTHS[6] | UNLOCKED, task="jaderberg2017.tasks:traced")
CELLS += grid("study/agreement", CONFIG, DEPTHS[3] | CDNI | {"other": DNI}, seeds=2)
SHORT = {"model.optimizer.lr": 1e-3, "model.schedule": {"name": "PolynomialLR", "interval": "step"},
         "trainer.max_steps": -1}  # fmt: skip
DIGITS = SHORT | {"data.source": "digits", "data.batch_size": 50, "trainer.max_epochs": 20}
IMAGES = SHORT | {"data.train_size": 10_000, "data.batch_size": 128, "trainer.max_epochs": 30}

ITSELF = Source("paper", "Decoupled Neural Interfaces using Synthetic Gradients",
                "Jaderberg, Czarnecki, Osindero, Vinyals, Graves, Silver, Kavukcuoglu", 2017,
                "arxiv.org/abs/1608.05343", "Its table is recalled: differences of its numbers stand beside ours, and "
                "none is asserted.")  # fmt: skip
TEXT = {"source": ITSELF, "origin": "recalled", "where": "Table of section 3.1"}
_lower, _says = (partial(made, **TEXT) for made in (lower, Claim))
LEARNS = trained(["backprop/3", "backprop/6"], at_least=90)
CLAIMS = (
    _lower("depth", "Synthetic gradients from models that see units alone (DNI) have a higher test error at six layers "
           "than at three.", "dni/3", "dni/6", 2.4, valid_if=LEARNS, headline=True),
    _lower("labels", "At six layers synthetic gradients have a lower test error where their models see the label, too "
           "(cDNI), than where they see units alone (DNI).", "cdni/6", "dni/6", 2.7, valid_if=LEARNS, headline=True),
    _says("labels-deeper", "The label helps more at six layers than at three: by how much DNI's test error is above "
          "cDNI's.",
          weighted_sum((1, "dni/6", "test_error"), (-1, "cdni/6", "test_error"), (-1, "dni/3", "test_error"),
                       (1, "cdni/3", "test_error")), above=0, published=3.0, valid_if=LEARNS),
    _says("cdni", "At six layers synthetic gradients whose models see the label, too (cDNI), have a test error at most "
          "a point above backpropagation's.",
          difference("cdni/6", "backprop/6", "test_error"), at_most=1, published=-0.2, valid_if=LEARNS, headline=True),
    _says("cdni-depth", "cDNI's test error at six layers is at most a point above that at three.",
          difference("cdni/6", "cdni/3", "test_error"), at_most=1, published=-0.6, valid_if=LEARNS),
    _says("dni", "At three layers DNI's test error is at most a point above backpropagation's.",
          difference("dni/3", "backprop/3", "test_error"), at_most=1, published=-0.1, valid_if=LEARNS),
    _lower("none", "At three layers synthetic gradients (DNI) have a lower test error than no gradient behind the last "
           "layer, where that layer alone learns.", "dni/3", "none/3", 7.4, valid_if=LEARNS, headline=True),
    lower("control-none", "At six layers, too, synthetic gradients (DNI) have a lower test error than no gradient "
          "behind the last layer.", "dni/6", "none/6", "> 0", kind="control", valid_if=LEARNS),
    Claim("control-first", "Where each layer steps at once by synthetic gradients (unlocked), all hidden layers have "
          "taken their step when the last layer runs.",
          value("unlocked/6", "stepped_first"), at_least=100, kind="control", headline=True),
    Claim("control-same", "Nets of six layers that learn by synthetic gradients (DNI) have the same test error, to "
          "half a point, where each layer steps at once (unlocked) and where all step together.",
          difference("unlocked/6", "dni/6", "test_error"), within=0.5, published=0, kind="control"),
    Claim("numbers", "The test errors of the table, for three to six layers.", source=ITSELF, where=TEXT["where"],
          origin="recalled", out_of_reach="The table is in no public text that was found, and the protocol has 500,000 "
          "steps"),
    Claim("rnn", "Recurrent nets learn longer dependencies by predicted gradients.", source=ITSELF, where="section 3.2",
          origin="recalled", out_of_reach="Recurrent nets are not in this package"),
)  # fmt: skip
LINES = {"backpropagation": "backprop", "DNI": "dni", "cDNI": "cdni", "no backpropagation": "none"}

PAPER = Paper(
    "jaderberg2017", ITSELF.title, ITSELF.authors, 2017, "1608.05343",
    summary="Small models predict the gradient behind each layer, so that a layer can learn before the rest of the "
    "net has run. According to the paper depth costs nothing where they see the label, too.",
    scales=(
        Scale("quick", "Digits, three to six layers of 256, 20 epochs: 7 minutes on one core", CELLS,
              overrides=DIGITS, seeds=4),
        Scale("standard", "10,000 images of MNIST, three to six layers of 256, 30 epochs: 40 minutes on one core",
              CELLS, overrides=IMAGES, seeds=3),
        Scale("paper", "MNIST, three to six layers of 256, 500,000 steps: days on a GPU", CELLS, seeds=3),
    ),
    claims=CLAIMS,
    figures=(
        sweep("errors", "Test error by depth", "test_error", {name: {n: f"{way}/{n}" for n in DEPTHS} for name, way in
              LINES.items()}, "Layers of 256 units. DNI's models see units alone, cDNI's the label, too; without "
              "backpropagation the last layer alone learns.", x="hidden layers", y="test error (%)"),
    ),
    deviations=(
        Deviation("", "Models of two hidden layers of 1,024 units for DNI, none for cDNI; how many was chosen by the "
                  "test error", "Linear models for both", "DNI may be worse than with deeper models"),
        Deviation("", "Parts step at once", "Together, by the same gradients; one cell unlocked",
                  "None that was seen: the unlocked nets are the same, number by number"),
        Deviation("", "Settings as in the paper's appendix", "Read in a public quotation of it; the table is recalled",
                  "Published numbers may be off, and are not asserted"),
        Deviation("quick", "MNIST, 500,000 steps of 256, Adam at 3e-5 with two drops", "1,200 digits of 8x8, 480 steps "
                  "of 50, Adam from 1e-3 to 0", "Only directions can be compared"),
        Deviation("standard", "60,000 images, 500,000 steps of 256, Adam at 3e-5 with two drops", "10,000 images, "
                  "2,370 steps of 128, Adam from 1e-3 to 0", "All errors are larger"),
    ),
    metrics=(Family("Trace", (Metric("stepped_first", "Stepped before the last layer runs", "%"),)),),
)  # fmt: skip
