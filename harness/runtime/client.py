"""The other end of an engine host: starts it, asks it, and deals with its death.

A host that crashes costs the request that it was at; so does one that gives no answer in time, which
is killed from outside, whatever holds its GIL. The next request starts a new one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from harness.errors import STAGES, RunError, SpecError, StageError
from harness.runtime.backend.protocol import Progress
from harness.runtime.messages import Messages
from harness.runtime.wire import Arena, Channel, value_to_error

# Wheels that bring a backend's shared libraries, by package, and beside them those of CUDA.
_LIBRARIES = {
    "tensorrt": ("tensorrt_libs", "tensorrt_lean_libs"),  # a version-compatible plan carries the lean runtime
    "tensorrt_lean": ("tensorrt_lean_libs",),
    "tensorrt_dispatch": ("tensorrt_dispatch_libs",),
    "tensorrt_rtx": ("tensorrt_rtx_libs", "onnxruntime_ep_nv_tensorrt_rtx"),
}
_HOST = Path(__file__).with_name("host.py")
_START_TIMEOUT = 120.0  # seconds until a host, with numpy imported from a cold disk, says hello
_STOP_TIMEOUT = 10.0
_TAIL = 8192  # bytes of a dead host's output that go with the error
_TAIL_LINES = 30
_log = logging.getLogger(__name__)


class HostDied(StageError):
    """An engine host died, or never started, in a request that belongs to no stage of a model's way."""

    stage = "engine host"


