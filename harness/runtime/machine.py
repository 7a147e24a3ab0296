"""What a measurement depends on beside the backend: the machine's name, its processor, its driver, its power limit."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from harness.runtime.telemetry import power_limit

CPUINFO = Path("/proc/cpuinfo")


def machine(gpu: str = "") -> dict[str, str]:
    """``host``, ``cpu``, and ``driver`` where there is one: "580.159.04".

    Of the GPU with the UUID ``gpu`` its ``power_limit``, "700 W", where it is told: it may be set anew at any time.
    """
    found = {**_lasting(), "power_limit": power_limit(gpu)}
    return {name: value for name, value in found.items() if value}


@functools.cache
def _lasting() -> dict[str, str]:
    return {"host": platform.node(), "cpu": _processor(), "driver": _driver()}


def _processor() -> str:
    """The product's name. On Linux the kernel's, since Python's own is often empty there."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def _driver() -> str:
    """As NVML tells it; "" where there is none."""
    try:
        from harness.runtime.device import management

        nvml = management()
        nvml.init_v2()
    except Exception:  # NVML's own errors, which only its module names: no driver, no library
        return ""
    try:
        return str(nvml.system_get_driver_version())
    except nvml.NvmlError:
        return ""
    finally:
        nvml.shutdown()
