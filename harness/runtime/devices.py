"""Which devices a process may use, and what tells each from the others of its machine, without a call to CUDA."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.runtime import telemetry

CPU = "cpu"  # the key of the device on which every backend works that is no TensorRT
_NODE = re.compile(r"nvidia\d+")


def devices(root: Path = Path("/dev")) -> tuple[int, ...]:
    """The GPUs that a process here may use, as CUDA numbers them."""
    names = _visible()
    if names is not None:
        valid = [name for name in names if name and name != "-1" and name != "NoDevFiles"]
        return tuple(range(len(valid)))
    count = sum(1 for entry in root.iterdir() if _NODE.fullmatch(entry.name)) if root.is_dir() else 0
    return tuple(range(count))


def key_for(backend: str, number: int = 0) -> str:
    """The key of the device on which ``backend`` works, given the GPU of this ``number``; `CPU` where it is none."""
    return key_of(number) if backend.startswith("tensorrt") and devices() else CPU


def key_of(number: int) -> str:
    """What tells a GPU from others of the machine, whatever this process calls it: its UUID where NVML knows it.

    Else what the environment calls it. NVML numbers GPUs by their place on the bus, and so does CUDA here, unless
    the user has asked for another order: then a number says nothing.
    """
    names = _visible()
    name = names[number] if names is not None and number < len(names) else str(number)
    known = telemetry.uuids()
    if name.isdecimal():
        ordered = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID") == "PCI_BUS_ID"
        found = known[int(name)] if ordered and int(name) < len(known) else name
    else:
        found = next((uuid for uuid in known if uuid.startswith(name)), name)  # CUDA takes the beginning of one
    return re.sub(r"[^\w-]", "_", found)


def _visible() -> list[str] | None:
    """What the environment calls the GPUs; None where it hides none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else [name.strip() for name in visible.split(",")]
