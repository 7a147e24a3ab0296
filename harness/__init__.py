"""trt-harness: a regression and performance harness for NVIDIA TensorRT.

The names below load on first use; importing this package alone costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "harness.errors": (
        "BuildError",
        "ComparisonFailure",
        "DeserializeError",
        "HarnessError",
        "ParseError",
        "RefitError",
        "Regression",
        "RunError",
        "SpecError",
        "StageError",
        "UnsupportedError",
    ),
    "harness.spec": (
        "BuildConfig",
        "EngineSpec",
        "InputRule",
        "ModelSpec",
        "NetworkFunction",
        "OnnxFile",
        "OnnxFunction",
        "PlanFile",
        "Profile",
        "Range",
        "Recipe",
        "TensorSpec",
        "ToleranceOverride",
        "Values",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted([*_HOME_OF, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
