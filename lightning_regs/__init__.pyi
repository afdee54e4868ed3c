# Written by `python tests/generated.py`: the names that type checkers cannot find by their place.
from lightning_regs.data import ImageDataModule as ImageDataModule
from lightning_regs.init.initialization import Initialization as Initialization
from lightning_regs.layers import InformationPenalty as InformationPenalty
from lightning_regs.procedures.agnostic.find_topology import find_topology as find_topology
from lightning_regs.procedures.agnostic.weight_agnostic_net import WeightAgnosticNet as WeightAgnosticNet
from lightning_regs.procedures.diagnosis.diagnose import diagnose as diagnose
from lightning_regs.procedures.range_test.range_test import range_test as range_test
from lightning_regs.procedures.snapshots.ensemble import load_ensemble as load_ensemble
from lightning_regs.procedures.snapshots.snapshot_ensemble import SnapshotEnsemble as SnapshotEnsemble
from lightning_regs.procedures.snapshots.snapshot_ensemble import train_snapshots as train_snapshots
from lightning_regs.procedures.stopping.retrain import retrain as retrain
from lightning_regs.procedures.stopping.stop_when import StopWhen as StopWhen
from lightning_regs.procedures.tickets import find_ticket as find_ticket
from lightning_regs.pruning import Mask as Mask
from lightning_regs.pruning import Pruning as Pruning
from lightning_regs.pruning import add_supermask as add_supermask
from lightning_regs.regularizers.adversarial_training import AdversarialTraining as AdversarialTraining
from lightning_regs.regularizers.base import Regularizer as Regularizer
from lightning_regs.regularizers.cutmix import CutMix as CutMix
from lightning_regs.regularizers.cutout import Cutout as Cutout
from lightning_regs.regularizers.gradient_penalty import GradientPenalty as GradientPenalty
from lightning_regs.regularizers.l0 import L0 as L0
from lightning_regs.regularizers.label_smoothing import LabelSmoothing as LabelSmoothing
from lightning_regs.regularizers.max_norm import MaxNorm as MaxNorm
from lightning_regs.regularizers.mixup import Mixup as Mixup
from lightning_regs.regularizers.norm_penalty import NormPenalty as NormPenalty
from lightning_regs.regularizers.synthetic_gradients import SyntheticGradients as SyntheticGradients
from lightning_regs.regularizers.weight_mask import WeightMask as WeightMask
from lightning_regs.training.classifier import Classifier as Classifier

__all__: list[str]
__version__: str
