"""Methods are found by their place, and type checkers are told."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest
from generated import RENEW, generated

import lightning_regs
from lightning_regs import Regularizer, analysis, data, functional, layers, study
from lightning_regs.core import registry


def test_a_file_of_its_name_is_what_a_method_needs() -> None:
    methods = registry.subclasses("lightning_regs.regularizers", Regularizer)
    assert set(methods) == set(registry.classes("lightning_regs.regularizers"))
    assert {"CutMix", "GradientPenalty", "MaxNorm"} <= set(methods) <= set(lightning_regs.__all__)
    assert {"cutmix", "cutmix_box", "gradient_penalty", "max_norm", "fgsm", "prune"} <= set(functional.__all__)
    for name, cls in methods.items():
        assert getattr(lightning_regs, name) is cls


def test_every_public_name_can_be_imported() -> None:
    for module in (lightning_regs, functional):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="has no attribute 'Mixed'"):
            module.Mixed  # noqa: B018


@pytest.mark.parametrize("package", [analysis, data, layers, study])
def test_a_function_keeps_its_name_where_the_module_of_that_name_is_imported(package) -> None:
    for name in package.__all__:
        module = getattr(getattr(package, name), "__module__", "")
        if module == f"{package.__name__}.{name}":
            setattr(package, name, importlib.import_module(module))  # as the first import of it does
            assert callable(getattr(package, name)), name
    assert not isinstance(layers.monte_carlo, ModuleType)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import lightning_regs, lightning_regs.functional, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_generated_files_are_the_committed_ones() -> None:
    stale = [path.name for path, text in generated().items() if path.read_text() != text]
    assert not stale, f"renew them with: {RENEW}"
