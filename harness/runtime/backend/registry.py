"""Backends by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import SpecError
from harness.runtime.backend.protocol import Backend
from harness.settings import BACKENDS, Settings

IN_HOST = ("tensorrt", "tensorrt_rtx", "fake")  # those that could take the process that asks with them


@dataclass(frozen=True)
class HostSettings:
    """How engine hosts are run. Timeouts in seconds; probing has one a step. Defaults are those of `Settings`."""

    python: Mapping[str, str] = field(default_factory=dict)  # backend to interpreter, where it isn't ours
    build_timeout: float = Settings.build_timeout
    run_timeout: float = Settings.run_timeout
    probe_timeout: float = Settings.probe_timeout
    in_process: bool = Settings.in_process  # no hosts at all, for a debugger
    folder: Path | None = None  # for links to vendors' libraries; None for the user's cache folder

    @classmethod
    def of(cls, settings: Settings) -> HostSettings:
        """What a run was asked for, as far as hosts go."""
        return cls(
            python=dict(settings.python),
            build_timeout=settings.build_timeout,
            run_timeout=settings.run_timeout,
            probe_timeout=settings.probe_timeout,
            in_process=settings.in_process,
        )


def create(name: str, hosts: HostSettings, device: int = 0) -> Backend:
    """The backend called ``name``, on ``device`` (by its number among those visible).

    ``fake`` may be followed by a fault, as in ``fake:wrong_rows`` (`harness.runtime.backend.fake`).
    SpecError for a name that is none of `BACKENDS`. Nothing is imported or started yet but onnxruntime.
    """
    backend = _checked(name)
    if backend == "fake":
        make(name)  # refuses an unknown fault here rather than in the host
    if hosts.in_process or backend not in IN_HOST:
        return make(name, device)
    from harness.runtime.backend.hosted import HostedBackend, Timeouts
    from harness.runtime.client import HostClient

    client = HostClient(name, device, python=hosts.python.get(backend, sys.executable), folder=hosts.folder)
    return HostedBackend(backend, client, Timeouts(hosts.build_timeout, hosts.run_timeout, hosts.probe_timeout))


def make(name: str, device: int = 0) -> Backend:
    """The backend itself, in this process. In an engine host its device is the only one visible: 0."""
    backend = _checked(name)
    if backend == "fake":
        from harness.runtime.backend.fake import FakeBackend

        return FakeBackend(name.partition(":")[2])
    if backend == "onnxruntime":
        from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend()
    from harness.runtime.backend.nv.backend import NvBackend

    return NvBackend(backend, device)


def _checked(name: str) -> str:
    backend, _, fault = name.partition(":")
    if backend == "fake" or (backend in BACKENDS and not fault):
        return backend
    raise SpecError(f"unknown backend {name!r}: choose from {', '.join(BACKENDS)}")
