# Written by `python tests/generated.py`: the names that type checkers cannot find by their place.
from lightning_regs.layers.drop_connect import DropConnect as DropConnect
from lightning_regs.layers.gaussian_dropout import GaussianDropout as GaussianDropout
from lightning_regs.layers.ghost_batch_norm import GhostBatchNorm as GhostBatchNorm
from lightning_regs.layers.information_dropout import InformationDropout as InformationDropout
from lightning_regs.layers.information_penalty import InformationPenalty as InformationPenalty
from lightning_regs.layers.maxout import Maxout as Maxout
from lightning_regs.layers.mean_only_batch_norm import MeanOnlyBatchNorm as MeanOnlyBatchNorm
from lightning_regs.layers.monte_carlo import monte_carlo as monte_carlo
from lightning_regs.layers.replace import layer_replacements as layer_replacements
from lightning_regs.layers.replace import replace_layers as replace_layers
from lightning_regs.layers.update_batch_norm import update_batch_norm as update_batch_norm

__all__: list[str]
