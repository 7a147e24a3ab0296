"""A decoder of today: RMS normalization, rotary positions, grouped queries, a gated feed-forward."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.spec import InputRule

from .blocks import AVERAGED, attend, linear, merge_heads, split_heads
from .declare import model
from .normalization import rms_norm
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

VOCABULARY = 256


@model(
    "llama",
    profile={"batch": (1, 2, 4), "seq": (1, 8, 24)},
    further=({"batch": (1, 8, 16), "seq": (1, 4, 6)},),  # many requests, each of a few tokens
    batch="batch",
    inputs=(InputRule("input_ids", "integers", low=0, high=VOCABULARY - 1),),
    tiny={"layers": 2, "width": 64, "heads": 4, "groups": 2},
)
def llama(g: Graph, *, layers: int, width: int, heads: int, groups: int) -> None:
    dim = width // heads
    tokens = g.input("input_ids", ("batch", "seq"), "int64")
    place = op.range(g.constant(0, "int64"), op.squeeze(g.size(tokens, 1)), g.constant(1, "int64"))
    allowed = op.less_or_equal(op.unsqueeze(place, g.ints(0)), op.unsqueeze(place, g.ints(1)))
    rates = g.constant([10000.0 ** (-2 * i / dim) for i in range(dim // 2)])
    angles = op.mul(op.unsqueeze(op.cast(place, to="float32"), g.ints(1)), rates)  # [seq, dim / 2]
    turns = op.concat((angles, angles), axis=1)
    cos, sin = op.cos(turns), op.sin(turns)

    x = op.gather(g.weight("embedding.weight", (VOCABULARY, width), 1.0), tokens)
    share = 1 / math.sqrt(2 * layers)
    for layer in range(layers):
        with g.scope(f"layer{layer}"):
            normed = rms_norm(g, "attn.norm", x, width)
            q = split_heads(g, linear(g, "attn.q", normed, width, width, bias=False), heads, dim)
            k = split_heads(g, linear(g, "attn.k", normed, width, groups * dim, bias=False), groups, dim)
            v = split_heads(g, linear(g, "attn.v", normed, width, groups * dim, bias=False), groups, dim)
            q, k = rotate(g, q, cos, sin, dim), rotate(g, k, cos, sin, dim)
            k, v = (repeat(g, each, heads, groups, dim) for each in (k, v))
            mixed = merge_heads(g, attend(g, q, k, v, dim, allowed=allowed), width)
            x = op.add(x, linear(g, "attn.out", mixed, width, width, gain=AVERAGED * share, bias=False))
            normed = rms_norm(g, "mlp.norm", x, width)
            gate = linear(g, "mlp.gate", normed, width, 2 * width, bias=False)
            up = linear(g, "mlp.up", normed, width, 2 * width, bias=False)
            wide = op.mul(op.mul(gate, op.sigmoid(gate)), up)
            x = op.add(x, linear(g, "mlp.down", wide, 2 * width, width, gain=1.7 * share, bias=False))
    logits = linear(g, "head", rms_norm(g, "norm", x, width), width, VOCABULARY, bias=False)
    g.output("logits", logits, ("batch", "seq", VOCABULARY))


def rotate(g: Graph, x: Var, cos: Var, sin: Var, dim: int) -> Var:
    """Each pair of features turned by an angle that grows with the position."""
    low = op.slice(x, g.ints(0), g.ints(dim // 2), g.ints(3))
    high = op.slice(x, g.ints(dim // 2), g.ints(dim), g.ints(3))
    return op.add(op.mul(x, cos), op.mul(op.concat((op.neg(high), low), axis=3), sin))


def repeat(g: Graph, x: Var, heads: int, groups: int, dim: int) -> Var:
    """[batch, groups, seq, dim] to [batch, heads, seq, dim]: each group serves several heads."""
    wide = op.expand(op.unsqueeze(x, g.ints(2)), g.ints(1, 1, heads // groups, 1, 1))
    return op.reshape(wide, op.concat((g.size(x, 0), g.ints(heads), g.size(x, 2), g.ints(dim)), axis=0))


MODELS = llama
