"""`make gpu`: what a card makes of this code, in under four minutes and without a network.

Runs the device tests, times steps by hand, as one CUDA graph and by our stack, methods and replicas, and runs cells of
a `paper` scale; what the time does not reach is named. The report has the card's name, and is meant to be committed.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from recipes import SGD, EpochTimer, by_hand, whitened, write_images

import lightning_regs
from lightning_regs import Classifier, CutMix, Cutout, GradientPenalty, ImageDataModule, LabelSmoothing, Mixup

ROOT = Path(__file__).parents[2]
Net = tuple[str, dict[str, Any]]
NETS: dict[str, Net] = {
    "MLP 1x512": ("mlp", {"hidden": [512]}),
    "small AlexNet": ("small_alexnet", {}),
    "small Inception": ("small_inception", {}),
}
PRECISIONS = ("32-true", "bf16-mixed")
ADAM = {"name": "Adam", "lr": 1.2e-3, "fused": True}
SUITE = tuple(
    f"tests/{room}"
    for room in ("contracts", "models", "training", "regularizers", "analysis", "init", "layers", "optim", "pruning")
)
CELLS = ("theory/theorem1", "theory/min-norm")


def ours(
    path: Path, batch: int, device: str, net: Net, precision: str, methods: Sequence[Any] = (), **options: Any
) -> float:
    """Return the seconds of a step of Trainer, Classifier and ImageDataModule: the fastest epoch after the first."""
    replicas = options.get("replicas")
    data = ImageDataModule(str(path), image_size=28, batch_size=batch, replicas=replicas)
    module = Classifier(*net, **({"optimizer": SGD} | options), regularizers=list(methods))
    timer = EpochTimer()
    trainer = pl.Trainer(
        max_epochs=3, precision=precision, accelerator=device, devices=1, logger=False, callbacks=[timer],
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return min(timer.seconds[1:]) / trainer.num_training_batches


def hand(path: Path, batch: int, device: str, net: Net, precision: str, graph: bool = False) -> float:
    """Return the seconds of a step of a plain loop, or of its replay as one CUDA graph."""
    images = len(whitened(path)[1])
    steps = images // batch if graph else math.ceil(images / batch)
    return by_hand(path, *net, precision, device, graph, batch) / steps


class Report:
    """What was measured, or why not, within the time."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.lines: list[str] = []

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def microseconds(self, measure: Callable[[], float] | None) -> str:
        """Return microseconds a step as text, or in a word why there are none."""
        if measure is None:
            return "not here"
        if self.left < 5:
            return "no time"
        try:
            return f"{1e6 * measure():.0f}"
        except Exception as error:  # one figure that fails is a finding, and the others are wanted
            self.say(f"\n`{type(error).__name__}: {' '.join(str(error).split())[:300]}`\n")
            return "failed"

    def command(self, *arguments: str, seconds: float, **environment: str) -> str:
        """Run a command; return whether it ended well, its last line if not or if it is pytest's, and how long."""
        limit, start = max(1.0, min(seconds, self.left)), time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-m", *arguments], cwd=ROOT, env=os.environ | environment, timeout=limit, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        lines = ["nothing was said", *(line for line in done.stdout.splitlines() if line.strip())]
        told = lines[-1].strip("= ") if done.returncode or arguments[0] == "pytest" else "complete"
        return f"{told} ({time.monotonic() - start:.0f} s)"


def steps(report: Report, path: Path, batch: int, device: str, compiled: bool) -> Iterator[str]:
    """Yield the table of steps by hand and by us."""
    yield "| net | precision | by hand | as one graph | ours | ours, captured | ours, compiled |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for name, net in NETS.items():
        for precision in PRECISIONS:
            plain, own = (partial(way, path, batch, device, net, precision) for way in (hand, ours))
            ways: list[Callable[[], float] | None] = [plain, None, own, partial(own, cuda_graph=True), None]
            if device == "cuda":
                ways[1] = partial(plain, graph=True)
                if compiled and name != "small Inception":  # which would keep the compiler busy for half of the time
                    ways[4] = partial(own, compile="reduce-overhead")
            yield f"| {name} | {precision} | {' | '.join(report.microseconds(way) for way in ways)} |"


def extras(report: Report, path: Path, batch: int, device: str) -> Iterator[str]:
    """Yield the table of methods and of replicas."""
    yield "| ours | µs a step |"
    yield "| --- | ---: |"
    precision = PRECISIONS[device == "cuda"]
    alexnet = partial(ours, path, batch, device, NETS["small AlexNet"], precision)
    for method in (Mixup(), CutMix(), Cutout(length=8), LabelSmoothing(0.1), GradientPenalty(0.1)):
        found = report.microseconds(partial(alexnet, [method]))
        yield f"| small AlexNet, {precision}, {type(method).__name__} | {found} |"
    lenet = partial(ours, path, batch, device, ("mlp", {"hidden": [300, 100]}), "32-true", optimizer=ADAM)
    for replicas in (None, 20, 100):
        for how, options in (("", {}), (", captured", {"cuda_graph": True})):
            found = report.microseconds(partial(lenet, replicas=replicas, **options))
            yield f"| LeNet-300-100, {replicas or 1} at once{how} | {found} |"


def main(argv: list[str]) -> int:
    """Write the report; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="make gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: try the command itself")
    parser.add_argument("--images", type=int, default=12_800, help="in an epoch")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--suite", nargs="*", default=SUITE, help="which tests; none: no tests")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True, help="also compiled nets")
    parser.add_argument("--seconds", type=float, default=220, help="time for all of it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "devices", help="folder of the report")
    given = parser.parse_args(argv)
    if given.device == "cuda" and not torch.cuda.is_available():
        print(
            f"make gpu measures a CUDA card, and torch {torch.__version__} finds none on this machine; run it where "
            "nvidia-smi lists one, or try the command itself with `make gpu DEVICE=cpu`."
        )
        return 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return measure(given)


def measure(given: argparse.Namespace) -> int:
    """Measure, and write the report."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    card = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    report = Report(given.seconds)
    report.say(f"# {card}\n")
    report.say(
        f"Written by `make gpu`: lightning-regs {lightning_regs.__version__}, torch {torch.__version__}, Lightning "
        f"{pl.__version__}, {os.cpu_count()} cores; microseconds a step at batch {given.batch}.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write_images(Path(folder), given.images)
        for part in (partial(steps, compiled=given.compiled), extras):
            for line in part(report, path, given.batch, given.device):
                report.say(line)
            report.say("")
        cells = (word for cell in CELLS for word in ("--cells", cell))
        store = ("--runs", folder, "--page", str(Path(folder) / "page"), "--wandb", "off")
        told = report.command(
            "lightning_regs", "reproduce", "zhang2017", "--scale", "paper", *cells, *store, seconds=30
        )
        report.say(f"- zhang2017, `paper`, {' and '.join(CELLS)}: {told}")
        if not given.suite:
            return write(report, given.out, card)
        processes = f"-n{min(8, os.cpu_count() or 1)}" if given.device == "cuda" else "-n0"
        options = ("-q", processes, "-p", "no:cacheprovider", *given.suite)
        told = report.command("pytest", *options, seconds=120, LIGHTNING_REGS_TEST_DEVICE=given.device)
        report.say(f"- device tests, {', '.join(given.suite)}: {told}")
    return write(report, given.out, card)


def write(report: Report, folder: Path, card: str) -> int:
    """Write the report under the card's name; returns the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{'-'.join(card.split())}.md"
    target.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
