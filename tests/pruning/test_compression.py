"""Deep Compression: clusters, gaps, Huffman codes, trained codebooks, and a file that is the net."""

from __future__ import annotations

import heapq
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor, nn

from lightning_regs.core.files import DamagedFileError
from lightning_regs.models import build
from lightning_regs.pruning import compress, decompress, share_weights
from lightning_regs.pruning.compression.coding import code_lengths, decode, encode, from_gaps, to_gaps
from lightning_regs.pruning.compression.sharing import cluster, shared_weights
from lightning_regs.training.replicas import Replicated


def pruned(dtype: torch.dtype = torch.float32, keep: float = 0.3, seed: int = 0) -> nn.Sequential:
    """A net of convolutions, batch norm and linear layers, of whose weights a share is not zero."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 9), nn.Linear(9, 4))
    net = nn.Sequential(*layers)
    with torch.no_grad():
        net(torch.randn(20, 2, 6, 6))
        for layer in (net[0], net[4], net[5]):
            layer.weight.mul_(torch.rand(layer.weight.shape) < keep)
    return net.to(dtype).eval()


# -- k-means -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_clusters_are_those_of_a_library_from_the_same_start(start: Any) -> None:
    values = torch.randn(2_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    line = values.sort().values
    drawn = line[torch.randperm(2_000, generator=torch.Generator().manual_seed(2))[:9].sort().values]
    quantiles = line[torch.linspace(0, 1_999, 9).round().long()]
    starts = {
        "linear": torch.linspace(line[0], line[-1], 9, dtype=torch.float64),
        "density": quantiles,
        "random": drawn,
    }
    library = KMeans(9, init=starts[start][:, None].numpy(), n_init=1, max_iter=5_000, tol=0, algorithm="lloyd")
    expected = library.fit_predict(values[:, None].numpy())
    assert torch.equal(cluster(values, 9, start, torch.Generator().manual_seed(2)), torch.from_numpy(expected).long())


def test_a_cluster_that_is_empty_stays_where_it_is() -> None:
    assert cluster(torch.tensor([0.0, 1.0, 10.0]), 3).tolist() == [0, 0, 2]  # starts at 0, 5 and 10


def test_more_clusters_than_weights_are_refused_by_the_name_of_the_layer() -> None:
    net = pruned(keep=0.1)
    kept = int((net[5].weight != 0).sum())
    with pytest.raises(
        ValueError, match=rf"^'5\.weight': 31 clusters cannot be made of {kept} weights; use fewer bits"
    ):
        share_weights(net, {"5": 5, "*": 2})
    assert not shared_weights(net)  # nothing was changed
    net[0].weight.data[0] = math.nan
    with pytest.raises(ValueError, match=r"^'0\.weight': k-means takes finite numbers"):
        share_weights(net, 1)


# -- codes -------------------------------------------------------------------------------------------------------------


def test_gaps_of_the_papers_figure() -> None:
    # Figure 2: entries at 1, 4 and 15, gaps of 3 bits; a filler stands 8 behind the second.
    kept = np.isin(np.arange(16), [1, 4, 15])
    gaps, real = to_gaps(kept, 3)
    assert (gaps + 1).tolist() == [2, 3, 8, 3]  # the figure counts the first from 0
    assert real.tolist() == [True, True, False, True]


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 8))
@pytest.mark.slow
def test_gaps_lead_back_to_the_places_with_the_fewest_fillers(kept: list[bool], bits: int) -> None:
    gaps, real = to_gaps(np.array(kept), bits)
    places = np.flatnonzero(kept)
    assert np.array_equal(from_gaps(gaps)[real], places)
    assert not len(gaps) or gaps.max() < 2**bits
    fillers, before = 0, -1
    for place in places:  # one at a time
        while place - before > 2**bits:
            before, fillers = before + 2**bits, fillers + 1
        before = place
    assert len(gaps) == len(places) + fillers


def test_code_lengths_of_the_textbook() -> None:
    # Cormen et al., Introduction to Algorithms, section 16.3.
    assert code_lengths(np.array([45, 13, 12, 16, 9, 5])).tolist() == [1, 3, 3, 3, 4, 4]
    assert code_lengths(np.array([0, 7, 0])).tolist() == [0, 1, 0]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200))
def test_symbols_come_back_and_take_what_is_least(symbols: list[int]) -> None:
    counts = np.bincount(symbols, minlength=14)
    lengths = code_lengths(counts)
    data = encode(np.array(symbols), lengths)
    assert decode(data, lengths, len(symbols)).tolist() == symbols
    heap, least = [int(n) for n in counts if n], 0  # the sum of all nodes of the tree
    heapq.heapify(heap)
    while len(heap) > 1:
        heapq.heappush(heap, two := heapq.heappop(heap) + heapq.heappop(heap))
        least += two
    used = int(counts @ lengths.astype(int))
    assert used == (least or len(symbols))
    assert len(data) == math.ceil(used / 8)


# -- trained codebooks -------------------------------------------------------------------------------------------------


def test_the_gradient_of_a_value_is_the_sum_of_those_that_share_it() -> None:
    net, x = pruned(torch.float64), torch.randn(5, 2, 6, 6, dtype=torch.float64)
    share_weights(net, 2)
    plain = pruned(torch.float64)
    state = {name: net.get_submodule(name[0]).weight for name in ("0.weight", "4.weight", "5.weight")}
    plain.load_state_dict(state, strict=False)
    for one in (net, plain):
        one(x).square().sum().backward()
    for name, (_, index) in shared_weights(net).items():
        gradient: Any = plain.get_parameter(name).grad
        own: Any = net.get_submodule(name[0]).parametrizations.weight.original.grad  # type: ignore[union-attr]
        expected = torch.stack([gradient[index == value].sum() for value in (1, 2, 3)])
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


def test_trained_weights_stay_shared_and_pruned_ones_zero() -> None:
    net = pruned()
    zeros = [net[i].weight == 0 for i in (0, 4, 5)]
    means = net[4].weight.detach().clone()
    share_weights(net, {"0": 3, "*": 2}, "density")
    codebook, index = shared_weights(net)["4.weight"]
    torch.testing.assert_close(codebook[1], means[index == 2].mean())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, 2, 6, 6)).square().sum().backward()
        optimizer.step()
    assert not torch.equal(codebook, means[:3, 0])
    for i, was, values in zip((0, 4, 5), zeros, (7, 3, 3), strict=True):
        assert torch.equal(net[i].weight == 0, was)
        assert len(net[i].weight.unique()) <= values + 1


def test_stacked_nets_share_their_own_values() -> None:
    nets, x = [pruned(seed=seed) for seed in (1, 2)], torch.randn(2, 5, 2, 6, 6)
    for net in nets:
        share_weights(net, 2)
    stack = Replicated(nets).eval()
    expected = torch.stack([net(own) for net, own in zip(nets, x, strict=True)])
    torch.testing.assert_close(stack(x), expected)
    stack(x).square().sum().backward()
    expected.square().sum().backward()
    stacked = dict(stack.named_parameters())
    for name, p in nets[1].named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(stacked[name].grad[1], p.grad, rtol=1e-4, atol=1e-5)  # type: ignore[index]


def test_a_weight_of_two_layers_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    with pytest.raises(ValueError, match=r"^'0\.weight' is the weight of several layers"):
        share_weights(net, 2)


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, {"0": 4, "4": 3}])
def test_the_file_is_the_net(tmp_path: Path, dtype: torch.dtype, bits: Any) -> None:
    net, fresh = pruned(dtype), pruned(dtype, seed=1)
    share_weights(net, bits)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = compress(net, tmp_path / "net", index_bits=2)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    decompress(tmp_path / "net", fresh)
    x = torch.randn(9, 2, 6, 6).to(dtype)
    assert torch.equal(fresh(x), net(x))
    assert torch.equal(fresh[1].running_var, net[1].running_var)
    assert (tmp_path / "net").stat().st_size == made.file


def test_sizes_are_those_that_are_counted_by_hand(tmp_path: Path) -> None:
    net = nn.Linear(10, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0, 0, 1, 2, 2, 2]]))
    made = compress(net, tmp_path / "net", bits=2, index_bits=2)
    # Gaps 0, 3 (a filler), 1, 0, 0, 0, in 1, 2 and 2 bits; values 1, filler, 1, 3, 3, 3: in 1 bit the last, else 2.
    [coded] = made.weights.values()
    assert (coded.total, coded.kept, coded.entries, coded.huffman, coded.huffman_index) == (10, 5, 6, 9, 8)
    others, codebook, lengths = 32, 3 * 32, 8 * (4 + 4)
    assert made.stages == {
        "dense": 10 * 32 + others,
        "pruned": 6 * (32 + 2) + others,
        "quantized": 6 * (2 + 2) + codebook + others,
        "huffman": 9 + 8 + codebook + lengths + others,
    }
    assert made.rates["huffman"] == 352 / made.stages["huffman"]
    assert made.stages["huffman"] / 8 < made.file < made.stages["huffman"] / 8 + 200


def test_a_damaged_file_is_told_wherever_it_is_damaged(tmp_path: Path) -> None:
    net, file = pruned(), tmp_path / "net"
    compress(net, file, bits=1)
    whole = file.read_bytes()
    broken = [whole[:n] for n in (0, 3, 13, 14, len(whole) - 1)] + [whole + b"x", b"PK" + whole]
    for at in [*range(4), *range(6, len(whole))]:
        broken.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    state: dict[str, Tensor] = {name: value.clone() for name, value in net.state_dict().items()}
    for content in broken:
        file.write_bytes(content)
        with pytest.raises(DamagedFileError, match="compress the network again"):
            decompress(file, net)
    file.write_bytes(whole[:4] + b"\x02\x00" + whole[6:])
    with pytest.raises(ValueError, match="is of version 2 of the format, and this package reads 1"):
        decompress(file, net)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_the_file_of_another_net_is_refused(tmp_path: Path) -> None:
    compress(pruned(), tmp_path / "net", bits=1)
    with pytest.raises(ValueError, match=r"of another network: the shape of 'head\.weight' is None there"):
        decompress(tmp_path / "net", nn.ModuleDict({"head": nn.Linear(3, 3)}))
    other = pruned()
    other[5] = nn.Linear(9, 5)
    with pytest.raises(ValueError, match=r"the shape of '5\.weight' is \(4, 9\) there and \(5, 9\) in the module"):
        decompress(tmp_path / "net", other)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none; write it with `compress`"):
        decompress(tmp_path / "none", other)
    with pytest.raises(ValueError, match="is a folder; name a file in it"):
        decompress(tmp_path, other)


def test_what_would_be_lost_is_refused(tmp_path: Path) -> None:
    net = pruned()
    compress(net, tmp_path / "net", bits=1)
    with pytest.raises(
        ValueError, match=r"'0\.weight' in torch\.float32, which torch\.bfloat16 would round; load it into"
    ):
        decompress(tmp_path / "net", pruned(torch.bfloat16))
    wide = pruned(torch.float64)
    decompress(tmp_path / "net", wide)
    assert torch.equal(wide[1].weight, net[1].weight.double())

    class Versioned(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 1}

    with pytest.raises(
        ValueError, match=r"'_extra_state' of the state is \{'version': 1\}, and the file holds tensors"
    ):
        compress(Versioned(9, 2), tmp_path / "net", bits=1)


def test_frozen_weights_that_are_shared_stay_frozen() -> None:
    net = pruned()
    net[0].requires_grad_(False)
    share_weights(net, 2)
    assert [
        p.requires_grad for p in (net[0].parametrizations.weight.original, net[4].parametrizations.weight.original)
    ] == [
        False,
        True,
    ]


def test_the_lenet_of_the_paper() -> None:
    net = build("lenet", (1, 28, 28), 10, filters=[20, 50], hidden=[500], padding=0)
    assert [tuple(p.shape) for p in net.parameters() if p.ndim > 1] == [
        (20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)
    ]  # fmt: skip
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="the minimum is 16x16"):
        build("lenet", (1, 15, 28), 10, padding=0)
