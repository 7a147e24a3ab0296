"""Both TensorRTs as a backend. Lives in an engine host: one vendor's libraries, one process."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError, DeserializeError, RunError, StageError, UnsupportedError
from harness.runtime import probing
from harness.runtime.backend.living import Living
from harness.runtime.backend.mapped import mapped
from harness.runtime.backend.nv import probe, timings
from harness.runtime.backend.nv.build import build
from harness.runtime.backend.nv.dialect import Dialect, import_tensorrt
from harness.runtime.backend.nv.log import make_logger
from harness.runtime.backend.protocol import Array, BuildRequest, Plan, Progress, Residue
from harness.runtime.capability import Probe
from harness.runtime.probing import Found

if TYPE_CHECKING:
    from harness.runtime.backend.nv.run import NvEngine


class NvBackend:
    """``name`` is "tensorrt", "tensorrt_rtx", or one of TensorRT's runtimes without a builder.

    Nothing of the vendor's is loaded before it is needed.
    """

    def __init__(self, name: str, device: int = 0) -> None:
        self.name, self.device = name, device
        self._living = Living()
        self._plugins: set[tuple[str, str]] = set()  # libraries, each with whose registry it was loaded into

    @functools.cached_property
    def dialect(self) -> Dialect:
        return Dialect(import_tensorrt(self.name))

    @functools.cached_property
    def logger(self) -> Any:
        logger = make_logger(self.dialect.trt)
        self.dialect.register_plugins(logger)
        return logger

    @functools.cached_property
    def builder(self) -> Any:
        """One for the life of the process: making one loads gigabytes of kernels, ten seconds in 8.6."""
        return self.dialect.trt.Builder(self.logger)

    @functools.cached_property
    def runtime(self) -> Any:
        return self.dialect.trt.Runtime(self.logger)

    def probe_steps(self) -> tuple[str, ...]:
        return probe.steps(self.name)

    def probe_step(self, step: str) -> Found:
        return probe.take(self, step)

    def probe(self) -> Probe:
        return probing.probe(self.name, self.probe_steps(), self.probe_step)

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        with self.logger.listen():
            if not self.dialect.ahead_of_time:
                self._use_device(BuildError)
            self._load_plugins("builder", request.config.plugins, BuildError)
            return build(self.dialect, self.builder, request, self.logger, progress)

    def merged(self, timing_caches: Sequence[Array]) -> Array:
        with self.logger.listen():
            if not self.dialect.ahead_of_time:
                self._use_device(BuildError)
            return timings.merged(self.dialect, self.builder, timing_caches, self.logger)

    def load(
        self, plan: Array | Path, plugins: tuple[str, ...] = (), *, host_code: bool = False, stream: bool = False
    ) -> NvEngine:
        from harness.runtime.backend.nv.run import NvEngine

        if stream and not self.dialect.reads_streams:
            trt = self.dialect.trt
            raise UnsupportedError("stream_reader", f"{trt.__name__} {self.dialect.version} has no IStreamReaderV2")
        with self.logger.listen():
            self._use_device(DeserializeError)
            self._load_plugins("runtime", plugins, DeserializeError)
            self.dialect.allow_host_code(self.runtime, host_code)
            return NvEngine(self.dialect, self.runtime, mapped(plan), self.logger, self._living, stream=stream)

    def taken_memory(self) -> int:
        """As `Backend.taken_memory`; of this process it is CUDA's own context that this takes, if nothing else."""
        from harness.runtime import device

        self._use_device(RunError)
        return device.taken_memory()

    def residue(self) -> Residue:
        """Nothing is loaded for it: where nothing was made, nothing lives."""
        errors = self.logger.take() if "logger" in self.__dict__ else ()
        if "runtime" not in self.__dict__:
            return Residue(self._living.engines, self._living.sessions, errors=errors)
        from harness.runtime import device

        return Residue(self._living.engines, self._living.sessions, *device.allocated(), errors)

    def _load_plugins(self, owner: str, libraries: tuple[str, ...], failure: type[StageError]) -> None:
        """Load ``libraries`` into the registry of ``owner``, "builder" or "runtime", once: each has its own."""
        for library in libraries:
            if (owner, library) in self._plugins:
                continue
            with self.logger.listen() as heard:
                if getattr(self, owner).get_plugin_registry().load_library(library) is None or heard.errors:
                    raise failure(heard.says(f"{library}: the plugin library could not be loaded"))
            self._plugins.add((owner, library))

    def _use_device(self, failure: type[StageError]) -> None:
        from harness.runtime import device

        try:
            device.use(self.device)
        except device.CudaError as error:
            raise failure(error.message, detail=error.detail) from error

    def close(self) -> None:
        for name in ("builder", "runtime", "logger", "dialect"):
            self.__dict__.pop(name, None)
        self._plugins.clear()
