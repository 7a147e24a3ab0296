"""What one process works with: backends, what they can do, their engines, the oracle."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.runtime.device_lock import lock_of
from harness.runtime.devices import key_for
from harness.runtime.trust import Trust
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.judge.oracle import Oracle
    from harness.runtime.backend.protocol import Backend
    from harness.runtime.capability import Probe
    from harness.runtime.pool import EnginePool


class Workbench:
    """Each thing is made when it is first asked for, and all of them are closed together.

    ``device`` gives the number of the GPU to use, asked for only when a TensorRT is; ``probes`` are
    what is known already, by backend; ``trusted`` are plans that the user names beside the settings.
    With ``apart`` every backend has a process of its own, under the interpreter that the settings name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        device: Callable[[], int] = lambda: 0,
        probes: Mapping[str, Probe] | None = None,
        trusted: Iterable[Path] = (),
        apart: bool = False,
    ) -> None:
        self.settings = settings
        self._apart = apart
        self._device, self._trust = device, Trust.of((*settings.trust, *trusted))
        self._probes = dict(probes or {})
        self._backends: dict[str, Backend] = {}
        self._open = contextlib.ExitStack()

    def backend(self, name: str) -> Backend:
        """The backend called ``name``, working or not: ask its probe."""
        from harness.runtime.backend.registry import HostSettings, create

        if name not in self._backends:
            hosts = HostSettings.of(self.settings)
            made = create(name, hosts, self._number(name), apart=self._apart)
            self._backends[name] = made
            self._open.callback(made.close)
        return self._backends[name]

    def probe(self, name: str) -> Probe:
        """What ``name`` can do here, found out once, and beside nobody who measures."""
        if name not in self._probes:
            lock = lock_of(key_for(name, self._number(name)))
            backend = self.backend(name)
            with lock.shared(f"probe of {name}"):
                self._probes[name] = backend.probe()
        return self._probes[name]

    def _number(self, backend: str) -> int:
        return self._device() if backend.startswith("tensorrt") else 0

    @functools.cached_property
    def pool(self) -> EnginePool:
        from harness.runtime.cache import PlanCache, default_folder
        from harness.runtime.pool import EnginePool
        from harness.runtime.timing import Timings

        folder = self.settings.cache or default_folder()
        trusted = self._trust.covers(folder)
        pool = EnginePool(
            self.backend,
            self.probe,
            PlanCache(folder, limit=self.settings.cache_size, trusted=trusted),
            self.settings.memory,
            Timings(folder, self.settings.timing_cache, trusted),
            self._trust,
        )
        self._open.callback(pool.close)
        return pool

    @functools.cached_property
    def oracle(self) -> Oracle:
        """onnxruntime with its optimizations off, on one thread."""
        from harness.judge.oracle import Oracle
        from harness.runtime.backend.onnxruntime import reference_name, reference_runner

        return Oracle(reference_runner(), reference_name())

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
