"""Damage within an interrupted level is seen, and never trained on."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ticket_cases import Kill, Killed, LitNet, all_weights, assert_same, search

from lightning_regs.core.lightning import pl
from lightning_regs.procedures.tickets import Tickets


def run(folder: Path, callbacks: Any = lambda name: [Kill(name)], **options: Any) -> Tickets:
    options = {"levels": 1, "rewind_to": "2it", "controls": ["reinitialise"], **options}
    return search(folder, lambda seed: LitNet(seed, dropout=0.2), callbacks=callbacks, **options)


def interrupt(monkeypatch: pytest.MonkeyPatch, folder: Path, level: str, **options: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Kill, "at", (level, 10))
        with pytest.raises(Killed):
            run(folder, **options)
    assert (folder / level / "last.ckpt").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tickets:
    """A search that nothing happened to."""
    return run(tmp_path_factory.mktemp("whole"))


def damage_values(path: Path) -> None:
    """Flip a byte of the largest tensor, so that torch reads it without complaint."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as file:
        largest = max((part for part in file.infolist() if "/data/" in part.filename), key=lambda part: part.file_size)
        values = file.read(largest)
    start = bytes(content).index(values, largest.header_offset)
    content[start] ^= 0x01
    path.write_bytes(content)
    torch.load(path, weights_only=True)


def damage_pickle(path: Path) -> None:
    content = path.read_bytes()
    start = content.index(b"cOrderedDict" if b"cOrderedDict" in content else b"torch._utils")
    path.write_bytes(content[:start] + b"c0rrupted__" + content[start + 11 :])


@pytest.mark.parametrize(
    ("level", "file", "damage"),
    [
        ("level_00", "last.ckpt", damage_values),
        ("level_00", "level.pt", damage_values),
        ("level_00", "level.pt", Path.unlink),
        ("level_00", "rewind.ckpt", damage_values),
        ("level_00", "rewind.ckpt", Path.unlink),
        ("level_01", "last.ckpt", damage_values),
        ("level_01", "last.ckpt", damage_pickle),
        ("level_01", "level.pt", damage_values),
        ("level_01-reinitialise-1", "level.pt", damage_values),
    ],
)
@pytest.mark.slow
def test_damage_in_an_interrupted_level(
    level: str, file: str, damage: Any, whole: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, tmp_path / "damaged", level)
    damage(tmp_path / "damaged" / level / file)
    with pytest.warns(
        UserWarning, match=rf"{level}/(last.ckpt|{file}) is damaged \(.*; the level starts over"
    ) as caught:
        again = run(tmp_path / "damaged")
    assert Path(next(w for w in caught if "starts over" in str(w.message)).filename).name == "ticket_cases.py"
    assert_same(all_weights(again), all_weights(whole))
    assert [one.density for one in again] == [one.density for one in whole]


@pytest.mark.slow
def test_an_intact_level_goes_on_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    interrupt(monkeypatch, tmp_path, "level_01")
    run(tmp_path)
    assert not [w for w in recwarn if "starts over" in str(w.message) or "redone" in str(w.message)]


@pytest.mark.parametrize("file", ["level_00/last.ckpt", "level_01/level.pt", "level_00/rewind.ckpt"])
@pytest.mark.slow
def test_whole_files_of_another_level_are_not_gone_on_from(
    file: str, whole: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of the same nets, and of another seed."""
    for name, seed in (("one", None), ("other", 1)):
        interrupt(monkeypatch, tmp_path / name, file.partition("/")[0], seed=seed)
    shutil.copy(tmp_path / "other" / file, tmp_path / "one" / file)
    with pytest.warns(UserWarning, match=rf"{file} is damaged \(it is of another (level|training)\); the"):
        again = run(tmp_path / "one")
    assert_same(all_weights(again), all_weights(whole))


@pytest.mark.slow
def test_a_state_that_is_not_plain_is_no_damage_but_the_level_can_start_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Kill):
        def state_dict(self) -> dict[str, Any]:
            return {"odd": np.float64(1)}

    def odd(name: str) -> list[pl.Callback]:
        return [Odd(name)]

    whole = run(tmp_path / "whole", rewind_to="0it", callbacks=odd)
    interrupt(monkeypatch, tmp_path / "odd", "level_00", rewind_to="0it", callbacks=odd)
    # Otherwise a search would be stuck whose callback was put right.
    with pytest.warns(UserWarning, match=r"last.ckpt holds more than tensors and plain types.*; the level starts over"):
        again = run(tmp_path / "odd", rewind_to="0it", callbacks=odd)
    assert_same(all_weights(again), all_weights(whole))
