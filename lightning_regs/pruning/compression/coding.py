"""How sparse weights are written: places as gaps with fillers, and Huffman codes, on arrays of numpy."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def to_gaps(kept: Array, bits: int) -> tuple[Array, Array]:
    """Write the places of what is kept, bool (N,), as gaps (E,) of so many bits: the distances, less one.

    Where one does not fit, fillers come before the entry, as far apart as a gap reaches; bool (E,) says which are none.
    """
    reach, places = 2**bits, np.flatnonzero(kept)
    distances = np.diff(places, prepend=-1)
    ends = np.cumsum((distances - 1) // reach + 1) - 1  # the fillers of each entry, and itself
    gaps = np.full(ends[-1] + 1 if len(ends) else 0, reach - 1)
    gaps[ends] = (distances - 1) % reach
    real = np.zeros(len(gaps), dtype=bool)
    real[ends] = True
    return gaps, real


def from_gaps(gaps: Array) -> Array:
    """Return the places of the entries, fillers too, that :func:`to_gaps` wrote."""
    return np.cumsum(gaps + 1) - 1


def code_lengths(counts: Array) -> Array:
    """Return the bits of each symbol's Huffman code, of their counts (S,): 0 where that is 0, and 1 for one alone."""
    lengths = np.zeros(len(counts), dtype=np.uint8)
    heap = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    while len(heap) > 1:
        (one, first, symbols), (other, _, more) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[symbols + more] += 1
        heapq.heappush(heap, (one + other, first, symbols + more))
    return lengths


def encode(symbols: Array, lengths: Array) -> bytes:
    """Write symbols (E,) in the canonical Huffman code of these lengths (S,), filled up with zeros to whole bytes."""
    codes, of = np.zeros(len(lengths), dtype=np.uint64), lengths[symbols].astype(np.int64)
    order, values = _canonical(lengths)
    codes[order] = values
    own, starts = codes[symbols], np.cumsum(of) - of
    bits = np.zeros(of.sum(), dtype=np.uint8)
    for i in range(of.max(initial=0)):
        there = of > i
        bits[starts[there] + i] = own[there] >> (of[there] - 1 - i).astype(np.uint64) & np.uint64(1)
    return np.packbits(bits).tobytes()


def decode(data: bytes, lengths: Array, number: int) -> Array:
    """Read so many symbols that :func:`encode` wrote; where there are not as many, that is an ``IndexError``."""
    order, values = _canonical(lengths)
    sizes = lengths[order].astype(np.int64)
    longest = int(sizes.max(initial=1))
    bits = np.pad(np.unpackbits(np.frombuffer(data, dtype=np.uint8)), (0, longest)).astype(np.uint64)
    windows = np.zeros(len(bits) - longest, dtype=np.uint64)  # what comes from each bit on
    for i in range(longest):
        windows = windows << np.uint64(1) | bits[i : i + len(windows)]
    firsts = values << (longest - sizes).astype(np.uint64)
    found = np.searchsorted(firsts, windows, side="right") - 1
    steps, at, begins = sizes[found].tolist(), 0, []
    for _ in range(number):
        begins.append(at)
        at += steps[at]
    symbols: Array = order[found[np.array(begins, dtype=np.int64)]]
    return symbols


def _canonical(lengths: Array) -> tuple[Array, Array]:
    """Return the symbols by length, and of one length by number, and their codes, which increase."""
    order = np.lexsort((np.arange(len(lengths)), lengths))
    order = order[lengths[order] > 0]
    code, before, values = 0, 0, []
    for length in map(int, lengths[order]):
        code <<= length - before
        values.append(code)
        code, before = code + 1, length
    return order, np.array(values, dtype=np.uint64)
