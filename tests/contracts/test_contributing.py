"""What CONTRIBUTING.md shows is what its reader copies: the method keeps the contracts, the paper loads."""

from __future__ import annotations

import importlib
import re
import textwrap
from pathlib import Path

import pytest

from lightning_regs.study import load_paper
from lightning_regs.testing import check_regularizer
from lightning_regs.testing.modules import DICT, OURS

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
METHOD, PAPER = map(textwrap.dedent, re.findall(r"^ +```python\n(.*?)^ +```", PAGE, flags=re.S | re.M))


@pytest.mark.slow
def test_the_method_keeps_the_contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sign_noise_of_the_page.py").write_text(METHOD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("sign_noise_of_the_page").SignNoise
    assert check_regularizer(method, [DICT, OURS], processes=False, pairs=False)


def test_the_paper_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "reproductions" / "smith2030"
    folder.mkdir(parents=True)
    (folder / "paper.py").write_text(PAPER, encoding="utf-8")
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path))
    (scale,) = load_paper("smith2030").scales
    assert [cell.name for cell in scale.cells] == ["digits/8", "digits/128"]
