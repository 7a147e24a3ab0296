"""``op``: the operators of opset 17, as spox has them; spox is imported with the first one used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["op"]

if TYPE_CHECKING:
    from spox.opset.ai.onnx import v17 as op
else:

    class _OnFirstUse:
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("spox.opset.ai.onnx.v17"), name)

    op = _OnFirstUse()
