"""Data of your own, by YAML: fit, test and predict with the command line.

The data are four arrays in an .npz file: ``x_train``, ``y_train``, ``x_test``, ``y_test``; images as bytes (N, H, W) or
(N, H, W, C), or signals as floats (N, L), labels as whole numbers from 0. Run it:
``python examples/own_data/own_data.py [FOLDER]``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split


def write(file: Path) -> None:
    """Write scikit-learn's flowers as an .npz file of signals of length 4."""
    x, y = load_iris(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=50, random_state=0, stratify=y)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def main(folder: Path) -> str:
    """Fit, test and predict in a folder; return what the test printed."""
    write(folder / "flowers.npz")
    config = Path(__file__).with_name("config.yaml").resolve()
    said = {}
    for name in ("fit", "test", "predict"):
        checkpoint = [word for file in folder.rglob("*.ckpt") for word in ("--ckpt_path", str(file))]
        command = [sys.executable, "-m", "lightning_regs", name, "--config", str(config), *checkpoint]
        said[name] = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return said["test"]


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp())))
