"""The Lightning DataModule: Zhang et al.'s data protocol, resident on the device."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from lightning_regs.core import rng
from lightning_regs.core.batch import with_notes
from lightning_regs.core.checks import Count, Range, Seed, Share, Whole, as_text, check_seeds, checked
from lightning_regs.core.checks import check_arguments as check_types
from lightning_regs.core.lightning import check_trainer, current_batch, pl
from lightning_regs.core.names import unknown_name
from lightning_regs.core.rng import replica_seeds
from lightning_regs.data import sources
from lightning_regs.data.dataset import ImageArrays, StackedArrays
from lightning_regs.data.loaders import Loader, LoaderFactory, Place
from lightning_regs.data.options import check_arguments, check_for_trainer, check_source, size_at
from lightning_regs.data.splits import SplitPlan, Splits, make_replica_splits, make_splits, of_classes
from lightning_regs.data.transforms import BatchTransform, Normalize

_SPLITS = ("train", "val", "test")
_PLANNED = ("corruption", "corruption_p", "image_size", "train_size", "test_size", "val_split", "resplit")
_TRANSFORMED = ("image_size", "whiten", "random_crop", "random_flip", "random_rotation", "color_jitter",
                "padding", "normalize")  # fmt: skip
_UNUSED = ("seeds", "resplit", "padding", "normalize", "classes")  # no hyperparameters where they are not given
# Image folders are decoded with the margin that 32 pixels have around 28.
_FOLDER_MARGIN = 32 / 28


class ImageDataModule(pl.LightningDataModule):
    """Serve a data set with the corruptions and the augmentation of Zhang et al. (2017, arXiv:1611.03530).

    Batches reach the LightningModule as the list ``[x, y]``: x float32 (N, C, H, W) or (N, L), augmented, cropped and
    whitened on the device, y int64 (N,). Which labels were changed goes with them: where labels are corrupted,
    ``lightning_regs.core.batch.notes(y)["corrupted"]`` is bool (N,) on the device.

    Order, corruption, augmentation and splits are each a pure function of the seed and the epoch: nothing is drawn from
    a global stream, and a run resumed at an epoch's end, or in its middle where the optimizer had stepped, gets the
    weights of the uninterrupted one. With several processes, training uses a ``DistributedSampler`` (which repeats some
    samples when the number does not divide), and evaluation shows each sample exactly once.

    Args:
        source: ``digits``, ``mnist1d``, ``mnist``, ``fashion_mnist``, ``cifar10``, ``cifar100``, or the path of an .npz
            file or an image folder, see :func:`~lightning_regs.data.sources.load`.
        root: Folder of the data files; None takes ``LIGHTNING_REGS_DATA``, else ``data``.
        batch_size: Samples a training batch and process, at least 1; or sizes with the epochs from which they hold,
            ``[(0, 128), (60, 640)]``, to grow the batch in place of decaying the rate (Smith et al. 2018, 1711.00489):
            with ``Trainer(reload_dataloaders_every_n_epochs=1)`` and schedules by epochs, or in steps that are given.
        image_size: Side of the square crop (28 for the paper's CIFAR-10); None keeps the images whole.
        corruption: ``none``, ``partial_labels``, ``random_labels``, ``shuffled_pixels``, ``random_pixels`` or
            ``gaussian``. Labels are corrupted in the training set only, pixels in both, after the crop. ``gaussian``
            takes one mean and variance over all training pixels and channels.
        corruption_p: Probability in [0, 1] that ``partial_labels`` redraws a label, over all classes, the old one too.
        whiten: Whiten each sample; False gives pixels in [0, 1].
        random_crop: Crop training images at a random place instead of the centre.
        random_flip: Mirror each training image with probability 1/2.
        random_rotation: Largest rotation of training images in degrees, in [0, 180], before the crop; 25 in Table 4.
        padding: Pixels of black that training images are framed with before the random crop: 4 with ``image_size=32``
            is usual for CIFAR-10. Default 0: the crop is out of the margin beyond ``image_size``.
        normalize: In place of ``whiten``: ``"channels"`` takes mean and deviation of each channel over all training
            images of the source, ``{"mean": [...], "std": [...]}`` given ones, of pixels in [0, 1]; ``"center"`` the
            mean training image; ``"pca"``, ``"zca"``: :func:`~.transforms.whitening`, ``{"zca": 0.01}`` with epsilon.
        color_jitter: Strength in [0, 1]: factors of brightness, contrast and saturation from 1 -+ it, hue by 0.4 it.
        val_split: Training samples to hold out for validation: a share below 1, or a number; they stay corrupted.
        monitor_test: Serve the test set as validation set, for curves; never choose anything by it.
        train_size: Number of training samples, drawn at random; None keeps all.
        test_size: Number of test samples, drawn at random; None keeps all.
        drop_last: Drop the last training batch when it is not full.
        eval_batch_size: Samples a batch in validation and test, at least 1; slightly changed with several processes
            where they would have different numbers of batches.
        num_workers: Worker processes of the loaders. 0 is fastest, as a batch is one gather; ``lazy`` wants one a core.
        resident: Keep the data on the Trainer's device; ``auto``: where half of a GPU's free memory holds them. Needs
            ``num_workers=0``.
        seed: Default: what ``seed_everything`` was given, else 0.
        lazy: Decode the files of an image folder anew for each batch, in the workers, instead of once into memory: for
            those that it does not hold, the same batches. Not for other sources or corrupted pixels.
        batch_repeats: Times that each training batch is served in a row, at least 1, with the same augmentation: data
            echoing (Choi et al. 2019, arXiv:1907.05550), or the n updates a minibatch of Smith et al. (2021,
            arXiv:2101.12176). An epoch has that many times more steps. Regularizers draw once for all of them. Not
            with ``accumulate_grad_batches``, which would average the same gradient.
        replicas: Number of nets that train at once, for seeds from ``seed`` on, or a list of their seeds, as in
            ``Classifier(replicas=...)``. Training and validation batches are (R, N, ...) and (R, N): each replica has
            the subset, corruption, split, order and augmentation of a run with its seed. The test set stays (N, ...)
            where it is the same for all. Not with ``lazy``, nor with ``batch_repeats``.
        resplit: Draw anew which samples are for training and which for test, among all, as many of each as before: what
            the choice of a test set does to a result. Not with ``lazy``.
        seeds: What has a seed apart from ``seed``, and all replicas the same: ``{"order": 0}`` for order and
            augmentation, ``{"split": 0}`` for subsets, validation split and corruption. The Classifier takes the same
            mapping, with ``"weights"`` too.
        classes: Classes to keep, numbered anew in this order, such as ``[3, 7]``; None keeps all.

    Raises:
        ValueError: A value is out of range, unknown, or contradicts another.
        TypeError: ``seeds`` are no mapping of whole numbers.
    """

    def __init__(
        self,
        source: Annotated[str | Path, as_text] = "digits",
        root: Annotated[str | Path, as_text] | None = None,
        batch_size: Count | Sequence[tuple[Whole, Count]] = 128,
        image_size: Count | None = None,
        corruption: str = "none",
        corruption_p: Share = 1.0,
        whiten: bool = True,
        random_crop: bool = False,
        random_flip: bool = False,
        random_rotation: Annotated[float, Range(0, 180)] = 0.0,
        color_jitter: Share = 0.0,
        val_split: int | float = 0,
        monitor_test: bool = False,
        train_size: Count | None = None,
        test_size: Count | None = None,
        drop_last: bool = False,
        eval_batch_size: Count = 1000,
        num_workers: Whole = 0,
        resident: bool | Literal["auto"] = "auto",
        seed: Seed | None = None,
        lazy: bool = False,
        batch_repeats: Count = 1,
        replicas: Count | Sequence[Seed] | None = None,
        seeds: dict[str, int] | None = None,
        resplit: bool = False,
        padding: Whole = 0,
        normalize: Normalize | None = None,
        classes: Sequence[Whole] | None = None,
    ) -> None:
        arguments = check_types(ImageDataModule.__init__, locals())
        super().__init__()
        # Says what the data are, for `find_ticket`; a logger has the module's hyperparameters to show.
        self.save_hyperparameters(logger=False, ignore=[name for name in _UNUSED if not arguments[name]])
        # As plain values, which a checkpoint may hold.
        self.hparams.update({name: arguments[name] for name in self.hparams if name in arguments})
        check_arguments(arguments)
        given = SimpleNamespace(**arguments)
        self.source, self.root = given.source, given.root
        self.batch_size, self.drop_last, self.monitor_test = given.batch_size, given.drop_last, given.monitor_test
        self.batch_repeats, self.eval_batch_size = given.batch_repeats, given.eval_batch_size
        self.num_workers, self.resident, self.lazy = given.num_workers, given.resident, given.lazy
        self.replicas = replica_seeds(given.replicas, rng.run_seed(given.seed))
        self._given_seed, self._kept = given.seed, given.classes
        self._apart = check_seeds(given.seeds)
        keep_margin = (given.random_crop and not given.padding) or given.random_rotation > 0
        self._plan = SplitPlan(keep_margin=keep_margin, **{name: arguments[name] for name in _PLANNED})
        self._transform = BatchTransform(*(arguments[name] for name in _TRANSFORMED))
        self.augments = self._transform.augments
        self._served: Literal["train", "val", "test"] = "test"
        self._splits: Splits | None = None
        self._num_classes = 0
        self._classes: tuple[str, ...] | None = None

    def prepare_data(self) -> None:
        """Download what is nowhere, in one process."""
        sources.prepare(self.source, self.root)

    def setup(self, stage: str | None = None) -> None:
        """Load, corrupt and split the data once, and place them for the current Trainer.

        Raises:
            MisconfigurationException: The LightningModule has an ``on_after_batch_transfer`` of its own, which
                Lightning would never call; or the Trainer accumulates gradients of repeated batches.
            ValueError: The data do not go with the arguments.
        """
        self._saved: dict[str, Any] | None = None  # a checkpoint is read after this
        if self.trainer is not None:
            check_for_trainer(self.trainer, self.batch_repeats, self.batch_size)
        if self._splits is None:
            self._load()
        self._splits = self._need_setup().placed(self._device(), self.resident, self.num_workers)
        self._transform = self._transform.to(self._device())

    @property
    def num_classes(self) -> int:
        """The number of classes; known after ``setup``."""
        self._need_setup()
        return self._num_classes

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, where the source has them; known after ``setup``."""
        self._need_setup()
        return self._classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample as the network sees it, (C, H, W) or (L,), known after ``setup``."""
        return tuple(self._need_setup().test.x.shape[1:])

    @property
    def seed(self) -> int:
        """The run's seed, where there are no replicas; known after ``setup``."""
        self._need_setup()
        return self._seed

    def dataset(self, split: str) -> ImageArrays | StackedArrays:
        """Return the data of ``train``, ``val`` or ``test`` as they are served, before the batch transform.

        With replicas they are stacked, but for a test set that all share.

        Raises:
            ValueError: The split is unknown, or there is no validation split.
        """
        splits = self._need_setup()
        if split not in _SPLITS:
            raise unknown_name("split", split, _SPLITS)
        data: ImageArrays | StackedArrays | None = getattr(splits, split)
        if data is None:
            raise ValueError("there is no validation split; set val_split.")
        return data

    def train_transform(self, x: Tensor, generator: torch.Generator | Sequence[torch.Generator]) -> Tensor:
        """Augment, crop and whiten a training batch, for loops without a Trainer; see :class:`BatchTransform`."""
        return self._transform.training(x, generator)

    def eval_transform(self, x: Tensor) -> Tensor:
        """Crop at the centre and whiten a batch, for loops without a Trainer."""
        return self._transform.evaluation(x)

    def train_dataloader(self) -> Loader:
        """Return the loader of the training set, in an order given by the seed and the epoch."""
        place = None if self.trainer is None else Place(self.trainer, self._saved)
        data, epoch = self.dataset("train"), 0 if self.trainer is None else self.trainer.current_epoch
        how = size_at(self.batch_size, epoch, len(data)), self.drop_last, self.batch_repeats, place
        return self._loaders().training(data, *how)

    def val_dataloader(self) -> Loader | list[Any]:
        """Return the loader of the validation split, or of the test set with ``monitor_test``, or none."""
        data = self._need_setup().test if self.monitor_test else self._need_setup().val
        if data is None:
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
            return []
        return self._loaders().evaluation(data, self.eval_batch_size)

    def test_dataloader(self) -> Loader:
        """Return the loader of the test set, or of what :meth:`evaluating` chose."""
        return self._loaders().evaluation(self.dataset(self._served), self.eval_batch_size)

    def predict_dataloader(self) -> Loader:
        """Return the same loader as for the test."""
        return self.test_dataloader()

    @checked
    @contextmanager
    def evaluating(self, split: Literal["train", "val", "test"]) -> Iterator[None]:
        """Make ``trainer.test`` run on another split: in order, without augmentation, with the labels of training.

        Raises:
            ValueError: The split is unknown.
        """
        before, self._served = self._served, split
        try:
            yield
        finally:
            self._served = before

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs beside the Trainer's state; collective."""
        return {} if self.trainer is None else Place(self.trainer).state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` returned."""
        self._saved = state_dict

    def __setattr__(self, name: str, value: Any) -> None:
        # The first that a Trainer does with a DataModule; one of the other Lightning would fail without saying why.
        if name == "trainer" and value is not None:
            check_trainer("ImageDataModule", value)
        super().__setattr__(name, value)

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        """Transform the images, and return ``[x, y]``; which labels were changed is noted on them."""
        (x, y, *changed), trainer = batch, self.trainer
        # Lightning calls this hook for validation, the sanity check, test and prediction as well.
        if self._transform.augments and trainer is not None and trainer.training:
            minibatch = (current_batch(trainer) + 1) // self.batch_repeats  # the one that comes next
            position = (trainer.current_epoch, minibatch, trainer.global_rank)
            draws = [rng.generator(seed, "augmentation", *position) for seed in self._seeds("order")]
            x = self.train_transform(x, draws[0] if self.replicas is None else draws)
        else:
            x = self.eval_transform(x)
        if trainer is not None:
            # Under "bf16-true" and its like Lightning converts the inputs before this hook, when they are still bytes.
            x = trainer.precision_plugin.convert_input(x)
        return [x, with_notes(y, {"corrupted": changed[0]} if changed else {})]

    def _need_setup(self) -> Splits:
        if self._splits is None:
            raise RuntimeError("the data are not loaded yet; call setup() first, or pass the DataModule to a Trainer.")
        return self._splits

    def _load(self) -> None:
        decode = self._plan.image_size
        if decode is not None and self._plan.keep_margin:
            decode = math.ceil(decode * _FOLDER_MARGIN)
        source = of_classes(sources.load(self.source, self.root, decode, self.lazy), self._kept)
        check_source(source, self._transform)
        self._seed = rng.run_seed(self._given_seed)
        seeds = self._seeds("split")
        if self.replicas is None:
            self._splits = make_splits(source, self._plan, seeds[0])
        else:
            self._splits = make_replica_splits(source, self._plan, seeds)
        self._transform = self._transform.fitted(source.x_train, self._splits.train)
        self._num_classes, self._classes = source.num_classes, source.classes

    def _seeds(self, purpose: str) -> tuple[int, ...]:
        return tuple(self._apart.get(purpose, seed) for seed in self.replicas or (self._seed,))

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _loaders(self) -> LoaderFactory:
        trainer = self.trainer
        rank, world_size = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        on_host = self._need_setup().train.y.device.type == "cpu"
        pin_memory = on_host and self._device().type == "cuda"
        in_order = getattr(trainer, "overfit_batches", 0) > 0
        return LoaderFactory(rank, world_size, self._seeds("order"), self.num_workers, pin_memory, in_order)
