"""A vision transformer; the full size is ViT-B/16."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .blocks import feed_forward, layer_norm, linear, self_attention
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model(
    "vit",
    profile={"batch": (1, 4, 8)},
    full_profile={"batch": (1, 1, 2)},
    batch="batch",
    tags=("classifier",),
    tiny={"image": 32, "patch": 8, "layers": 2, "width": 64, "heads": 4, "classes": 10},
    full={"image": 224, "patch": 16, "layers": 12, "width": 768, "heads": 12, "classes": 1000},
)
def vit(g: Graph, *, image: int, patch: int, layers: int, width: int, heads: int, classes: int) -> None:
    tokens = (image // patch) ** 2
    x = g.input("image", ("batch", 3, image, image))
    kernel = g.weight("patch.weight", (width, 3, patch, patch), 1 / math.sqrt(3 * patch * patch))
    patches = op.conv(x, kernel, kernel_shape=(patch, patch), strides=(patch, patch))
    patches = op.transpose(op.reshape(patches, g.ints(0, width, tokens)), perm=(0, 2, 1))
    rows = op.concat((g.size(x, 0), g.ints(1, width)), axis=0)
    first = op.expand(g.weight("class.weight", (1, 1, width), 1.0), rows)
    x = op.add(op.concat((first, patches), axis=1), g.weight("position.weight", (1, tokens + 1, width), 0.5))

    share = 1 / math.sqrt(2 * layers)
    for layer in range(layers):
        with g.scope(f"layer{layer}"):
            normed = layer_norm(g, "attn.norm", x, width)
            x = op.add(x, self_attention(g, "attn", normed, width, heads, gain=share))
            x = op.add(x, feed_forward(g, "mlp", layer_norm(g, "mlp.norm", x, width), width, gain=share))

    x = op.gather(layer_norm(g, "norm", x, width), g.constant(0, "int64"), axis=1)
    g.output("logits", linear(g, "head", x, width, classes), ("batch", classes))


MODELS = vit
