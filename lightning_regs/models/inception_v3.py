"""Inception V3, torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.models.inception import Inception3, InceptionOutputs

from lightning_regs.models.initialization import initialize
from lightning_regs.models.layers import check_dropout, check_image, to_channels_last


class InceptionV3(Inception3):  # type: ignore[misc]
    """Inception V3 for ImageNet, without pretrained weights; 23,834,568 parameters for 1,000 classes.

    Szegedy et al., arXiv 1512.00567; the ImageNet net of Zhang et al., arXiv 1611.03530. The paper's size is
    3x299x299. Any size from 75x75 up will do, since the last pool is over the whole map; the auxiliary classifier
    needs 299x299. Shape: (N, 3, H, W) to (N, num_classes); computed in channels_last.

    Args:
        input_shape: (3, H, W), H and W at least 75.
        num_classes: Number of logits.
        dropout: Probability of dropping a unit of the pooled features, in [0, 1). Default 0.5, torchvision's.
        init: A key of :data:`~lightning_regs.models.initialization.INITIALIZATIONS`; None draws torchvision's own,
            a truncated normal of standard deviation 0.1.
        aux_logits: Adds the auxiliary classifier (27,161,264 parameters); then forward returns torchvision's
            ``InceptionOutputs(logits, aux_logits)`` while training. Default False.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size, a name or the dropout is out of its range.
    """

    MINIMUM_SIZE = 75
    MINIMUM_SIZE_AUX = 299

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        dropout: float = 0.5,
        init: str | None = None,
        aux_logits: bool = False,
    ) -> None:
        name = "inception_v3 with aux_logits" if aux_logits else "inception_v3"
        minimum = self.MINIMUM_SIZE_AUX if aux_logits else self.MINIMUM_SIZE
        channels, _, _ = check_image(name, input_shape, num_classes, minimum)
        if channels != 3:
            raise ValueError(f"inception_v3 takes images of 3 channels, got {channels}: repeat the channel 3 times.")
        super().__init__(
            num_classes=num_classes,
            aux_logits=aux_logits,
            init_weights=init is None,
            dropout=check_dropout(dropout),
        )
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor | InceptionOutputs:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        output: Tensor | InceptionOutputs = super().forward(to_channels_last(x))
        return output
