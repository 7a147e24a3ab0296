"""What the driver tells of a GPU beside a measurement, through NVML: clocks and what holds them, heat, power, company.

Nothing here is in a timed window: a reading takes milliseconds. What can't be read (no driver, no privilege, a GPU
that lacks a sensor) is named, and the rest is read all the same.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

# NVML's ClocksEventReasons, by bit: why clocks are below what they could be.
HELD_BACK = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clock setting",
    0x400: "reliability",
}


@dataclass(frozen=True)
class Reading:
    """One look at a GPU. None for what could not be read; ``missing`` says why, by the name of the field.

    Clocks in MHz, power in W, energy in J since the driver was loaded, temperature in degrees Celsius,
    memory in bytes. ``processes`` are the ids of those that compute there, as the driver numbers them,
    which in a container are not those that the container knows. ``at`` is in seconds since 1970.
    """

    sm_clock: int | None = None
    memory_clock: int | None = None
    held_back: tuple[str, ...] | None = None  # values of `HELD_BACK`
    temperature: int | None = None
    power: float | None = None
    energy: float | None = None
    memory_used: int | None = None
    processes: tuple[int, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0


class Monitor(Protocol):
    """Reads one GPU."""

    def read(self) -> Reading:
        """How it is now; never raises."""

    def close(self) -> None: ...


class Unmonitored:
    """Stands for a GPU that can't be read, or for none: all is missing, for one ``reason``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def read(self) -> Reading:
        return Reading(missing=dict.fromkeys(_READ, self.reason), at=time.time())

    def close(self) -> None:
        """Nothing is held."""


class NvmlMonitor:
    """Reads the GPU with this ``handle``, and ends NVML on ``close``."""

    def __init__(self, nvml: Any, handle: int) -> None:
        self._nvml, self._handle = nvml, handle

    def read(self) -> Reading:
        found: dict[str, Any] = {}
        missing = {}
        for name, ask in _READ.items():
            try:
                found[name] = ask(self._nvml, self._handle)
            except (
                self._nvml.NvmlError,
                RuntimeError,
                AttributeError,
            ) as error:  # RuntimeError: an older driver's library
                missing[name] = str(error) or type(error).__name__
        return Reading(**found, missing=missing, at=time.time())

    def close(self) -> None:
        self._nvml.shutdown()


def monitor(uuid: str) -> Monitor:
    """A monitor of the GPU with this ``uuid``, 32 hexadecimal digits, as `harness.runtime.device.describe` tells it.

    `Unmonitored`, with the reason, where there is no NVML, or it does not know that GPU.
    """
    if not uuid:
        return Unmonitored("no GPU")
    nvml = _started()
    if isinstance(nvml, str):
        return Unmonitored(nvml)
    try:
        return NvmlMonitor(nvml, nvml.device_get_handle_by_uuid(_spelled(uuid)))
    except nvml.NvmlError as error:
        nvml.shutdown()
        return Unmonitored(f"NVML does not know GPU {_spelled(uuid)}: {error}")


def fresh(watching: Monitor, patience: float = 0.3) -> Reading:
    """A reading as soon as the energy counter has moved, so that it is no older than the reading itself takes.

    The driver brings it up to date every 20 to 100 ms, as seen on several GPUs. The last reading where there is no
    counter, or where it stands still for ``patience`` seconds.
    """
    first = reading = watching.read()
    until = time.monotonic() + patience
    while first.energy is not None and reading.energy == first.energy and time.monotonic() < until:
        reading = watching.read()
    return reading


def power_limit(uuid: str) -> str:
    """What the GPU with this ``uuid`` may draw, as it is set now: "700 W". "" where nobody tells.

    It is the limit that an administrator sets (``nvidia-smi -pl``), and that tells variants of one product apart.
    """
    nvml = _started() if uuid else ""
    if isinstance(nvml, str):
        return ""
    try:
        handle = nvml.device_get_handle_by_uuid(_spelled(uuid))
        return f"{round(nvml.device_get_power_management_limit(handle) / 1e3)} W"
    except (nvml.NvmlError, RuntimeError, AttributeError):
        return ""
    finally:
        nvml.shutdown()


@functools.cache
def uuids() -> tuple[str, ...]:
    """Of the machine's GPUs as NVML numbers them, by their place on the bus: "GPU-8-4-4-4-12". Empty without NVML."""
    nvml = _started()
    if isinstance(nvml, str):
        return ()
    try:
        handles = [nvml.device_get_handle_by_index_v2(index) for index in range(nvml.device_get_count_v2())]
        return tuple(str(nvml.device_get_uuid(handle)) for handle in handles)
    except nvml.NvmlError:
        return ()
    finally:
        nvml.shutdown()


def _started() -> Any:
    """NVML, to be shut down; or in words why it can't be had."""
    try:
        from harness.runtime.device import management

        nvml = management()
        nvml.init_v2()
    except (ImportError, RuntimeError) as error:
        return f"no NVML: {error}"
    except Exception as error:  # NVML's own, which only its module names
        return f"NVML can't be started: {error}"
    return nvml


def _spelled(uuid: str) -> str:
    """As NVML writes it: GPU-8-4-4-4-12."""
    digits = uuid.lower()
    return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _held_back(nvml: Any, handle: int) -> tuple[str, ...]:
    reasons = int(nvml.device_get_current_clocks_event_reasons(handle))
    return tuple(name for bit, name in HELD_BACK.items() if reasons & bit)


def _processes(nvml: Any, handle: int) -> tuple[int, ...]:
    return tuple(sorted(int(one.pid) for one in nvml.device_get_compute_running_processes_v3(handle)))


_READ: dict[str, Callable[[Any, int], Any]] = {
    "sm_clock": lambda nvml, handle: int(nvml.device_get_clock_info(handle, nvml.ClockType.CLOCK_SM)),
    "memory_clock": lambda nvml, handle: int(nvml.device_get_clock_info(handle, nvml.ClockType.CLOCK_MEM)),
    "held_back": _held_back,
    "temperature": lambda nvml, handle: int(
        nvml.device_get_temperature_v(handle, nvml.TemperatureSensors.TEMPERATURE_GPU)
    ),
    "power": lambda nvml, handle: nvml.device_get_power_usage(handle) / 1e3,
    "energy": lambda nvml, handle: nvml.device_get_total_energy_consumption(handle) / 1e3,
    "memory_used": lambda nvml, handle: int(nvml.device_get_memory_info_v2(handle).used),
    "processes": _processes,
}
