"""The zoo: small networks of every kind that TensorRT meets, built as ONNX from a seed.

`WRITTEN` are those of this package, one family a file; `ZOO` has those that the onnx package ships
as well. Nothing is built, and no numpy, onnx or spox imported, before a model's file is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    attention,
    bert,
    branch,
    conv,
    conv_nd,
    depthwise,
    detection,
    dtypes,
    elementwise,
    gpt,
    gru,
    indexing,
    light,
    llama,
    loop,
    lstm,
    matmul,
    mlp,
    movement,
    normalization,
    outputs,
    pooling,
    quantized,
    reduction,
    resnet,
    selection,
    shapes,
    shipped,
    translation,
    unet,
    vit,
)

if TYPE_CHECKING:
    from harness.spec import ModelSpec

__all__ = ["WRITTEN", "ZOO"]

_FAMILIES = (
    mlp,
    conv,
    resnet,
    depthwise,
    conv_nd,
    pooling,
    unet,
    detection,
    vit,
    bert,
    gpt,
    llama,
    translation,
    attention,
    lstm,
    gru,
    branch,
    loop,
    shapes,
    selection,
    indexing,
    normalization,
    reduction,
    matmul,
    elementwise,
    movement,
    dtypes,
    outputs,
    quantized,
)

WRITTEN: tuple[ModelSpec, ...] = tuple(spec for family in _FAMILIES for spec in family.MODELS)
# Those that take longest to build come first, so that no worker is left alone with one at the end.
ZOO: tuple[ModelSpec, ...] = (*light.MODELS, *WRITTEN, *shipped.MODELS)
