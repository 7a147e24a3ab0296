"""A GPT decoder step with its KV cache: what one pass adds to the past is part of the outputs.

Keys run over ``past+seq``: two symbols that share one dimension, as exporters write it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.spec import InputRule

from .blocks import AVERAGED, attend, feed_forward, layer_norm, linear, merge_heads, split_heads
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

TINY_VOCABULARY, FULL_VOCABULARY = 256, 8192
MASK = InputRule("attention_mask", "mask")


def ids(vocabulary: int) -> InputRule:
    return InputRule("input_ids", "integers", low=0, high=vocabulary - 1)


@model(
    "gpt",
    profile={"batch": (1, 2, 4), "past": (1, 8, 24), "seq": (1, 4, 8)},
    full_profile={"batch": (1, 1, 2), "past": (1, 32, 128), "seq": (1, 4, 16)},
    batch="batch",
    inputs=(ids(TINY_VOCABULARY), MASK),
    full_inputs=(ids(FULL_VOCABULARY), MASK),
    tiny={"vocabulary": TINY_VOCABULARY, "positions": 64, "layers": 2, "width": 64, "heads": 4},
    full={"vocabulary": FULL_VOCABULARY, "positions": 256, "layers": 2, "width": 1024, "heads": 16},
)
def gpt(g: Graph, *, vocabulary: int, positions: int, layers: int, width: int, heads: int) -> None:
    dim = width // heads
    tokens = g.input("input_ids", ("batch", "seq"), "int64")
    mask = g.input("attention_mask", ("batch", "past+seq"), "int64")
    cache = [
        tuple(g.input(f"past_{part}_{layer}", ("batch", heads, "past", dim)) for part in ("key", "value"))
        for layer in range(layers)
    ]

    past = op.squeeze(g.size(cache[0][0], 2))
    total = op.add(past, op.squeeze(g.size(tokens, 1)))
    one = g.constant(1, "int64")
    queries = op.range(past, total, one)
    keys = op.range(g.constant(0, "int64"), total, one)
    causal = op.less_or_equal(op.unsqueeze(keys, g.ints(0)), op.unsqueeze(queries, g.ints(1)))  # [seq, past+seq]
    seen = op.cast(op.unsqueeze(mask, g.ints(1, 2)), to="bool")  # [batch, 1, 1, past+seq]
    allowed = op.and_(seen, causal)

    x = op.add(
        op.gather(g.weight("token.weight", (vocabulary, width), 1.0), tokens),
        op.gather(g.weight("position.weight", (positions, width), 0.5), queries),
    )
    share = 1 / math.sqrt(2 * layers)  # so that the residual stream grows by one over all layers
    present: list[tuple[Var, Var]] = []
    for layer, (past_key, past_value) in enumerate(cache):
        with g.scope(f"layer{layer}"):
            normed = layer_norm(g, "attn.norm", x, width)
            q, k, v = (
                split_heads(g, linear(g, f"attn.{part}", normed, width, width), heads, dim) for part in ("q", "k", "v")
            )
            k, v = op.concat((past_key, k), axis=2), op.concat((past_value, v), axis=2)
            present.append((k, v))
            mixed = merge_heads(g, attend(g, q, k, v, dim, allowed=allowed), width)
            x = op.add(x, linear(g, "attn.out", mixed, width, width, gain=AVERAGED * share))
            x = op.add(x, feed_forward(g, "mlp", layer_norm(g, "mlp.norm", x, width), width, gain=share))

    logits = linear(g, "head", layer_norm(g, "norm", x, width), width, vocabulary, bias=False)
    g.output("logits", logits, ("batch", "seq", vocabulary))
    for layer, (k, v) in enumerate(present):
        g.output(f"present_key_{layer}", k, ("batch", heads, "past+seq", dim))
        g.output(f"present_value_{layer}", v, ("batch", heads, "past+seq", dim))


MODELS = gpt
