from lightning_regs.study import Cell, Claim, Figure, MissingRows, Paper, Scale, Source, value
from lightning_regs.study.report.plots import stack

NASTY = "a/b'c\"d\n<script>e</script> \u2028é #?%:\\ " + "x" * 500
PLAIN = Cell("net/plain", "made.tasks:measure", {"rows": 3, "seed": "its own", "options": {"p": 0.1}})
CELLS = (
    PLAIN,
    Cell(NASTY, "made.tasks:measure", {"rows": 2, "odd": True, "text": "\0" + NASTY}),
    Cell("twin/a", "made.tasks:nothing", {"same": 1}),
    Cell("twin/b", "made.tasks:nothing", {"same": 1}),
)


def draw(rows, curves):
    figure, (axes,) = stack(1)
    axes.plot(list(rows.metric("net/plain", "train_acc").values()))
    return figure


def draw_missing(rows, curves):
    raise MissingRows("there is nothing")


def draw_broken(rows, curves):
    raise ZeroDivisionError("no length")


ABOUT = {"unit": "%", "source": Source("it", "Made"), "where": "Table 1"}
PAPER = Paper(
    id="made",
    title="Made",
    authors="Nobody",
    year=2020,
    arxiv="",
    scales=(Scale("quick", "small", CELLS, seeds=2),),
    claims=(
        Claim(
            "1", "It is 33 %.", value("net/plain", "train_acc"), within=3, published=33.0, origin="recalled", **ABOUT
        ),
        Claim("2", "It is something.", published="some", out_of_reach="Far away.", **ABOUT),
    ),
    figures=(
        Figure("loss", "Figure 1", "A line.", draw),
        Figure("missing", "Figure 2", "", draw_missing),
        Figure("broken", "Figure 3", "", draw_broken),
    ),
)
