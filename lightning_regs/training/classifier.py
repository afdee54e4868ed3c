"""The LightningModule that wraps any architecture for classification."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, cast

import torch
from torch import Tensor, nn

from lightning_regs.core.batch import notes
from lightning_regs.core.checks import Count, Seed, check_arguments, check_seeds, nonempty
from lightning_regs.core.lightning import MisconfigurationException, is_compiled, pl, warn_if_other_came_later
from lightning_regs.core.names import unknown_name
from lightning_regs.core.rng import derive_seed, replica_seeds, run_seed
from lightning_regs.layers import layer_replacements, replace_layers
from lightning_regs.models import build
from lightning_regs.optim import Lookahead, SlowWeights, check_optimization, make_optimizer, make_schedules
from lightning_regs.optim.length import times_of, warn_of_other_times
from lightning_regs.regularizers import Regularizer
from lightning_regs.regularizers.base import conflicts, regularizers_of
from lightning_regs.training.captured import check_captured
from lightning_regs.training.lean import hears, run_lean
from lightning_regs.training.losses import LOSSES, check_labels, labels_for, losses_of_replicas
from lightning_regs.training.metrics import ClassificationMetrics, log_stage
from lightning_regs.training.replicas import Replicated, check_replicas, clip_replica_norms, mixes
from lightning_regs.training.saved import KeepsMethods, check_architecture
from lightning_regs.training.steps import ALL, Batch, Step, step_of


class Classifier(KeepsMethods):
    """Trains any classification network, by name or as an object.

    The network is built when the Trainer starts, from the DataModule's ``input_shape`` and ``num_classes``, with
    initial weights that depend on ``seed`` alone. Each epoch reseeds torch's global generator from (seed, epoch, rank),
    so dropout after a resume at an epoch's end equals that of the uninterrupted run. Logs ``train/``,
    ``val/`` and ``test/`` ``loss`` and ``acc`` (percent) once an epoch, and ``acc_clean`` and ``acc_corrupted`` where
    the DataModule has corrupted labels; of mixed targets ``train/acc_heavier``, against the heavier label, and of
    probabilities as labels ``acc`` against the likeliest. ``predict`` returns logits ``(N, K)``.
    A :class:`~lightning_regs.GradientPenalty` among the methods turns on manual optimization.
    ``load_from_checkpoint`` makes the methods again, and wants a network that was given as an object once more.

    With ``replicas`` it trains R small nets at once, see :class:`~lightning_regs.training.replicas.Replicated`:
    parameters are ``(R, ...)`` under the names of a single net's, batches ``[x, y]`` of shapes ``(R, N, ...)`` and
    ``(R, N)`` in training, and the same or ``(N, ...)`` and ``(N,)``, for all of them, in evaluation. Each net has the
    initial weights of a run with its seed; the optimizer, which has to treat every number on its own, is shared, and
    gradients are clipped a replica at a time. Logged are means, and each replica's value as ``val/acc/I``, I from 0.

    Attributes:
        results: Stage (``"train"``, ``"val"``, ``"test"``) -> what was last logged for it, in full precision.
        replicas, weight_seeds: Seeds of the replicas, None for a single net; seeds of the initial weights, one a net.
        replica_results: As ``results``, with a list of one entry a replica.

    Args:
        architecture: A name from ``lightning_regs.models.MODELS``, or a module that maps ``(N, *input_shape)`` to
            logits ``(N, K)``.
        architecture_args: Options of a named architecture, for example ``{"hidden": [512, 512]}``.
        optimizer: Name and arguments of a class of ``torch.optim`` or of ours; default SGD, lr 0.01, momentum 0.9.
            :func:`~lightning_regs.optim.make_optimizer` says more, of groups of parameters and numbers of replicas.
        schedule: Name and arguments of a learning-rate schedule of torch or of ours, ``interval`` (``"epoch"`` or
            ``"step"``), and a linear ``warmup``, with times as ``"500it"`` or ``"2ep"``; or a list of such, one after
            another, see :func:`~lightning_regs.optim.make_schedules`; default none.
        loss: ``"cross_entropy"`` or ``"squared_error"`` (on one-hot targets).
        regularizers: Methods that act during training, in this order.
        input_shape: ``(C, H, W)`` or ``(L,)``; default: the DataModule's.
        num_classes: ``K``; default: the DataModule's.
        channels_last: Whether images reach the network in that memory format; default: where it convolves.
        seed: Default: what ``seed_everything`` was given, else 0.
        replicas: Number of nets, for seeds from ``seed`` on, or a list of their seeds; None for a single net. An
            architecture that is an object has to be a :class:`~lightning_regs.training.replicas.Replicated`.
        seeds: Seeds of ``weights`` and ``order`` (here dropout) apart from ``seed``, as the DataModule takes them.
        layers: Other layers for the network, once it is built: ``{"replace": "ReLU", "by": "LeakyReLU"}`` or
            ``{"after": "ReLU", "add": "Dropout", "p": 0.5}``, in this order; see :mod:`lightning_regs.layers`.
        compile: Whether ``torch.compile`` makes kernels for the network, or its mode: ``"reduce-overhead"`` for graphs.
        cuda_graph: Whether the whole training step (forward, loss, backward, clipping, optimizer, metrics) is captured
            as a CUDA graph and replayed, where a batch, a learning rate and all else are as before; a step of a small
            net takes a fraction of the time. Nothing in it may be decided in Python, in the network's ``forward``
            neither; what we can see to be is refused by name when training starts. On a CPU nothing is captured.

    Raises:
        ValueError: At construction, for an unknown architecture, option, optimizer, schedule or loss, or an argument
            outside its range; for replicas with an optimizer or a method that would mix them.
        MisconfigurationException: When the Trainer starts, if the shape of the data is known from nowhere, or the
            DataModule's differs from the one given.
    """

    network: nn.Module | None

    def __init__(
        self,
        architecture: str | nn.Module = "mlp",
        architecture_args: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | list[dict[str, Any]] | None = None,
        loss: str = "cross_entropy",
        regularizers: list[Regularizer] | None = None,
        input_shape: Annotated[tuple[Count, ...], nonempty] | None = None,
        num_classes: Count | None = None,
        channels_last: bool | None = None,
        seed: Seed | None = None,
        replicas: Count | Sequence[Seed] | None = None,
        layers: list[dict[str, Any]] | None = None,
        seeds: dict[str, int] | None = None,
        compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False,
        cuda_graph: bool = False,
    ) -> None:
        given = check_arguments(Classifier.__init__, locals())
        # Numbers that stand for plain ones, which a checkpoint may hold.
        input_shape, num_classes, seed = given["input_shape"], given["num_classes"], run_seed(given["seed"])
        replicas, channels_last = given["replicas"], given["channels_last"]
        super().__init__()
        warn_if_other_came_later()
        optimizer = dict(optimizer or {"name": "SGD", "lr": 0.01, "momentum": 0.9})
        if loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES)
        check_architecture(architecture, architecture_args)
        self.replicas = replica_seeds(replicas, seed)
        probe = check_optimization(optimizer, schedule, len(self.replicas or ()) or None)
        self._evaluation = [SlowWeights()] if isinstance(probe, Lookahead) else []
        check_replicas(self.replicas, architecture, optimizer, regularizers or [])
        self._layers, self._apart = layer_replacements(layers or []), check_seeds(seeds)
        self.weight_seeds = [self._apart.get("weights", number) for number in self.replicas or [seed]]
        if cuda_graph and compile in ("reduce-overhead", "max-autotune"):
            raise ValueError(f"compile={compile!r} makes graphs of its own; leave cuda_graph out, or use compile=True.")
        # What a checkpoint holds of arguments that were not given stays as it was.
        absent = [name for name in ("layers", "seeds", "compile", "cuda_graph") if not given[name]]
        self.save_hyperparameters(ignore=["architecture", "regularizers", *absent])
        self.architecture_name: str | None = architecture if isinstance(architecture, str) else None
        self.hparams["architecture"] = self.architecture_name or type(architecture).__name__
        self.architecture_args = dict(architecture_args or {})
        self.network = None if isinstance(architecture, str) else self._with_layers(architecture)
        self.optimizer_config, self.schedule_config = optimizer, schedule
        self.loss = LOSSES[loss]
        self.regularizers, self._methods_given = list(regularizers or []), regularizers is not None
        for reason in conflicts(self.regularizers):
            raise ValueError(reason)
        self.input_shape, self.num_classes = input_shape and tuple(input_shape), num_classes
        self.channels_last, self.seed, self._compile, self.cuda_graph = channels_last, seed, compile, cuda_graph
        self.results: dict[str, dict[str, float]] = {}
        self.replica_results: dict[str, list[dict[str, float]]] = {}
        self._step, self._planned, self._checked = Step(), list[dict[str, Any]](), set[str]()
        number = None if self.replicas is None else len(self.replicas)
        self.stages = nn.ModuleDict({stage: ClassificationMetrics(number) for stage in ("fit", "val", "test")})
        if self.network is None and self.input_shape and num_classes:
            self._build()

    def setup(self, stage: str) -> None:
        """Read the shape of the data from the DataModule, where it was not given."""
        self._checked.clear()
        data = getattr(self.trainer, "datamodule", None)
        if data is not None and hasattr(data, "replicas") and data.replicas != self.replicas:
            raise MisconfigurationException(
                f"the Classifier has replicas {self.replicas} and the DataModule {data.replicas}; give both the same."
            )
        for name in ("input_shape", "num_classes"):
            ours, theirs = getattr(self, name), getattr(data, name, None)
            if ours is None:
                setattr(self, name, theirs)
            elif theirs is not None and ours != theirs:
                raise MisconfigurationException(
                    f"the Classifier was made for {name} {ours}, the DataModule gives {theirs}; "
                    f"leave {name} out to take the DataModule's."
                )
            self.hparams[name] = getattr(self, name)

    def configure_model(self) -> None:
        """Build a named architecture, once the shape of the data is known, and compile the network."""
        if self.network is None:
            self.setup("fit")  # Lightning's averages of weights ask before it does
            self._build()
        assert self.network is not None
        if self._compile and not is_compiled(self.network):
            self.network.compile(mode=None if self._compile is True else self._compile)  # parameters keep their names
        if self.channels_last is None:
            self.channels_last = self.replicas is None and any(isinstance(m, nn.Conv2d) for m in self.network.modules())

    @property
    def driver(self) -> Regularizer | None:
        """The method that makes the gradient in its own way; none where Lightning optimizes by itself."""
        return self._step.driver

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches a step of manual optimization; 1 where the Trainer's flag decides."""
        return self._step.accumulate_grad_batches

    def _build(self) -> None:
        if self.input_shape is None or self.num_classes is None:
            raise MisconfigurationException(
                f"the Classifier cannot build {self.architecture_name!r}: neither input_shape and num_classes nor a "
                "DataModule that has them was given; pass Classifier(input_shape=(C, H, W), num_classes=K)."
            )
        assert self.architecture_name is not None
        networks = []
        for seed in self.weight_seeds:
            # On the CPU whatever Lightning's context says, so that a seed has one net.
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.manual_seed(derive_seed(seed, "initialisation"))
                net = build(self.architecture_name, self.input_shape, self.num_classes, **self.architecture_args)
                networks.append(self._with_layers(net))
        self.network = networks[0] if self.replicas is None else Replicated(networks)

    def _with_layers(self, network: nn.Module) -> nn.Module:
        if self._layers and isinstance(network, Replicated):
            raise ValueError("layers come before stacking: replace_layers(net, ...), then Replicated([net, ...]).")
        for replacement in self._layers:
            replace_layers(network, replacement)
        return network

    def configure_callbacks(self) -> list[pl.Callback]:
        """Hand the regularizers to the Trainer, and take over from it where one needs manual optimization."""
        ours = type(self).training_step is Classifier.training_step  # else it is a module like any other
        self._step = step_of([*self.regularizers, *regularizers_of(self.trainer)] if ours else [])
        if ours:
            self.automatic_optimization = self.driver is None
        for theirs in regularizers_of(self.trainer):
            if self.replicas is not None and (why := mixes(theirs, self.optimizer_config)):
                raise MisconfigurationException(why)
            if theirs not in self.regularizers and type(theirs) in map(type, self.regularizers):
                raise MisconfigurationException(
                    f"the Trainer and the Classifier each have a {type(theirs).__name__}, and Lightning keeps only the "
                    "Classifier's; give all methods to one of the two."
                )
        if self.trainer.state.fn == "fit":
            self._step.check(self.trainer)
            run_lean(self.trainer, self if ours else None)
        # After an earlier stage the Trainer has them, and Lightning would say that each overrides itself.
        had = self.trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in (*self.regularizers, *self._evaluation) if callback not in had]

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule from their configuration."""
        sparse = any(getattr(part, "sparse", False) for part in self.modules())
        optimizer = make_optimizer(self.named_parameters(), self.optimizer_config, sparse)
        if self.schedule_config is None:
            return optimizer
        made = make_schedules(optimizer, self.schedule_config, **self._step.length(self.trainer))
        self._planned = [times_of(config["scheduler"]) for config in made]
        return [optimizer], made

    def on_train_start(self) -> None:
        """Prepare captured steps, or refuse them."""
        check_captured(self.trainer, self, hears)
        warn_of_other_times([config.scheduler for config in self.trainer.lr_scheduler_configs], self._planned)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch ``(N, *input_shape)`` to logits ``(N, K)``; of replicas ``(R, N, ...)`` or ``(N, ...)`` too."""
        assert self.network is not None
        if isinstance(self.network, Replicated):
            assert self.input_shape is not None
            stacked: Tensor = self.network(x, x.ndim == len(self.input_shape) + 1, "order" not in self._apart)
            return stacked
        if self.channels_last and x.ndim == 4:
            # Not .contiguous(): it leaves a single-channel batch's strides as they are, and pooling 13 times slower.
            x = x.to(memory_format=torch.channels_last)
        logits: Tensor = self.network(x)
        return logits

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make the epoch's global randomness a function of (seed, epoch, rank)."""
        # Not at the epoch's start: a loader may draw its seed after that, and after a resume draws it before.
        if batch_idx == 0:
            seed = self._apart.get("order", self.seed)
            torch.manual_seed(derive_seed(seed, "step", self.current_epoch, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | dict[str, Tensor]:
        """Return the mean loss of a batch ``[x, y]``, which manual optimization has optimized already."""
        taken: Tensor | dict[str, Tensor] = self._step.training_step(self, partial(self._loss, "fit"), batch, batch_idx)
        return taken

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, in manual optimization; after the methods that change gradients."""
        self._step.clip(self, optimizer)

    def on_validation_model_zero_grad(self) -> None:
        """Keep gradients over a validation in the middle of an accumulation that Lightning knows nothing of."""
        if self.automatic_optimization:
            super().on_validation_model_zero_grad()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch ``[x, y]``."""
        return self._loss("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch ``[x, y]``."""
        return self._loss("test", batch)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """Return the logits ``(N, K)`` of a batch ``x`` or ``[x, y]``."""
        logits: Tensor = self(batch if isinstance(batch, Tensor) else batch[0])
        return logits

    def _loss(self, stage: str, batch: Batch, rows: slice = ALL, record: bool = True) -> Tensor:
        logits = self(batch[0][rows])
        y = labels_for(logits, batch[1][rows])
        # On a GPU once a stage: reading labels waits for it, and it finds the others, if in words of its own.
        if record and (stage not in self._checked or not y.is_cuda):
            self._checked.add(stage)
            check_labels(y, logits.shape[-1])
        loss = self.loss(logits, y) if self.replicas is None else losses_of_replicas(self.loss, logits, y)
        if record:
            metrics, corrupted = cast(Any, self.stages[stage]), notes(batch[1]).get("corrupted")
            metrics.update(loss.detach(), logits.detach(), y, None if corrupted is None else corrupted[rows])
        # The sum, so that the gradient of a replica is that of its own mean loss.
        return loss if self.replicas is None else loss.sum()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the Trainer says; of replicas the norm of each."""
        if self.replicas is None or not gradient_clip_val or gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        clip_replica_norms([p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics."""
        log_stage(self, "fit", "train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        log_stage(self, "val", "val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        log_stage(self, "test", "test")
