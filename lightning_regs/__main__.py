"""``python -m lightning_regs``: the command ``lightning-regs``."""

from __future__ import annotations

import sys

from lightning_regs.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