class HostClient:
    """At most one living host for one backend on one device, started when first asked.

    Safe to use from several threads: requests wait for each other. ``generation`` counts the hosts
    started so far; what a host made is gone with it. While a request is under way the file
    ``breadcrumb``, if one is set, tells it: should this very process die too, whoever finds the file
    knows what it was at.
    """

    def __init__(self, backend: str, device: int = 0, *, python: str = sys.executable, folder: Path | None = None):
        """``python`` runs the host; ``folder`` is where links to a vendor's libraries are kept."""
        self.backend, self.device, self.python, self.folder = backend, device, python, folder
        self.generation = 0
        self.facts: dict[str, Any] = {}  # python, executable, numpy, pid of the last host started
        self.breadcrumb: Path | None = None
        self.label = ""  # what the user of this client is at; goes into the breadcrumb
        self.spent: Callable[[str, float], None] | None = None  # is told the stage and the seconds of each request
        self._host: _Host | None = None
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        arguments: Mapping[str, Any],
        *,
        stage: str,
        timeout: float,
        summary: str,
        generation: int | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """What ``method`` of the host returns, or raises.

        ``timeout`` is in seconds, for the whole request; ``summary`` says in errors what was asked.
        With ``generation`` the request is about something that this host made: RunError when it is
        gone. When the host dies the error is that of ``stage``, or of the stage that it last
        reported as progress, with ``crash`` set; of a stage that is none, `HostDied`.
        """
        with self._lock:
            host = self._current(generation, stage, summary)
            self._leave(stage, summary, host)
            started = time.perf_counter()
            try:
                return host.ask({"method": method, "arguments": dict(arguments)}, stage, timeout, progress)
            except _Death as death:
                self._host = None
                raise death.error(self.backend, summary) from None
            except StageError as error:
                if error.detail.get("replace_host"):
                    self._drop()
                raise
            finally:
                if self.spent is not None:
                    self.spent(stage, time.perf_counter() - started)
                if self._host is not None and not self._host.in_step:
                    self._drop()  # interrupted half-way: what comes next on this channel is anyone's guess
                self._leave(stage, summary, host, over=True)

    def alive(self, generation: int) -> bool:
        """Whether the host of this ``generation`` still runs, and with it all that it made."""
        return self.generation == generation and self._host is not None and self._host.process.poll() is None

    def close(self) -> None:
        """Ask the host to close all it has and end; kill it if it doesn't."""
        with self._lock:
            host, self._host = self._host, None
        if host is not None:
            host.stop()

    def _drop(self) -> None:
        if self._host is not None:
            self._host.kill()
            self._host = None

    def _current(self, generation: int | None, stage: str, summary: str) -> _Host:
        if self._host is not None and self._host.process.poll() is not None:
            gone, self._host = self._host, None
            death = gone.death(stage)
            if generation == self.generation:
                raise death.error(self.backend, f"before {summary}")
            _log.warning("%s", death.error(self.backend, "between requests"))
        if generation is not None and (self._host is None or generation != self.generation):
            raise RunError(
                f"{self.backend}: {summary}: the engine host that held it was replaced (it was number {generation}, "
                f"{self.generation} have been started): load the plan again"
            )
        if self._host is None:
            self._host = self._start(stage, summary)
            self.generation += 1
        return self._host

    def _start(self, stage: str, summary: str) -> _Host:
        try:
            host = _Host(self.backend, self.python, self._environment())
        except (OSError, subprocess.SubprocessError) as error:
            raise SpecError(f"{self.backend}: the engine host can't be started with {self.python}: {error}") from None
        try:
            self.facts = host.hello(stage)
        except _Death as death:
            raise death.error(self.backend, f"{summary}: start of {self.python}") from None
        except BaseException:
            host.kill()
            raise
        return host

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if os.path.abspath(self.python) != os.path.abspath(sys.executable):  # noqa: PTH100 - links must stay
            for variable in ("PYTHONPATH", "PYTHONHOME"):  # ours, and wrong for another Python
                environment.pop(variable, None)
        environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # number devices as nvidia-smi does
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")  # of numpy's, which wait for work at the price of a core
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            environment["CUDA_VISIBLE_DEVICES"] = str(self.device)
        else:
            names = [name.strip() for name in visible.split(",") if name.strip()]
            environment["CUDA_VISIBLE_DEVICES"] = names[self.device] if self.device < len(names) else ""
        folders = library_folders(self.backend, self.python, self.folder)
        if folders:
            before = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, folders), *([before] if before else [])])
        return environment

    def _leave(self, stage: str, summary: str, host: _Host, *, over: bool = False) -> None:
        if self.breadcrumb is None:
            return
        crumb = {
            "label": self.label,
            "backend": self.backend,
            "device": self.device,
            "stage": stage,
            "request": summary,
            "host": host.process.pid,
            "over": over,
        }
        # One write over the old text, and the line's end marks where to stop: never empty, never torn.
        file = os.open(self.breadcrumb, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(file, json.dumps(crumb).encode() + b"\n", 0)
        finally:
            os.close(file)


def read_breadcrumb(path: Path) -> dict[str, Any] | None:
    """What a client left at ``path``: label, backend, device, stage, request, host (its pid), and over,
    whether the request came to an end. None when nothing was ever asked."""
    try:
        line, end, _ = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return dict(json.loads(line)) if end else None


class _Death(Exception):
    """How a host ended, before it is known what for."""

    def __init__(self, stage: str, crash: str, log: tuple[str, ...], *, hang: bool = False) -> None:
        self.stage, self.crash, self.log, self.hang = stage, crash, log, hang

    def error(self, backend: str, summary: str) -> StageError:
        if self.hang:
            message = (
                f"{backend}: {summary}: {self.crash}: the engine host was killed; if it was at work, allow more time"
            )
        else:
            message = f"{backend}: {summary}: the engine host died: {self.crash}"
        return STAGES.get(self.stage, HostDied)(message, log=self.log, crash=self.crash)


class _Host:
    """One host process, from its start to its end."""

    def __init__(self, backend: str, python: str, environment: Mapping[str, str]) -> None:
        with contextlib.ExitStack() as opened:
            ours, theirs = (opened.enter_context(end) for end in socket.socketpair())
            outgoing, incoming = Arena.create(), Arena.create()
            opened.callback(outgoing.close)
            opened.callback(incoming.close)
            lifeline_theirs, lifeline = os.pipe()
            opened.callback(os.close, lifeline)
            self._output: IO[bytes] = opened.enter_context(tempfile.TemporaryFile(buffering=0))
            descriptors = {
                "socket": theirs.fileno(),
                "incoming": outgoing.fd,
                "outgoing": incoming.fd,
                "lifeline": lifeline_theirs,
            }
            try:
                self.process = subprocess.Popen(
                    [python, "-u", str(_HOST), "--backend", backend]
                    + [f"--{name}={number}" for name, number in descriptors.items()],
                    pass_fds=tuple(descriptors.values()),
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=environment,
                )
            finally:
                os.close(lifeline_theirs)
            theirs.close()
            self._channel = Channel(ours, outgoing, incoming)
            self._finish = weakref.finalize(self, _end, self.process, opened.pop_all())
        self._forwarded = Messages()
        self._mark = 0  # where in the output the request under way began
        self.in_step = True  # whether every request sent was answered

    def hello(self, stage: str) -> dict[str, Any]:
        """What it says first. _Death when it ends instead."""
        facts: dict[str, Any] = self._exchange(None, stage, _START_TIMEOUT, None)["hello"]
        return facts

    def ask(self, message: Any, stage: str, timeout: float, progress: Progress | None) -> Any:
        """The answer to ``message``. _Death when the host ends or ``timeout`` passes before it comes."""
        answer = self._exchange(message, stage, timeout, progress)
        if "error" in answer:
            raise value_to_error(answer["error"])
        return answer["value"]

    def _exchange(self, message: Any, stage: str, timeout: float, progress: Progress | None) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        self._forwarded = Messages()
        self._mark = os.fstat(self._output.fileno()).st_size
        try:
            if message is not None:
                self._channel.send(message, deadline)
            self.in_step = False
            while True:
                got: dict[str, Any] = self._channel.receive(deadline)
                if "progress" in got:
                    phase, step, total = got["progress"]
                    stage = phase if phase in STAGES else stage
                    if progress is not None:
                        progress(phase, step, total)
                elif "log" in got:
                    name, level, text = got["log"]
                    self._forwarded.add(level, text)
                    logging.getLogger(name).log(level, "%s", text)
                else:
                    self.in_step = True
                    return got
        except TimeoutError:
            raise self.death(stage, f"no answer within {timeout:g} s") from None
        except EOFError:
            raise self.death(stage) from None

    def death(self, stage: str, hang: str = "") -> _Death:
        """End the process, if ``hang`` says why, or it has ended by itself; what it leaves is the log."""
        from harness.runtime.host import TRACEBACK_SIGNAL

        if hang:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(TRACEBACK_SIGNAL)
                time.sleep(0.2)  # to write where it hangs
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_TIMEOUT)
        code = self.process.returncode
        log = (*self._forwarded.lines, *self._tail())
        self.kill()
        if hang:
            return _Death(stage, hang, log, hang=True)
        if code is None:
            return _Death(stage, "its channel was closed and it went on", log)
        return _Death(stage, describe_exit(code), log)

    def _tail(self) -> list[str]:
        file = self._output.fileno()
        start = max(self._mark, os.fstat(file).st_size - _TAIL)
        text = os.pread(file, _TAIL, start).decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-_TAIL_LINES:]

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        try:
            self._channel.send({"method": "stop"}, time.monotonic() + _STOP_TIMEOUT)
            self.process.wait(_STOP_TIMEOUT)
        except (EOFError, TimeoutError, subprocess.TimeoutExpired):
            pass
        if self.process.poll() != 0:
            code = self.process.poll()
            how = "did not end when asked to" if code is None else f"ended with {describe_exit(code)}"
            _log.warning("the engine host %s %s\n%s", self.process.pid, how, "\n".join(self._tail()))
        self.kill()

    def kill(self) -> None:
        """End it now, with every process that it started, and give back all that it cost."""
        self._finish()


