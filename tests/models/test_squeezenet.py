"""SqueezeNet beside torchvision's, and the sizes of the paper's figures."""

from __future__ import annotations

import pytest
import torch
import torchvision

from lightning_regs.models import build, num_parameters


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_equals_torchvision_s(version):
    ours = build("squeezenet", (3, 64, 64), 1000, version=version).eval()
    theirs = getattr(torchvision.models, f"squeezenet{version.replace('.', '_')}")(weights=None).eval()
    weights = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({name: their.view_as(own) for (name, own), their in weights})
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("options", "megabytes"),
    [
        ({}, 4.8),  # of 1,024 x 1,024 bytes
        ({"squeeze": 0.75}, 19),
        ({"squeeze": 0.5}, 13),
        ({"squeeze": 0.5, "share3x3": 0.99}, 21),
        ({"bypass": "simple"}, 4.8),
    ],
)
def test_sizes_are_those_of_the_paper_s_figures(options, megabytes):
    with torch.device("meta"):
        net = build("squeezenet", (3, 227, 227), 1000, version="1.0", **options)
    assert 4 * num_parameters(net) / 2**20 == pytest.approx(megabytes, rel=0.04)


def test_a_complex_bypass_is_a_convolution_where_channels_grow():
    with torch.device("meta"):
        net = build("squeezenet", (3, 227, 227), 1000, version="1.0", bypass="complex")
    grown = [(96, 128), (128, 256), (256, 384), (384, 512)]
    assert num_parameters(net) == 1_248_424 + sum(out * (into + 1) for into, out in grown)
