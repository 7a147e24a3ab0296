"""The engine host: a process of its own in which one backend lives.

Run as a program, under any Python from 3.10 on that has numpy and what the backend needs. The client
(`harness.runtime.client`) starts it, with the environment that the vendor's libraries want already
set, and kills it when it crashes, hangs, or is done.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Make this very package importable, by its place: what lies beside it may be another Python's
    # site-packages, and the modules beside this file must not become top-level ones.
    if sys.version_info < (3, 10):  # noqa: UP036 - whatever interpreter the user names
        sys.exit(f"the engine host needs Python 3.10 or later; {sys.executable} is {sys.version.split()[0]}")
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the folder of this file
    import importlib.util
    from pathlib import Path

    _package = Path(__file__).resolve().parent.parent
    _spec = importlib.util.spec_from_file_location(
        "harness", _package / "__init__.py", submodule_search_locations=[str(_package)]
    )
    if _spec is None or _spec.loader is None:
        sys.exit(f"{_package} is no package")
    sys.modules["harness"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["harness"])

import argparse
import contextlib
import ctypes
import faulthandler
import fcntl
import importlib
import logging
import os
import platform
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import STAGES, DeserializeError, RunError
from harness.runtime.backend import registry
from harness.runtime.backend.protocol import (
    Array,
    Backend,
    BuildRequest,
    Engine,
    EngineInfo,
    HowToRefit,
    LayerWeights,
    Plan,
    Refittable,
    Residue,
    Session,
    Shape,
    Streaming,
    Weights,
)
from harness.runtime.footprint import footprint
from harness.runtime.probing import Found, ProbedInSteps
from harness.runtime.sampling import Repeated, Samples, Sampling
from harness.runtime.wire import Arena, Channel, error_to_value

TRACEBACK_SIGNAL = signal.SIGUSR1  # makes the host write where every thread of it is to its output
_PROGRESS_EVERY = 0.05  # seconds


def main() -> None:
    """Serve until told to stop, or until the client is gone."""
    parser = argparse.ArgumentParser(prog="harness/runtime/host.py")
    parser.add_argument("--backend", required=True)
    for descriptor in ("socket", "incoming", "outgoing", "lifeline"):
        parser.add_argument(f"--{descriptor}", type=int, required=True, help="inherited file descriptor")
    options = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(TRACEBACK_SIGNAL, all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # dumping takes minutes
    libc = ctypes.CDLL(None)
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, 1, 0)  # by line, so that a crash loses no line of C's
    _die_with(options.lifeline)
    channel = Channel(socket.socket(fileno=options.socket), Arena(options.outgoing), Arena(options.incoming))
    host = Host(options.backend, channel)
    with contextlib.suppress(EOFError):
        host.serve()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is closed; exit handlers of vendors' libraries have nothing to add but crashes


def _die_with(lifeline: int) -> None:
    """Be killed as soon as the client is gone, even in a call that never returns or holds the GIL.

    ``lifeline`` is a pipe that the client alone holds the other end of: the kernel sends the signal
    when it is closed. (PR_SET_PDEATHSIG goes by the *thread* that started the host.)
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    os.set_blocking(lifeline, False)
    with contextlib.suppress(BlockingIOError):
        os.read(lifeline, 1)
        os._exit(1)  # it was closed before we asked to be told


def invoke(target: str, arguments: Mapping[str, Any], folder: str = "") -> Any:
    """Call ``package.module:function`` with keyword ``arguments``; ``folder`` is put on the import path first."""
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    module, _, name = target.partition(":")
    function: Any = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    return function(**arguments)


