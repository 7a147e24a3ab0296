"""NVML is played: what is read, in which units, and what is said of all that can't be."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cuda.bindings import nvml as real

from harness.runtime import device
from harness.runtime.machine import machine
from harness.runtime.telemetry import HELD_BACK, NvmlMonitor, Reading, Unmonitored, monitor, power_limit, uuids

UUID = "0123456789abcdef0123456789abcdef"


class Refusal(real.NvmlError):  # type: ignore[misc]
    """The real one asks the driver's library for its words."""

    def __init__(self, words: str) -> None:
        Exception.__init__(self, words)


class Player:
    """NVML with one GPU. Names are those of the real module, whose functions take the same number of arguments."""

    NvmlError, ClockType, TemperatureSensors = real.NvmlError, real.ClockType, real.TemperatureSensors

    def __init__(self) -> None:
        self.running, self.refused = 0, set[str]()

    def init_v2(self) -> None:
        self.running += 1

    def shutdown(self) -> None:
        self.running -= 1

    def device_get_count_v2(self) -> int:
        return int(self._told("count", 7, 1))

    def device_get_handle_by_index_v2(self, index: int) -> int:
        assert index == 0
        return 7

    def device_get_uuid(self, handle: int) -> str:
        return str(self._told("uuid", handle, "GPU-01234567-89ab-cdef-0123-456789abcdef"))

    def device_get_handle_by_uuid(self, uuid: str) -> int:
        if uuid != "GPU-01234567-89ab-cdef-0123-456789abcdef":
            raise Refusal("Not Found")
        return 7

    def _told(self, name: str, handle: int, value: Any) -> Any:
        assert handle == 7
        if name in self.refused:
            raise Refusal("Not Supported")
        return value

    def device_get_clock_info(self, handle: int, kind: int) -> int:
        return int(self._told("clock", handle, {real.ClockType.CLOCK_SM: 1980, real.ClockType.CLOCK_MEM: 2619}[kind]))

    def device_get_current_clocks_event_reasons(self, handle: int) -> int:
        return int(self._told("reasons", handle, 0x1 | 0x4 | 0x40))

    def device_get_temperature_v(self, handle: int, sensor: int) -> int:
        assert sensor == real.TemperatureSensors.TEMPERATURE_GPU
        return int(self._told("temperature", handle, 41))

    def device_get_power_management_limit(self, handle: int) -> int:
        return int(self._told("limit", handle, 699_999))

    def device_get_power_usage(self, handle: int) -> int:
        return int(self._told("power", handle, 321_500))

    def device_get_total_energy_consumption(self, handle: int) -> int:
        return int(self._told("energy", handle, 9_000))

    def device_get_memory_info_v2(self, handle: int) -> Any:
        return self._told("memory", handle, types.SimpleNamespace(used=5 << 20))

    def device_get_compute_running_processes_v3(self, handle: int) -> list[Any]:
        found: list[Any] = self._told("processes", handle, [types.SimpleNamespace(pid=pid) for pid in (30, 20)])
        return found


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    player = Player()
    monkeypatch.setattr(device, "management", lambda: player)
    return player


def test_a_gpu_is_read(player: Player) -> None:
    watching = monitor(UUID)
    reading = watching.read()
    assert reading == Reading(
        sm_clock=1980,
        memory_clock=2619,
        held_back=("power cap", "hardware thermal slowdown"),
        temperature=41,
        power=321.5,
        energy=9.0,
        memory_used=5 << 20,
        processes=(20, 30),
        at=reading.at,
    )
    assert player.running == 1
    watching.close()
    assert player.running == 0


def test_what_it_lacks_is_named_and_the_rest_is_read(player: Player) -> None:
    player.refused = {"energy", "processes"}
    reading = monitor(UUID).read()
    assert (reading.energy, reading.processes, reading.power) == (None, None, 321.5)
    assert reading.missing.keys() == {"energy", "processes"}
    assert set(reading.missing.values()) == {"Not Supported"}


@pytest.mark.parametrize(
    ("uuid", "broken", "reason"),
    [
        ("", None, "no GPU"),
        ("f" * 32, None, "NVML does not know GPU GPU-ffffffff-ffff-ffff-ffff-ffffffffffff"),
        (UUID, ImportError("cannot import name 'nvml'"), "no NVML: cannot import name 'nvml'"),
        (UUID, Refusal("Driver Not Loaded"), "NVML can't be started"),
    ],
)
def test_a_gpu_that_cant_be_read_says_why(
    player: Player, monkeypatch: pytest.MonkeyPatch, uuid: str, broken: Exception | None, reason: str
) -> None:
    if broken is not None:
        monkeypatch.setattr(player, "init_v2", _raises(broken))
    watching = monitor(uuid)
    assert isinstance(watching, Unmonitored)
    reading = watching.read()
    assert all(reason in why for why in reading.missing.values())
    assert reading.missing.keys() == NvmlMonitor(player, 7).read().missing.keys() | {
        name for name, value in vars(NvmlMonitor(player, 7).read()).items() if name not in ("missing", "at")
    }
    assert player.running == 0


def test_a_power_limit_is_told_in_watts(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.machine._lasting", lambda: {"host": "h"})
    assert power_limit(UUID) == "700 W"
    assert machine(UUID)["power_limit"] == "700 W"
    assert "power_limit" not in machine()
    player.refused.add("limit")
    assert machine(UUID) == {"host": "h"}
    assert (power_limit("f" * 32), power_limit(""), player.running) == ("", "", 0)


def test_without_nvml_there_is_no_power_limit(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "init_v2", _raises(Refusal("Driver Not Loaded")))
    assert power_limit(UUID) == ""


@pytest.fixture
def forgetful() -> Iterator[None]:
    """UUIDs are asked for once a process."""
    uuids.cache_clear()
    yield
    uuids.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_uuids_of_all_gpus(player: Player) -> None:
    assert uuids() == ("GPU-01234567-89ab-cdef-0123-456789abcdef",)
    uuids.cache_clear()
    player.refused.add("uuid")
    assert uuids() == ()
    assert player.running == 0


def test_a_machine_without_a_driver_says_so() -> None:
    """The real module, here."""
    if isinstance(monitor(UUID), NvmlMonitor):
        pytest.skip("this machine has a GPU with that very UUID")
    assert "NVML" in monitor(UUID).read().missing["power"]


def test_reasons_are_those_of_nvml() -> None:
    known = {int(reason): reason.name for reason in real.ClocksEventReasons}
    assert HELD_BACK.keys() <= known.keys()
    for bit, words in HELD_BACK.items():
        assert words.split()[-1].upper() in known[bit].split("_"), known[bit]


def _raises(error: Exception) -> Callable[[], None]:
    def init() -> None:
        raise error

    return init
