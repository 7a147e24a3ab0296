"""What a model's inputs may hold: rules, not arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Special = Literal["zeros", "ones", "largest", "denormal", "inf", "nan"]
SPECIALS: tuple[Special, ...] = get_args(Special)
UNDEFINED: frozenset[Special] = frozenset({"inf", "nan"})  # only for a model whose operators define them: `special`
Kind = Literal["normal", "uniform", "integers", "mask", "lengths", "fixed"]


@dataclass(frozen=True)
class InputRule:
    """How to fill one input.

    ``normal``: mean 0, variance 1. ``uniform``: [low, high). ``integers``: low to high, both
    inclusive. ``mask``: along the last axis a run of ones, at least one, then zeros. ``lengths``:
    integers from 1 to the size bound to ``symbol``. ``fixed``: ``low`` everywhere.
    """

    tensor: str
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    symbol: str = ""
