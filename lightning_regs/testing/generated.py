"""The files that say which methods there are, written by ``python -m lightning_regs.testing.generated``."""

from __future__ import annotations

from pathlib import Path

import lightning_regs
from lightning_regs import analysis, data, functional
from lightning_regs.core import registry

RENEW = "python -m lightning_regs.testing.generated"


def generated() -> dict[Path, str]:
    """Return each generated file of the checkout, and what it has to hold."""
    root = Path(lightning_regs.__file__).parent
    head = f"# Written by `{RENEW}`: the names that type checkers cannot find by their place.\n"
    listed = "\n__all__: list[str]\n"
    public = head + registry.stub(vars(lightning_regs)["_PUBLIC"]) + "\n__version__: str" + listed
    return {
        root / "__init__.pyi": public,
        root / "functional.pyi": head + registry.stub(vars(functional)["_PUBLIC"]) + listed,
        root / "analysis" / "__init__.pyi": head + registry.stub(vars(analysis)["_PUBLIC"]) + listed,
        root / "data" / "__init__.pyi": head + registry.stub(vars(data)["_PUBLIC"]) + listed,
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
