"""The listing of a runtime without a builder, made from that of its TensorRT.

Nobody has introspected ``tensorrt_lean`` or ``tensorrt_dispatch`` here. Their bindings are compiled from the same
sources with what builds, parses, quantizes and selects algorithms left out, and no plugins are initialized; what
a runtime can do without is left out as well, so that nothing relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES = (
    *("ILogger", "Logger", "Runtime", "ICudaEngine", "IExecutionContext", "EngineInspector", "IHostMemory"),
    *("Dims", "IOutputAllocator", "IPluginRegistry", "IProfiler", "IErrorRecorder", "IGpuAllocator"),
)
ENUMS = (
    *("DataType", "TensorIOMode", "TensorLocation", "TensorFormat", "LayerInformationFormat", "EngineCapability"),
    *("ProfilingVerbosity", "HardwareCompatibilityLevel", "ErrorCodeTRT", "TempfileControlFlag", "WeightsRole"),
)
# Of methods those that need another class.
WITHOUT = {"IPluginRegistry": ("register_creator", "deregister_creator", "get_plugin_creator", "plugin_creator_list")}


def without_builder(listing: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """``listing`` of TensorRT as that of its runtime ``kind``, "lean" or "dispatch"."""
    classes = {}
    for name in CLASSES:
        entry = dict(listing["classes"][name])
        for members in ("methods", "properties"):
            kept = {n: value for n, value in entry.get(members, {}).items() if n not in WITHOUT.get(name, ())}
            entry[members] = kept
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
