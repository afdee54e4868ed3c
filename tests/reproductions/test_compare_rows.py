from __future__ import annotations

from pathlib import Path

import pytest
from compare_rows import main

HEAD = "paper,scale,cell,seed,test_acc,wall_s,config_hash\n"


def test_rows_are_compared_number_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    Path(files[0]).write_text(f"{HEAD}p,quick,a,0,50.0,1.5,x\np,quick,a,1,60.0,1.5,y\np,quick,b,0,70.0,1.5,z\n")
    Path(files[1]).write_text(f"{HEAD}p,quick,a,0,50.0,2.5,x\np,quick,a,1,75.0,1.5,y\n")
    assert main(files) == 1
    text = capsys.readouterr().out
    assert "a: 1 of 2 rows are the same; test_acc 2.0e-01" in text
    assert "1 rows are in the first file alone" in text
    assert main([files[0], files[0]]) == 0
