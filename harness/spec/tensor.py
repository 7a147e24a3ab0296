"""Tensors by name, with dimensions that are numbers, symbols, or sums of both.

A dimension is an int, or text such as ``batch`` or ``past+seq``: the same symbol is the same number
wherever it stands, and exporters do write sums for the length of a KV cache.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

Dim = int | str


def symbols(dim: Dim) -> tuple[str, ...]:
    """The symbols in ``dim``, in order: ``past+seq+1`` gives ``("past", "seq")``."""
    if isinstance(dim, int):
        return ()
    return tuple(term for term in _terms(dim) if not term.isdigit())


def evaluate(dim: Dim, binding: Mapping[str, int]) -> int:
    """The number that ``dim`` stands for; KeyError when ``binding`` lacks one of its symbols."""
    if isinstance(dim, int):
        return dim
    if dim in binding:  # which most are by themselves
        return binding[dim]
    return sum(int(term) if term.isdigit() else binding[term] for term in _terms(dim))


@functools.lru_cache(maxsize=4096)
def _terms(dim: str) -> tuple[str, ...]:
    return tuple(term.strip() for term in dim.split("+"))


@dataclass(frozen=True)
class TensorSpec:
    """One input or output as the model declares it."""

    name: str
    dtype: str  # numpy's name ("float32", "int64", "bool") or ml_dtypes' ("bfloat16")
    shape: tuple[Dim, ...]  # an unnamed dynamic dimension is the symbol "<name>:<axis>"

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset(symbol for dim in self.shape for symbol in symbols(dim))

    def resolve(self, binding: Mapping[str, int]) -> tuple[int, ...]:
        """The shape under ``binding``; KeyError when a symbol is missing."""
        return tuple(evaluate(dim, binding) for dim in self.shape)
