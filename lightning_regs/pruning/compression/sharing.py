"""Weight sharing: the weights of a layer take few values, which are found by k-means and trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_regs.core.checks import Range, checked
from lightning_regs.core.names import check_glob, uncompiled
from lightning_regs.pruning.layers import matches, prunable

Bits = Annotated[int, Range(1, 8)]
LayerBits = Bits | Mapping[str, Bits]
Start = Literal["linear", "density", "random"]
_ROUNDS = 1000  # of k-means, which on a line ends long before


@torch.no_grad()
def cluster(values: Tensor, clusters: int, start: Start = "linear", generator: torch.Generator | None = None) -> Tensor:
    """Return the cluster of each number (M,), int64 from 0 by the size of centroids, by k-means in float64 on the CPU.

    Lloyd's rounds go on until nothing changes. Sorted, a cluster is an interval, so that a round costs no more than a
    search of its borders. A cluster that is empty stays where it is. More clusters than numbers, and numbers that are
    not finite, are a ``ValueError``.
    """
    if clusters > len(values):
        raise ValueError(
            f"{clusters} clusters cannot be made of {len(values)} weights; use fewer bits, or prune less of them."
        )
    if not values.isfinite().all():
        raise ValueError("k-means takes finite numbers, and some are NaN or infinite; did the training diverge?")
    own = values.cpu().double()
    line = own.sort().values
    if start == "linear":
        centroids = torch.linspace(float(line[0]), float(line[-1]), clusters, dtype=torch.float64)
    elif start == "density":
        centroids = line[torch.linspace(0, len(line) - 1, clusters).round().long()]
    else:
        centroids = line[torch.randperm(len(line), generator=generator)[:clusters].sort().values]
    sums = torch.cat([line.new_zeros(1), line.cumsum(0)])
    ends = torch.tensor([len(line)])
    for _ in range(_ROUNDS):
        borders = (centroids[1:] + centroids[:-1]) / 2
        edges = torch.cat([ends * 0, torch.searchsorted(line, borders), ends])
        sizes = edges.diff()
        means = torch.where(sizes > 0, sums[edges].diff() / sizes.clamp(min=1), centroids)
        if torch.equal(means, centroids):
            break
        centroids = means
    return torch.bucketize(own, borders)


class SharedWeight(nn.Module):
    """The parametrization of a weight by its codebook, of ``size`` K; ``index`` is 0 for zero, else an entry from 1.

    The gradient of an entry is the sum of those of the weights that share it (section 3.3 of 1510.00149).
    """

    index: Tensor

    def __init__(self, index: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.size = size

    def forward(self, codebook: Tensor) -> Tensor:
        """Map the codebook (K,) to the weight."""
        table = torch.cat([codebook.new_zeros(1), codebook])
        return table.gather(0, self.index.view(-1)).view(self.index.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Map a weight to the codebook of its means; what no weight has is 0."""
        index, size = self.index.view(-1), self.size + 1
        sums = torch.bincount(index, weight.detach().double().view(-1), size)
        means = sums / torch.bincount(index, minlength=size).clamp(min=1)
        return means[1:].to(weight)


@checked
def share_weights(
    module: nn.Module,
    bits: LayerBits = 5,
    start: Start = "linear",
    generator: torch.Generator | None = None,
) -> None:
    r"""Let the weights of each layer share :math:`2^b - 1` values, found by k-means and trained from then on.

    Trained quantization of Han, Mao & Dally, "Deep Compression" (1510.00149), section 3. Weights that are zero are
    pruned, and stay zero, which is the last of the :math:`2^b` values: the file of
    :func:`~lightning_regs.pruning.compress` has zeros between weights that are far apart. The others are parametrized
    (``torch.nn.utils.parametrize``) by their layer's codebook, in any module: make the optimizer, or start the Trainer,
    afterwards, and train with a small rate.

    Does not help: layers of few weights, whose codebooks are as large; below 4 bits for convolutions.

    Does not compose with: pruning and weight masks in the training that follows, which find no weights.

    Args:
        module: A network, or the LightningModule around it, pruned or not; changed in place. Its linear and
            convolutional layers are what shares, see :func:`~lightning_regs.pruning.prunable`.
        bits: b, 1 to 8; or a glob of parameter or module names -> b, the first that matches counts, and what none
            matches is left alone: ``{"*features*": 8, "*": 5}``.
        start: Where centroids start: ``"linear"``, evenly between the least and the greatest weight, which is what the
            paper advises, as large weights are few and matter; ``"density"``, at quantiles; or ``"random"``, at weights
            that are drawn.
        generator: What draws them, on the CPU; default: torch's own.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a layer has fewer weights that are not zero than values to share, a weight that is no finite
            number, or one that other layers have too; a glob matches nothing; or as
            :func:`~lightning_regs.pruning.prunable`.
    """
    weights, named = prunable(module), dict(bits) if isinstance(bits, Mapping) else {"*": bits}
    for glob in named:
        check_glob(glob, list(weights), "prunable weights", matches)
    owners = [p for part in module.modules() for p in part._parameters.values() if p is not None]
    made: dict[str, SharedWeight] = {}
    for name, weight in weights.items():
        own = next((value for glob, value in named.items() if matches(name, glob)), None)
        if own is None:
            continue
        if sum(weight is p for p in owners) > 1:
            raise ValueError(f"{name!r} is the weight of several layers, which cannot share values; leave it out.")
        index = torch.zeros(weight.shape, dtype=torch.int64, device=weight.device)
        try:
            found = cluster(weight.detach()[weight != 0], 2**own - 1, start, generator)
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from None
        index[weight != 0] = found.to(index.device) + 1
        made[name] = SharedWeight(index, 2**own - 1)
    for name, shared in made.items():
        parametrize.register_parametrization(module.get_submodule(name.rpartition(".")[0]), "weight", shared)


def shared_weights(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the codebook (K,) and the index of each weight that shares values, by its name without parametrization."""
    found = {}
    for name, part in module.named_modules():
        if isinstance(part, parametrize.ParametrizationList) and isinstance(part[0], SharedWeight):
            own = uncompiled(name.replace("parametrizations.", ""))
            found[own] = part.original.detach(), part[0].index
    return found
