"""Deep Compression of any module to a file, whose size is counted stage by stage."""

from __future__ import annotations

import copy
import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_regs.core.checks import checked, shown
from lightning_regs.core.files import DamagedFileError, whole
from lightning_regs.core.names import uncompiled
from lightning_regs.pruning.compression.coding import code_lengths, decode, encode, from_gaps, to_gaps
from lightning_regs.pruning.compression.sharing import Bits, LayerBits, share_weights, shared_weights

_MAGIC, _VERSION = b"LRDC", 1
_CODEBOOK, _INDEX = "parametrizations.weight.original", "parametrizations.weight.0.index"
_HEAD, _LENGTH = struct.Struct("<4sHI"), struct.Struct("<I")  # magic, version, checksum of the rest; of the header


@dataclass(frozen=True)
class CodedWeight:
    """What the weight of one layer takes."""

    total: int  # number of weights
    kept: int  # number of those that are not zero
    entries: int  # number of entries that are written: those, and the fillers between them
    huffman: int  # bits of all entries' values in Huffman code
    huffman_index: int  # bits of all their gaps in Huffman code
    stages: dict[str, int]  # bits after each stage, as in `Compressed`


@dataclass(frozen=True)
class Compressed:
    """What :func:`compress` has written.

    Attributes:
        weights: What each weight takes, by its name.
        others: Bits of all else that the state holds, such as biases, which is written as it is.
        file: Bytes of the file: the last stage, names and shapes, and what is lost to whole bytes.
    """

    weights: dict[str, CodedWeight]
    others: int
    file: int

    @property
    def stages(self) -> dict[str, int]:
        """Bits of the net, ``"dense"``; with gaps, ``"pruned"``; with codebooks, ``"quantized"``; and ``"huffman"``.

        The last has the lengths of the codes as well, which they follow from.
        """
        parts = [weight.stages for weight in self.weights.values()]
        return {stage: self.others + sum(part[stage] for part in parts) for stage in parts[0]}

    @property
    def rates(self) -> dict[str, float]:
        """How many times smaller the net is after each stage, and as a ``"file"``."""
        sizes = self.stages | {"file": 8 * self.file}
        return {stage: sizes["dense"] / size for stage, size in sizes.items()}


@checked
@torch.no_grad()
def compress(module: nn.Module, file: str | os.PathLike[str], bits: LayerBits = 5, index_bits: Bits = 5) -> Compressed:
    """Write a network as a small file: of pruned weights that share values, in Huffman code.

    Deep Compression of Han, Mao & Dally (1510.00149). Prune and train with :class:`~lightning_regs.WeightMask`, go on
    with :func:`~lightning_regs.pruning.share_weights`, and write. Of a weight the file has the codebook, and of each
    entry that is not zero the number of its value and the gap from the entry before. Where a gap is too long, zeros
    stand between. What else is in the ``state_dict`` is written as it is.

    Does not help: a dense net, of which only the sharing saves. It makes no net faster.

    Args:
        module: A network; it stays as it is. Where none of its weights shares values yet, all do in the file.
        file: Where to write; what is there is replaced.
        bits: Of weights where none shares values yet, see :func:`~lightning_regs.pruning.share_weights`.
        index_bits: Bits of a gap, 1 to 8: the longest is ``2 ** index_bits``.

    Returns:
        The sizes, counted by stage.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the file is a folder, the state holds what is no tensor, or as
            :func:`~lightning_regs.pruning.share_weights`.
    """
    path, made = _place(file), module
    if not shared_weights(made):
        share_weights(made := copy.deepcopy(module), bits)
    shared, coded, others = shared_weights(made), {}, 0
    entries, parts = list[dict[str, Any]](), list[bytes]()
    for name, value in made.state_dict().items():
        name = uncompiled(name)
        if name.endswith(_INDEX):
            continue
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name!r} of the state is {shown(value)}, and the file holds tensors; leave its layer out."
            )
        if (own := name.replace(_CODEBOOK, "weight")) in shared:
            codebook, index = shared[own]
            coded[own], more, written = _coded(codebook, index, index_bits)
            name, shape, parts = own, index.shape, parts + written
        else:
            more, shape, others = {}, value.shape, others + 8 * value.nbytes
            parts.append(_raw(value))
        entries.append({"name": name, "shape": list(shape), "type": str(value.dtype)[6:]} | more)
    header = zlib.compress(json.dumps(entries, separators=(",", ":")).encode(), 9)
    body = b"".join([_LENGTH.pack(len(header)), header, *parts])
    with whole(path) as part:
        part.write_bytes(_HEAD.pack(_MAGIC, _VERSION, zlib.crc32(body)) + body)
    return Compressed(coded, others, _HEAD.size + len(body))


