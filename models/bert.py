"""A BERT encoder: ids and mask in, hidden states and a pooled vector out; the full size is BERT-base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule

from .blocks import MASKED, feed_forward, layer_norm, linear, self_attention
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

TINY_VOCABULARY, FULL_VOCABULARY = 512, 30522
MASK = InputRule("attention_mask", "mask")


def ids(vocabulary: int) -> InputRule:
    return InputRule("input_ids", "integers", low=0, high=vocabulary - 1)


@model(
    "bert",
    profile={"batch": (1, 2, 4), "seq": (4, 16, 32)},
    full_profile={"batch": (1, 1, 2), "seq": (8, 32, 64)},
    batch="batch",
    inputs=(ids(TINY_VOCABULARY), MASK),
    full_inputs=(ids(FULL_VOCABULARY), MASK),
    tiny={"vocabulary": TINY_VOCABULARY, "positions": 64, "layers": 2, "width": 64, "heads": 4},
    full={"vocabulary": FULL_VOCABULARY, "positions": 512, "layers": 12, "width": 768, "heads": 12},
)
def bert(g: Graph, *, vocabulary: int, positions: int, layers: int, width: int, heads: int) -> None:
    tokens = g.input("input_ids", ("batch", "seq"), "int64")
    mask = g.input("attention_mask", ("batch", "seq"), "int64")

    with g.scope("embeddings"):
        place = op.slice(g.weight("position.weight", (positions, width), 0.5), g.ints(0), g.size(tokens, 1), g.ints(0))
        x = op.add(op.gather(g.weight("word.weight", (vocabulary, width), 1.0), tokens), place)
        x = layer_norm(g, "norm", x, width)

    unseen = op.sub(g.constant(1.0), op.cast(op.unsqueeze(mask, g.ints(1, 2)), to="float32"))
    bias = op.mul(unseen, g.constant(MASKED))
    for layer in range(layers):
        with g.scope(f"layer{layer}"):
            x = layer_norm(g, "attn.norm", op.add(x, self_attention(g, "attn", x, width, heads, bias=bias)), width)
            x = layer_norm(g, "mlp.norm", op.add(x, feed_forward(g, "mlp", x, width)), width)

    first = op.squeeze(op.slice(x, g.ints(0), g.ints(1), g.ints(1)), g.ints(1))
    g.output("hidden", x, ("batch", "seq", width))
    g.output("pooled", op.tanh(linear(g, "pooler", first, width, width)), ("batch", width))


MODELS = bert
