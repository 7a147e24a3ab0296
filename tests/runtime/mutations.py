"""Ways to change a file: cut, lengthened, flipped, swapped with another, filled with something else.

Each gives bytes that differ from what it was given.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from harness.runtime.envelope import HEAD

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]  # draws, the file, and others of its kind


def part(draw: random.Random, data: bytes) -> tuple[int, int]:
    """One of the parts of an envelope: its head byte by byte, its header, what it holds."""
    length = int.from_bytes(data[12:16], "little")
    bounds = [min(bound, len(data)) for bound in (0, 8, 12, 16, 24, HEAD, HEAD + length, len(data))]
    low, high = draw.choice([(a, b) for a, b in itertools.pairwise(bounds) if b > a])
    return low, high


def flipped(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """One bit, anywhere."""
    low, high = part(draw, data)
    return _with(data, draw.randrange(low, high), lambda byte: byte ^ 1 << draw.randrange(8))


def several_flipped(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    for _ in range(draw.randint(2, 20)):
        data = flipped(draw, data, others)
    return data


def overwritten(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A run of bytes by others, or by zeros: a block that never came to the disk."""
    low, high = part(draw, data)
    start = draw.randrange(low, high)
    length = draw.randint(1, min(512, len(data) - start))
    filled = bytes(length) if draw.random() < 0.5 else draw.randbytes(length)
    return data[:start] + filled + data[start + length :]


def cut(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    low, high = part(draw, data)
    return data[: draw.randrange(low, high)]


def lengthened(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data + draw.randbytes(draw.randint(1, 64))


def missing(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A run of bytes that is not there; what stood behind it moved up."""
    low, high = part(draw, data)
    start = draw.randrange(low, high)
    return data[:start] + data[start + draw.randint(1, 32) :]


def doubled(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    low, high = part(draw, data)
    start = draw.randrange(low, high)
    return data[:start] + data[start : start + draw.randint(1, 32)] + data[start:]


def with_another_head(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The head, or one part of it, of another whole file."""
    other = draw.choice(others)
    low, high = part(draw, data)
    return other[:HEAD] + data[HEAD:] if low >= HEAD else data[:low] + other[low:high] + data[high:]


def with_another_payload(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others)
    start = HEAD + int.from_bytes(data[12:16], "little")
    return data[:start] + other[HEAD + int.from_bytes(other[12:16], "little") :]


def another_number(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A length or the format, of any size: what is made of it must not be believed."""
    low, high = draw.choice([(8, 12), (12, 16), (16, 24)])
    number = draw.choice([0, 1, 255, 1 << 31, (1 << 8 * (high - low)) - 1, draw.randrange(1 << 8 * (high - low))])
    return data[:low] + number.to_bytes(high - low, "little") + data[high:]


def garbage(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Something else altogether: noise, zeros, text, JSON, an ONNX file's beginning, the magic and no more."""
    size = draw.choice([0, 1, 8, HEAD - 1, HEAD, HEAD + 1, len(data)])
    kinds = [draw.randbytes(size), bytes(size), b"plan\n" * size, b"{" * size, b"\x08\x08:A" * size, data[:8] * size]
    return draw.choice(kinds)


MUTATIONS: tuple[Mutation, ...] = (
    flipped,
    several_flipped,
    overwritten,
    cut,
    lengthened,
    missing,
    doubled,
    with_another_head,
    with_another_payload,
    another_number,
    garbage,
)


def mutated(draw: random.Random, data: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """The name of a way, and what it made of ``data``: never the same, and none of ``others``."""
    while True:
        way = draw.choice(MUTATIONS)
        made = way(draw, data, others)
        if made != data and made not in others:
            return way.__name__, made


def _with(data: bytes, at: int, change: Callable[[int], int]) -> bytes:
    return data[:at] + bytes([change(data[at])]) + data[at + 1 :]
