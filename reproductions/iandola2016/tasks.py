"""The task of a cell: what nets of the released shapes take and compute, with weights that are drawn."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from han2016.tasks import pruned
from torch.utils.flop_counter import FlopCounterMode

from lightning_regs.core.runs import RunContext
from lightning_regs.models import build, num_parameters
from lightning_regs.pruning import compress

# Shares of weights that the released compressed net has, by layer; the first glob counts.
DENSITY = {"features.10.expand3*": 0.305, "features.12.expand3*": 0.305, "*expand3*": 0.33, "features.8.expand1*": 0.5,
           "features.9.squeeze*": 0.5, "features.10.expand1*": 0.5, "features.12.squeeze*": 0.5, "head*": 0.207,
           "features.0*": 0.985, "*": 0.99}  # fmt: skip
IMAGE, CLASSES, INDEX_BITS = (3, 227, 227), 1000, 4


def released(config: dict[str, Any], run: RunContext) -> dict[str, float]:
    """Compress SqueezeNet 1.0 with drawn weights at the densities of the released file, and count.

    Args:
        config: ``"bits"`` of a weight.
        run: The engine's.

    Returns:
        How many times as many parameters as SqueezeNet 1.0 an AlexNet has, ``fewer``, and how many times as many bytes
        as the compressed net, without Huffman code ``rate_quantized`` and with it ``rate_huffman``; ``gain`` of both,
        as many times as SqueezeNet itself, and ``megabytes``; ``flops``, how many times as many operations as 1.1 it
        takes an image, and ``gflops`` of it.
    """
    torch.manual_seed(run.seed)
    net = build("squeezenet", IMAGE, CLASSES, version="1.0")
    with torch.device("meta"):
        alexnet = num_parameters(torchvision.models.alexnet())
        work = [_flops(version) for version in ("1.0", "1.1")]
    net.load_state_dict(pruned(net, DENSITY).apply(net.state_dict()))
    stages = compress(net, run.folder / "net.compressed", config["bits"], INDEX_BITS).stages
    found = {"fewer": alexnet / num_parameters(net), "flops": work[0] / work[1], "gflops": work[0] / 1e9}
    for stage in ("quantized", "huffman"):
        rate = 32 * alexnet / stages[stage]
        found |= {f"rate_{stage}": rate, f"gain_{stage}": rate / found["fewer"]}
        found |= {f"megabytes_{stage}": stages[stage] / 8e6}
    return found


def _flops(version: str) -> float:
    """Return the operations of the forward pass of one image, a multiplication and an addition as two."""
    with FlopCounterMode(display=False) as counter:
        build("squeezenet", IMAGE, CLASSES, version=version)(torch.empty(1, *IMAGE))
    return float(counter.get_total_flops())