def _end(process: subprocess.Popen[bytes], opened: contextlib.ExitStack) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        _log.warning("the engine host %s survives SIGKILL: it waits in the driver", process.pid)
    opened.close()


def describe_exit(code: int) -> str:
    """``signal 11 (SIGSEGV)`` or ``exit status 3``, from a `subprocess.Popen.returncode`."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


# ---------------------------------------------------------------- a vendor's libraries


def library_folders(backend: str, python: str = sys.executable, cache: Path | None = None) -> list[Path]:
    """What ``backend`` needs on LD_LIBRARY_PATH before its process starts, of wheels that ``python`` has.

    A wheel may ship ``libx.so.1.7.1`` alone while libraries ask for ``libx.so`` and ``libx.so.1``:
    a folder of links, under ``cache``, gives each its shorter names.
    """
    packages = _LIBRARIES.get(backend, ())
    if not packages:
        return []
    found: list[Path] = []
    places = _locate((*packages, "nvidia"), python)
    for package in packages:
        for folder in places[package]:
            found += [_links(folder, cache), folder]
    for folder in places["nvidia"]:  # CUDA's own wheels: cuBLAS, cuDNN, the runtime
        found += sorted(folder.glob("*/lib"))
    return found


_LOCATE = """
import importlib.util, json, sys
specs = {name: importlib.util.find_spec(name) for name in sys.argv[1:]}
print(json.dumps({name: list(spec.submodule_search_locations or ()) if spec else [] for name, spec in specs.items()}))
"""


def _locate(packages: tuple[str, ...], python: str) -> dict[str, list[Path]]:
    """The folders of ``packages``, found by ``python`` without importing them; none for what it lacks."""
    if python == sys.executable:
        specs = {name: importlib.util.find_spec(name) for name in packages}
        found = {name: list(spec.submodule_search_locations or ()) if spec else [] for name, spec in specs.items()}
    else:
        found = _ask_where(packages, python)
    return {name: [Path(place) for place in places] for name, places in found.items()}


@functools.cache
def _ask_where(packages: tuple[str, ...], python: str) -> dict[str, list[str]]:
    ask = subprocess.run([python, "-I", "-c", _LOCATE, *packages], capture_output=True, text=True, timeout=60)
    if ask.returncode or not ask.stdout:  # no Python: starting the host says so
        return {name: [] for name in packages}
    found: dict[str, list[str]] = json.loads(ask.stdout)
    return found


def _links(folder: Path, cache: Path | None) -> Path:
    """A folder in which every ``libx.so.1.7.1`` of ``folder`` has its shorter names."""
    if cache is None:
        import platformdirs

        cache = platformdirs.user_cache_path("trt-harness")
    place = Path("lib") / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    links = cache / place
    try:
        links.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that can't be written
        links = _temporary_folder() / place
        links.mkdir(parents=True, exist_ok=True)
    for library in folder.glob("lib*.so.*"):
        stem, _, version = library.name.partition(".so.")
        parts = version.split(".")
        for count in range(len(parts)):
            _link(links / ".".join([f"{stem}.so", *parts[:count]]), library)
    return links


@functools.cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="trt-harness-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _link(link: Path, target: Path) -> None:
    """Make ``link`` point at ``target``; several processes may do so at once."""
    with contextlib.suppress(OSError):
        if link.readlink() == target:
            return
    temporary = link.with_name(f".{link.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.symlink_to(target)
    temporary.replace(link)
