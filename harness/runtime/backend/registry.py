"""Backends by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import SpecError, UnsupportedError
from harness.runtime.backend.protocol import Backend
from harness.settings import BACKENDS, FAKE, RUNTIMES, Settings

# Those that could take the process that asks with them.
KINDS = ("lean", "dispatch")  # of runtimes beside the full one
IN_HOST = ("tensorrt", "tensorrt_rtx", *RUNTIMES, FAKE, "fake_lean", "fake_dispatch")


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

    def interpreter(self, backend: str) -> str:
        """What runs the host of ``backend``; the runtimes of TensorRT are where it is, unless named by themselves."""
        of_tensorrt = self.python.get("tensorrt") if backend in RUNTIMES else None
        return self.python.get(backend) or of_tensorrt or sys.executable


def create(name: str, hosts: HostSettings, device: int = 0, *, apart: bool = False) -> Backend:
    """The backend called ``name``, on ``device`` (by its number among those visible).

    ``fake`` may be followed by a fault, as in ``fake:wrong_rows`` (`harness.runtime.backend.fake`).
    SpecError for a name that is none of `BACKENDS` or `RUNTIMES`. Nothing is imported or started yet but
    onnxruntime. With ``apart`` it gets a process of its own whatever it is, and whatever ``hosts`` say.
    """
    backend = _checked(name)
    if backend.startswith(FAKE):
        make(name)  # refuses an unknown fault here rather than in the host
    if not apart and (hosts.in_process or backend not in IN_HOST):
        return make(name, device)
    from harness.runtime.backend.hosted import HostedBackend, Timeouts
    from harness.runtime.client import HostClient

    client = HostClient(name, device, python=hosts.interpreter(backend), folder=hosts.folder)
    return HostedBackend(backend, client, Timeouts(hosts.build_timeout, hosts.run_timeout, hosts.probe_timeout))


def make(name: str, device: int = 0) -> Backend:
    """The backend itself, in this process. In an engine host its device is the only one visible: 0."""
    backend = _checked(name)
    if backend.startswith(FAKE):
        from harness.runtime.backend.fake import FakeBackend

        return FakeBackend(name.partition(":")[2], backend.partition("_")[2])
    if backend == "onnxruntime":
        try:
            from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend
        except ImportError as error:  # in the host of an interpreter that the user named
            fix = f"{sys.executable} -m pip install onnxruntime"
            raise UnsupportedError("onnxruntime import: absent", f"{sys.executable}: {error}", fix) from None

        return OnnxRuntimeBackend()
    from harness.runtime.backend.nv.backend import NvBackend

    return NvBackend(backend, device)


def _checked(name: str) -> str:
    backend, _, fault = name.partition(":")
    if backend in (FAKE, *(f"{FAKE}_{kind}" for kind in KINDS)) or (backend in (*BACKENDS, *RUNTIMES) and not fault):
        return backend
    raise SpecError(f"unknown backend {name!r}: choose from {', '.join(BACKENDS)}")
