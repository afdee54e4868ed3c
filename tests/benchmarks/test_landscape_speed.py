"""A 51 x 51 landscape of a narrow ResNet-20 against a loop that loads state dicts and evaluates with a DataLoader."""

from __future__ import annotations

import numpy as np
import torch
from harness import Table, alternate, ratio, seconds
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from lightning_regs.analysis import loss_surface, random_direction
from lightning_regs.models import build

# Of the 2,601 points so many are measured, each of which is alike.
WIDTH, IMAGES, SIDE, ROUNDS = 4, 250, 3, 5


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as the usual recipe reads them: one by one from arrays, to tensors, normalized."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y
        normalize = transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
        self.transform = transforms.Compose([transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.x[index])), int(self.y[index])


def test_landscape_of_a_narrow_resnet20(table: Table) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    pictures = Pictures(rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), np.arange(IMAGES) % 10)
    x, y = (torch.stack([torch.as_tensor(pictures[i][k]) for i in range(IMAGES)]) for k in (0, 1))
    net: nn.Module = build("resnet20", (3, 32, 32), 10, width=WIDTH)
    directions = [random_direction(net, torch.Generator().manual_seed(k)) for k in (0, 1)]
    own = {name: value.clone() for name, value in net.state_dict().items()}
    at = torch.linspace(-1, 1, SIDE).tolist()

    def loop(loader: DataLoader[tuple[Tensor, Tensor]]) -> list[float]:
        losses = []
        for a in at:
            for b in at:
                d, e = directions
                net.load_state_dict({n: w + a * d[n] + b * e[n] if n in d else w for n, w in own.items()})
                net.eval()
                with torch.no_grad():
                    losses.append(sum(F.cross_entropy(net(some), to).item() * len(to) for some, to in loader) / IMAGES)
        net.load_state_dict(own)
        return losses

    tensors = DataLoader(TensorDataset(x, y), batch_size=128)
    usual = DataLoader(pictures, batch_size=128)
    ours = loss_surface(net, x, y, directions, SIDE)
    torch.testing.assert_close(ours.losses.flatten().float(), torch.tensor(loop(tensors)), rtol=1e-3, atol=1e-3)
    times = alternate(
        {
            "ours": lambda: seconds(lambda: loss_surface(net, x, y, directions, SIDE)),
            "tensors": lambda: seconds(lambda: loop(tensors)),
            "usual": lambda: seconds(lambda: loop(usual)),
        },
        ROUNDS,
    )
    name = f"landscape of ResNet-20, width {WIDTH}: a loop with a DataLoader"
    table.add(f"{name} of images / ours", ratio(times, "usual", "ours"), 2.0)
    table.add(f"{name} of tensors / ours", measured := ratio(times, "tensors", "ours"), 1.2)
    assert measured > 0.6