class Host:
    """One backend, with the engines and sessions that it has made, by number."""

    def __init__(self, backend: str, channel: Channel) -> None:
        self._name, self._channel = backend, channel
        self._made: Backend | None = None
        self._engines: dict[int, Engine] = {}
        self._sessions: dict[int, tuple[int, Session]] = {}  # with its engine's number
        self._count = 0
        self._told = 0.0
        self._methods: dict[str, Callable[..., Any]] = {
            "probe_steps": self.probe_steps,
            "probe_step": self.probe_step,
            "build": self.build,
            "merged": self.merged,
            "load": self.load,
            "session": self.session,
            "run": self.run,
            "infer": self.infer,
            "measure": self.measure,
            "repeat": self.repeat,
            "reshape": self.reshape,
            "switch": self.switch,
            "move": self.move,
            "limit": self.limit,
            "serialize": self.serialize,
            "weights": self.weights,
            "stream": self.stream,
            "refit": self.refit,
            "refit_from": self.refit_from,
            "inspect": self.inspect,
            "taken_memory": self.taken_memory,
            "residue": self.residue,
            "peak_memory": self.peak_memory,
            "footprint": footprint,
            "close_session": self.close_session,
            "close_engine": self.close_engine,
            "invoke": invoke,
        }

    def serve(self) -> None:
        """Answer requests until the one to stop. EOFError when the client is gone."""
        log = logging.getLogger("harness")
        log.addHandler(_Forward(self._channel))
        log.setLevel(logging.INFO)
        log.propagate = False
        facts = {
            "python": platform.python_version(),
            "executable": sys.executable,
            "numpy": np.__version__,
            "pid": os.getpid(),
        }
        self._channel.send({"hello": facts})
        while True:
            request = self._channel.receive()
            method = request["method"]
            if method == "stop":
                self.close()
                return
            try:
                answer = {"value": self._methods[method](**request["arguments"])}
            except BaseException as error:  # SystemExit too: whatever it is, the client is told
                answer = {"error": error_to_value(error)}
            try:
                self._channel.send(answer)
            except TypeError as error:  # an answer that can't travel
                self._channel.send({"error": error_to_value(error)})

    @property
    def _backend(self) -> Backend:
        if self._made is None:
            self._made = registry.make(self._name)
        return self._made

    def probe_steps(self) -> tuple[str, ...]:
        return self._in_steps().probe_steps()

    def probe_step(self, step: str) -> Found:
        return self._in_steps().probe_step(step)

    def _in_steps(self) -> ProbedInSteps:
        backend: Any = self._backend
        return backend  # type: ignore[no-any-return]  # every hosted backend is probed in steps

    def build(self, request: BuildRequest) -> Plan:
        return self._backend.build(request, self._progress)

    def merged(self, timing_caches: tuple[Array, ...]) -> Array:
        return self._backend.merged(timing_caches)

    def load(
        self, plan: Array | Path, plugins: tuple[str, ...], host_code: bool, stream: bool
    ) -> tuple[int, EngineInfo]:
        engine = self._backend.load(plan, plugins, host_code=host_code, stream=stream)
        number = self._number()
        self._engines[number] = engine
        return number, engine.info

    def session(self, engine: int, profile: int) -> int:
        session = self._engine(engine).session(profile)
        number = self._number()
        self._sessions[number] = (engine, session)
        return number

    def run(self, session: int, inputs: dict[str, Array], graph: bool, omit: str) -> dict[str, Array]:
        return self._session(session).run(inputs, graph=graph, omit=omit)

    def infer(self, session: int, inputs: dict[str, Array]) -> dict[str, Shape]:
        return self._session(session).infer(inputs)

    def measure(self, session: int, inputs: dict[str, Array], sampling: Sampling) -> Samples:
        return self._session(session).measure(inputs, sampling)

    def repeat(self, session: int, inputs: dict[str, Array], seconds: float, graph: bool) -> Repeated:
        return self._session(session).repeat(inputs, seconds, graph=graph)

    def reshape(self, session: int, inputs: dict[str, Array], others: dict[str, Array], times: int) -> Array:
        return self._session(session).reshape(inputs, others, times)

    def switch(self, session: int, profile: int) -> None:
        self._session(session).switch(profile)

    def move(self, session: int, tensor: str) -> None:
        self._session(session).move(tensor)

    def limit(self, session: int, tensor: str, nbytes: int | None) -> None:
        self._session(session).limit(tensor, nbytes)

    def serialize(self, engine: int, flags: tuple[str, ...]) -> Array:
        return self._engine(engine).serialize(flags)

    def stream(self, engine: int, budget: int | None) -> Streaming:
        return self._engine(engine).stream(budget)

    def weights(self, engine: int, given: Weights, layers: LayerWeights) -> Refittable:
        return self._engine(engine).weights(given, layers=layers)

    def refit(self, engine: int, weights: Weights, layers: LayerWeights, how: HowToRefit, keep_graphs: bool) -> None:
        self._engine(engine).refit(weights, layers=layers, how=how, keep_graphs=keep_graphs)

    def refit_from(self, engine: int, model: str) -> None:
        self._engine(engine).refit_from(model)

    def inspect(self, engine: int) -> dict[str, Any]:
        return self._engine(engine).inspect()

    def taken_memory(self) -> int:
        return self._backend.taken_memory()

    def residue(self) -> Residue:
        return self._backend.residue()

    def peak_memory(self) -> int:
        """In bytes. (What ``getrusage`` tells is the peak of whoever started this process, if that was higher.)"""
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) << 10

    def close_session(self, session: int) -> None:
        if session in self._sessions:  # it went with its engine otherwise
            self._sessions.pop(session)[1].close()

    def close_engine(self, engine: int) -> None:
        for number in [number for number, (owner, _) in self._sessions.items() if owner == engine]:
            self.close_session(number)
        self._engines.pop(engine).close()

    def close(self) -> None:
        for number in list(self._engines):
            self.close_engine(number)
        if self._made is not None:
            self._made.close()

    def _engine(self, number: int) -> Engine:
        if number not in self._engines:
            raise DeserializeError(f"engine {number} was closed")
        return self._engines[number]

    def _session(self, number: int) -> Session:
        if number not in self._sessions:
            raise RunError(f"session {number} was closed, by itself or with its engine")
        return self._sessions[number][1]

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _progress(self, phase: str, step: int, total: int) -> None:
        now = time.monotonic()
        if phase in STAGES or now - self._told >= _PROGRESS_EVERY:
            self._told = now
            self._channel.send({"progress": [phase, step, total]})


class _Forward(logging.Handler):
    """What this package logs here is logged again by the client, as it comes."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(EOFError):
            self._channel.send({"log": [record.name, record.levelno, record.getMessage()]})


if __name__ == "__main__":
    main()
