"""What was read for Frankle & Carbin 2019 and its successors."""

from __future__ import annotations

from lightning_regs.study import Source

PAPER = Source(
    "paper", "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", "Frankle, Carbin", 2019,
    "arxiv.org/abs/1803.03635", "main text in a Chinese translation, appendices B to I in English",
)  # fmt: skip
ZHOU = Source(
    "zhou", "Deconstructing Lottery Tickets", "Zhou, Lan, Liu, Yosinski", 2019, "arxiv.org/abs/1905.01067",
    "the abstract, as quoted on a page; figures that are recalled were not read again",
)  # fmt: skip
ZHOU_NOTE = Source("zhou-note", "Korean reading note on Zhou et al.")
ZHOU_CODE = Source("zhou-code", "Code of Zhou et al.", link="github.com/uber-research/deconstructing-lottery-tickets")
CONNECTIVITY = Source(
    "connectivity", "Linear Mode Connectivity and the Lottery Ticket Hypothesis", "Frankle, Dziugaite, Roy, Carbin",
    2020, "arxiv.org/abs/1912.05671", "the abstract, as quoted on a page",
)  # fmt: skip
SURVEY = Source("survey", "Survey of lottery tickets, a blog post")
REWINDING = Source("rewinding", "Two reading notes on rewinding", note="they agree on 0.1 to 7 % of training")
RENDA_DATA = Source(
    "renda", "Comparing Rewinding and Fine-tuning in Neural Network Pruning", "Renda, Frankle, Carbin", 2020,
    "github.com/lottery-ticket/rewinding-iclr20-public", "medians computed from the raw tables behind its plots",
)  # fmt: skip
MIKLER = Source(
    "mikler", "Reproduction of Renda et al. with its report",
    link="github.com/sjmikler/reproducing-comparing-rewinding-and-finetuning",
)  # fmt: skip
