import sys

import pytest

from lightning_regs.study.run.planning import prepare_data


def test_a_data_set_that_is_nowhere_is_named_once_before_any_run(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_REGS_DOWNLOAD", "0")
    training = {"data": {"source": "cifar10", "root": str(tmp_path)}}
    with pytest.raises(FileNotFoundError, match=r"'cifar10' not found. Looked for .*cifar10\.npz"):
        prepare_data([{"steps": 3}, {"data": {"source": "digits"}}, training])
    monkeypatch.setenv("LIGHTNING_REGS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="'mnist' not found"):
        prepare_data([{"source": "mnist", "n_train": 10}])


def test_an_unknown_data_set_is_named():
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        prepare_data([{"data": {"source": "cifr10"}}])


def test_configurations_without_data_are_let_through(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_regs.data.sources", None)  # importing it would fail
    prepare_data([{"steps": 3}, {"data": 7}, {}])
