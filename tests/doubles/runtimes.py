"""The listing of a runtime without a builder, made from that of its TensorRT.

Nobody has introspected ``tensorrt_lean`` or ``tensorrt_dispatch`` here. Their bindings are compiled from the same
sources with what builds, parses, quantizes, inspects and selects algorithms left out, and the formats of tensors
with the networks, though what returns an inspector or a format is there; no plugins are initialized. What a runtime
can do without is left out as well, so that nothing relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES = (
    *("ILogger", "Logger", "Runtime", "ICudaEngine", "IExecutionContext", "Refitter", "IHostMemory", "Weights"),
    *("Dims", "IOutputAllocator", "IPluginRegistry", "IProfiler", "IErrorRecorder", "IGpuAllocator"),
)
ENUMS = (
    *("DataType", "TensorIOMode", "LayerInformationFormat", "EngineCapability", "BuilderFlag"),
    *("ProfilingVerbosity", "HardwareCompatibilityLevel", "ErrorCodeTRT", "TempfileControlFlag", "WeightsRole"),
    *("PreviewFeature", "MemoryPoolType"),
)
# Of methods those that need another class.
WITHOUT = {"IPluginRegistry": ("register_creator", "deregister_creator", "get_plugin_creator", "plugin_creator_list")}
# Methods that are there and return what is not: pybind11 makes no Python object of it.
UNCONVERTIBLE = {
    "ICudaEngine": (
        *("get_tensor_format", "get_binding_format", "get_tensor_location", "get_location"),
        "create_engine_inspector",
    )
}


def without_builder(listing: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """``listing`` of TensorRT as that of its runtime ``kind``, "lean" or "dispatch"."""
    classes = {}
    for name in CLASSES:
        entry = dict(listing["classes"][name])
        left_out = (*WITHOUT.get(name, ()), *UNCONVERTIBLE.get(name, ()))
        for members in ("methods", "properties"):
            entry[members] = {n: value for n, value in entry.get(members, {}).items() if n not in left_out}
        classes[name] = entry
    enums = {name: listing["enums"][name] for name in ENUMS if name in listing["enums"]}
    return {
        **listing,
        "module": f"tensorrt_{kind}",
        "classes": classes,
        "enums": enums,
        "functions": {name: texts for name, texts in listing["functions"].items() if name in ("volume", "nptype")},
        "constants": {name: value for name, value in listing["constants"].items() if value.partition(".")[0] in enums},
    }


def refuse_conversions(classes: Mapping[str, type]) -> None:
    """Give ``classes`` the methods of `UNCONVERTIBLE`, each of which fails as pybind11 does."""

    def refuse(_self: Any, *_args: Any, **_named: Any) -> None:
        raise TypeError("Unable to convert function return value to a Python type!")

    for owner, names in UNCONVERTIBLE.items():
        for name in names:
            type.__setattr__(classes[owner], name, refuse)