@checked
@torch.no_grad()
def decompress(file: str | os.PathLike[str], module: nn.Module) -> None:
    """Load the weights of a file that :func:`compress` wrote into a network, bit for bit those that were written.

    Args:
        file: The file.
        module: A network as that which was compressed, an ordinary one: without shared weights.

    Raises:
        FileNotFoundError: If there is no such file.
        DamagedFileError: If it is not as it was written, or no such file.
        ValueError: If it is of another version, or of another network.
    """
    path = _place(file)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; write it with `compress`, or name the one that it wrote.")
    state, own = _read(path.read_bytes(), path), module.state_dict()
    for name in (*own, *state):
        mine, theirs = (tuple(s[name].shape) if name in s else None for s in (own, state))
        if mine != theirs:
            raise ValueError(
                f"{path} is of another network: the shape of {name!r} is {theirs} there and {mine} in the module; "
                "build the module as the one that was compressed."
            )
        if torch.promote_types(own[name].dtype, state[name].dtype) != own[name].dtype:
            raise ValueError(
                f"{path} has {name!r} in {state[name].dtype}, which {own[name].dtype} would round; load it into "
                "module.float(), or one of the type that was compressed."
            )
    module.load_state_dict(state)


def _place(file: str | os.PathLike[str]) -> Path:
    path = Path(file).expanduser().absolute()
    if path.is_dir():
        raise ValueError(f"the file {path} is a folder; name a file in it.")
    return path


def _coded(codebook: Tensor, index: Tensor, index_bits: int) -> tuple[CodedWeight, dict[str, Any], list[bytes]]:
    """Return the sizes of a weight, what the header says of it, and its bytes."""
    numbers = index.cpu().numpy().reshape(-1)
    gaps, real = to_gaps(numbers > 0, index_bits)
    symbols = np.zeros(len(gaps), dtype=np.int64)
    symbols[real] = numbers[numbers > 0]
    parts, used = [_raw(codebook)], []
    for stream, size in ((symbols, len(codebook) + 1), (gaps, 2**index_bits)):
        counts = np.bincount(stream, minlength=size)
        lengths = code_lengths(counts)
        used.append(int(counts @ lengths.astype(np.int64)))
        parts += [lengths.tobytes(), encode(stream, lengths)]
    bits, width, number = (len(codebook) + 1).bit_length() - 1, 8 * codebook.element_size(), len(gaps)
    coded = sum(used) + 8 * (len(parts[0]) + len(parts[1]) + len(parts[3]))
    stages = {"dense": len(numbers) * width, "pruned": number * (width + index_bits),
              "quantized": number * (bits + index_bits) + 8 * len(parts[0]), "huffman": coded}  # fmt: skip
    facts = {"bits": bits, "index_bits": index_bits, "entries": number, "used": used}
    return CodedWeight(len(numbers), int(real.sum()), number, used[0], used[1], stages), facts, parts


def _read(data: bytes, path: Path) -> dict[str, Tensor]:
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise DamagedFileError(f"{path} is no file that `compress` wrote, or is cut off; compress the network again")
    _, version, checksum = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"{path} is of version {version} of the format, and this package reads {_VERSION}.")
    if zlib.crc32(data[_HEAD.size :]) != checksum:
        raise DamagedFileError(f"{path} is damaged (it is not as it was written); compress the network again")
    state, at = {}, _HEAD.size

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        return data[at - length : at]

    for entry in json.loads(zlib.decompress(take(*_LENGTH.unpack(take(_LENGTH.size))))):
        dtype, shape = getattr(torch, entry["type"]), entry["shape"]
        if "bits" not in entry:
            state[entry["name"]] = _tensor(take(int(np.prod(shape)) * dtype.itemsize), dtype).view(shape)
            continue
        values = 2 ** entry["bits"]
        codebook, streams = _tensor(take((values - 1) * dtype.itemsize), dtype), []
        for symbols, used in zip((values, 2 ** entry["index_bits"]), entry["used"], strict=True):
            lengths = np.frombuffer(take(symbols), dtype=np.uint8)
            streams.append(torch.from_numpy(decode(take(-(-used // 8)), lengths, entry["entries"])))
        weight = torch.zeros(shape, dtype=dtype).view(-1)
        weight[from_gaps(streams[1].numpy())] = torch.cat([codebook.new_zeros(1), codebook])[streams[0]]
        state[entry["name"]] = weight.view(shape)
    return state


def _raw(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _tensor(data: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
