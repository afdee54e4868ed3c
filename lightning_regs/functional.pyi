# Written by `python tests/generated.py`: the names that type checkers cannot find by their place.
from lightning_regs.pruning.compact import compact as compact
from lightning_regs.pruning.gates import expected_l0 as expected_l0
from lightning_regs.pruning.gates import hard_concrete as hard_concrete
from lightning_regs.pruning.prune import prune as prune
from lightning_regs.regularizers.attacks import fgsm as fgsm
from lightning_regs.regularizers.attacks import pgd as pgd
from lightning_regs.regularizers.cutmix import cutmix as cutmix
from lightning_regs.regularizers.cutmix import cutmix_box as cutmix_box
from lightning_regs.regularizers.cutout import cutout as cutout
from lightning_regs.regularizers.gradient_penalty import gradient_penalty as gradient_penalty
from lightning_regs.regularizers.label_smoothing import label_smoothing as label_smoothing
from lightning_regs.regularizers.max_norm import max_norm as max_norm
from lightning_regs.regularizers.mixup import mixup as mixup
from lightning_regs.regularizers.norm_penalty import norm_penalty as norm_penalty
from lightning_regs.regularizers.parts.targets import MixedTarget as MixedTarget
from lightning_regs.regularizers.parts.targets import mix_targets as mix_targets
from lightning_regs.regularizers.synthetic_gradients import synthetic_gradient as synthetic_gradient
from lightning_regs.regularizers.weight_mask import zero_pruned as zero_pruned

__all__: list[str]
