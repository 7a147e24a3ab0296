"""An encoder-decoder transformer: the decoder looks at itself, then across at the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule

from .blocks import (
    AVERAGED,
    MASKED,
    attend,
    feed_forward,
    layer_norm,
    linear,
    merge_heads,
    self_attention,
    split_heads,
)
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

VOCABULARY = 256


@model(
    "translation",
    profile={"batch": (1, 2, 4), "source": (4, 12, 24), "target": (1, 6, 16)},
    batch="batch",
    inputs=(
        InputRule("source_ids", "integers", low=0, high=VOCABULARY - 1),
        InputRule("source_mask", "mask"),
        InputRule("target_ids", "integers", low=0, high=VOCABULARY - 1),
    ),
    tiny={"width": 64, "heads": 4},
)
def translation(g: Graph, *, width: int, heads: int) -> None:
    source = g.input("source_ids", ("batch", "source"), "int64")
    mask = g.input("source_mask", ("batch", "source"), "bool")
    target = g.input("target_ids", ("batch", "target"), "int64")

    table = g.weight("embedding.weight", (VOCABULARY, width), 1.0)
    unseen = op.where(op.unsqueeze(mask, g.ints(1, 2)), g.constant(0.0), g.constant(MASKED))
    with g.scope("encoder"):
        memory = layer_norm(g, "norm0", embed(g, table, source, width), width)
        memory = op.add(memory, self_attention(g, "attn", memory, width, heads, bias=unseen))
        memory = layer_norm(g, "norm1", memory, width)
        memory = layer_norm(g, "norm2", op.add(memory, feed_forward(g, "mlp", memory, width)), width)

    place = op.range(g.constant(0, "int64"), op.squeeze(g.size(target, 1)), g.constant(1, "int64"))
    later = op.greater(op.unsqueeze(place, g.ints(0)), op.unsqueeze(place, g.ints(1)))  # [target, target]
    causal = op.where(later, g.constant(MASKED), g.constant(0.0))
    with g.scope("decoder"):
        x = layer_norm(g, "norm0", embed(g, table, target, width), width)
        x = layer_norm(g, "norm1", op.add(x, self_attention(g, "attn", x, width, heads, bias=causal)), width)
        x = layer_norm(g, "norm2", op.add(x, cross_attention(g, "cross", x, memory, unseen, width, heads)), width)
        x = layer_norm(g, "norm3", op.add(x, feed_forward(g, "mlp", x, width)), width)

    g.output("logits", linear(g, "head", x, width, VOCABULARY), ("batch", "target", VOCABULARY))
    g.output("memory", memory, ("batch", "source", width))


def embed(g: Graph, table: Var, tokens: Var, width: int) -> Var:
    place = op.slice(g.weight("position.weight", (32, width), 0.5), g.ints(0), g.size(tokens, 1), g.ints(0))
    return op.add(op.gather(table, tokens), place)


def cross_attention(g: Graph, name: str, x: Var, memory: Var, bias: Var, width: int, heads: int) -> Var:
    """Queries from ``x``, keys and values from ``memory``; both projected at once, as exporters fuse them."""
    dim = width // heads
    with g.scope(name):
        q = split_heads(g, linear(g, "q", x, width, width), heads, dim)
        both = linear(g, "kv", memory, width, 2 * width)
        k, v = (split_heads(g, part, heads, dim) for part in op.split(both, outputs_count=2, axis=-1))
        mixed = merge_heads(g, attend(g, q, k, v, dim, bias=bias), width)
        return linear(g, "out", mixed, width, width, gain=AVERAGED)


MODELS = translation
