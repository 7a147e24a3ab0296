"""A double of ``cuda.bindings.runtime`` whose device memory is host memory.

Names, parameters and enums are the installed package's own, found by introspection (it imports
without a GPU). Streams are as lazy as they may be: nothing runs before something waits for it, so
that a result read too early is not there yet. Addresses are checked: a kernel that reads or writes
outside of device memory, or frees twice, ends in the error that CUDA gives. Time is what the work took
that was done, each at a cost of its own, so that events give the same times on any machine.
"""

from __future__ import annotations

import ctypes
import inspect
import re
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import runtime as real

from tests.doubles.double import Missing, NotPlayed, Refused

Array = np.ndarray[Any, Any]
Work = Callable[[], None]
Error = real.cudaError_t

ALIGNMENT = 256
UNWRITTEN = 0xCD  # what fresh device memory holds
KERNEL = 5e-6  # seconds: of work that does not say what it costs
COPY, COPY_BYTE = 1e-6, 1e-9  # of a copy, and of each of its bytes
SET_BYTE = 1e-12  # of each byte that is set
L2_CACHE = 1 << 20  # bytes


class IllegalAddress(Exception):
    """Work on a stream touched what is not device memory."""


class Task(NamedTuple):
    """Work on a stream, and the seconds that it takes the device."""

    work: Work
    seconds: float


@dataclass
class _Stream:
    waits_for_default: bool = True
    pending: list[Task] = field(default_factory=list)
    captured: list[Task] | None = None
    invalid: bool = False  # a capture that met what can't be captured


class Cuda:
    """The device, its memory and its streams. ``module`` is what code imports."""

    def __init__(self, *, gpu: bool = True) -> None:
        self.gpu = gpu
        self.refusals: list[str] = []
        self.module = _module(self)
        self.memory: dict[int, Array] = {}
        self.resident: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # bytes by whose they are
        self.streams: dict[int, _Stream] = {0: _Stream()}
        self.events: dict[int, float | None] = {}
        self.recorded: set[int] = set()  # events that were ever put on a stream
        self.graphs: dict[int, list[Task]] = {}
        self.runs: dict[int, list[Task]] = {}
        self.pinned: dict[int, Array] = {}  # memory of the host that the device reaches
        self.fault: Any = None
        self.launches = 0  # graphs launched
        self.waits = 0  # of the host for a stream or the device
        self.now = 0.0  # seconds that all work took so far
        self._next = 0x1000

    def live(self) -> dict[str, int]:
        """Everything that was made and not given back, by kind; empty when nothing leaked."""
        counts = {
            "memory": len(self.memory),
            "streams": len(self.streams) - 1,
            "events": len(self.events),
            "graphs": len(self.graphs),
            "executable graphs": len(self.runs),
            "pinned": len(self.pinned),
        }
        return {kind: count for kind, count in counts.items() if count}

    # What plays use.

    def enqueue(self, stream: int, work: Work, seconds: float = KERNEL) -> bool:
        """Put ``work`` on a stream, or into the capture that it is in. False when there is no such stream."""
        return bool(self._put(int(stream), work, seconds) == Error.cudaSuccess)

    def captures(self, stream: int) -> bool:
        """Whether work put on a stream is captured, and not done."""
        there = self.streams.get(int(stream))
        return there is not None and there.captured is not None

    def run_now(self, stream: int, work: Work, seconds: float = KERNEL) -> bool:
        """Finish what is on a stream, then do ``work``; impossible, so False, while it captures."""
        there = self.streams.get(int(stream))
        if there is None or there.captured is not None:
            if there is not None:
                there.invalid = True
            return False
        self.flush(stream)
        self._do(Task(work, seconds))
        return True

    def flush(self, stream: int) -> None:
        """Do all that is pending on a stream, in order."""
        there = self.streams[int(stream)]
        while there.pending:
            self._do(there.pending.pop(0))

    def device_array(self, address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """Device memory as an array, shared. IllegalAddress unless all of it is device memory."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not self._is_device(address, nbytes):
            raise IllegalAddress(f"{nbytes} bytes at {address:#x} are not device memory")
        return _view(address, nbytes).view(dtype).reshape(shape)

    def host_array(self, address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """A copy of host memory. IllegalAddress when it is device memory, which a host can't read."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not address or self._is_device(address, 0):
            raise IllegalAddress(f"{address:#x} is not host memory")
        return _view(address, nbytes).view(dtype).reshape(shape).copy()

    # The runtime's functions, with the parameters of the real ones.

    def cudaGetErrorString(self, error: Any) -> Any:
        return real.cudaGetErrorString(error)

    def cudaGetLastError(self) -> Any:
        return (self.fault or Error.cudaSuccess,)

    def cudaGetDeviceCount(self) -> Any:
        return Error.cudaSuccess, 1

    def cudaDriverGetVersion(self) -> Any:
        return Error.cudaSuccess, 13000

    def cudaRuntimeGetVersion(self) -> Any:
        return Error.cudaSuccess, 13000

    def cudaSetDevice(self, device: int) -> Any:
        return (Error.cudaSuccess if device == 0 else Error.cudaErrorInvalidDevice,)

    def cudaGetDevice(self) -> Any:
        return Error.cudaSuccess, 0

    def cudaDeviceGetAttribute(self, attr: Any, device: int) -> Any:
        if device != 0:
            return Error.cudaErrorInvalidDevice, 0
        if attr != real.cudaDeviceAttr.cudaDevAttrL2CacheSize:
            raise NotPlayed(f"{attr.name} is there, and has no play")
        return Error.cudaSuccess, L2_CACHE

    def cudaGetDeviceProperties(self, device: int) -> Any:
        if device != 0:
            return Error.cudaErrorInvalidDevice, None
        facts = real.cudaDeviceProp()
        facts.name = b"Double of a GPU".ljust(256, b"\0")
        facts.major, facts.minor, facts.totalGlobalMem = 8, 9, 1 << 30
        return Error.cudaSuccess, facts

    def cudaMemGetInfo(self) -> Any:
        taken = sum(array.nbytes for array in self.memory.values()) + sum(self.resident.values())
        return Error.cudaSuccess, (1 << 30) - taken, 1 << 30

    def cudaMalloc(self, size: int) -> Any:
        if any(stream.captured is not None and stream.invalid for stream in self.streams.values()):
            return Error.cudaErrorStreamCaptureUnsupported, 0
        array = np.full(int(size) + ALIGNMENT, UNWRITTEN, np.uint8)
        address = -(-array.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.memory[address] = array[address - array.ctypes.data :][: int(size)]
        return Error.cudaSuccess, address

    def cudaFree(self, devPtr: int) -> Any:
        if not int(devPtr):
            return (Error.cudaSuccess,)
        for stream in self.streams:  # freeing waits for the device
            self.flush(stream)
        return (Error.cudaSuccess if self.memory.pop(int(devPtr), None) is not None else Error.cudaErrorInvalidValue,)

    def cudaMallocHost(self, size: int) -> Any:
        array = np.full(max(int(size), 1), UNWRITTEN, np.uint8)
        self.pinned[array.ctypes.data] = array
        return Error.cudaSuccess, array.ctypes.data

    def cudaFreeHost(self, ptr: Any) -> Any:
        for stream in self.streams:
            self.flush(stream)
        return (Error.cudaSuccess if self.pinned.pop(int(ptr), None) is not None else Error.cudaErrorInvalidValue,)

    def cudaMemcpy(self, dst: Any, src: Any, count: int, kind: Any) -> Any:
        return (self._copy(dst, src, count, kind, 0) or self._synchronize(0),)

    def cudaMemcpyAsync(self, dst: Any, src: Any, count: int, kind: Any, stream: Any) -> Any:
        return (self._copy(dst, src, count, kind, int(stream)) or Error.cudaSuccess,)

    def cudaMemset(self, devPtr: Any, value: int, count: int) -> Any:
        return (self._set(int(devPtr), value, count, 0) or self._synchronize(0),)

    def cudaMemsetAsync(self, devPtr: Any, value: int, count: int, stream: Any) -> Any:
        return (self._set(int(devPtr), value, count, int(stream)) or Error.cudaSuccess,)

    def cudaStreamCreate(self) -> Any:
        return self._new_stream(_Stream())

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        return self._new_stream(_Stream(waits_for_default=not flags & real.cudaStreamNonBlocking))

    def cudaStreamSynchronize(self, stream: Any) -> Any:
        return (self._synchronize(int(stream)),)

    def cudaDeviceSynchronize(self) -> Any:
        for stream in self.streams:
            self._synchronize(stream)
        return (self.fault or Error.cudaSuccess,)

    def cudaStreamDestroy(self, stream: Any) -> Any:
        # What is pending is dropped: its host memory may be gone, which a double must not write to.
        known = int(stream) and self.streams.pop(int(stream), None) is not None
        return (Error.cudaSuccess if known else Error.cudaErrorInvalidResourceHandle,)

    def cudaStreamBeginCapture(self, stream: Any, _mode: Any) -> Any:
        there = self.streams.get(int(stream))
        if there is None or not int(stream):
            return (Error.cudaErrorStreamCaptureUnsupported,)
        if there.captured is not None:
            return (Error.cudaErrorIllegalState,)
        there.captured, there.invalid = [], False
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        there = self.streams.get(int(stream))
        if there is None or there.captured is None:
            return Error.cudaErrorIllegalState, real.cudaGraph_t(0)
        work, there.captured = there.captured, None
        if there.invalid:
            return Error.cudaErrorStreamCaptureInvalidated, real.cudaGraph_t(0)
        handle = self._handle()
        self.graphs[handle] = work
        return Error.cudaSuccess, real.cudaGraph_t(handle)

    def cudaGraphInstantiate(self, graph: Any, _flags: int) -> Any:
        if int(graph) not in self.graphs:
            return Error.cudaErrorInvalidValue, real.cudaGraphExec_t(0)
        handle = self._handle()
        self.runs[handle] = list(self.graphs[int(graph)])
        return Error.cudaSuccess, real.cudaGraphExec_t(handle)

    def cudaGraphDestroy(self, graph: Any) -> Any:
        return self._drop(self.graphs, graph)

    def cudaGraphExecDestroy(self, graphExec: Any) -> Any:
        return self._drop(self.runs, graphExec)

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> Any:
        if int(graphExec) not in self.runs:
            return (Error.cudaErrorInvalidValue,)
        self.launches += 1
        for work, seconds in self.runs[int(graphExec)]:
            status = self._put(int(stream), work, seconds)
            if status != Error.cudaSuccess:
                return (status,)
        return (Error.cudaSuccess,)

    def cudaEventCreate(self) -> Any:
        return self.cudaEventCreateWithFlags(0)

    def cudaEventCreateWithFlags(self, _flags: int) -> Any:
        handle = self._handle()
        self.events[handle] = None
        return Error.cudaSuccess, real.cudaEvent_t(handle)

    def cudaEventRecord(self, event: Any, stream: Any) -> Any:
        handle = int(event)
        if handle not in self.events:
            return (Error.cudaErrorInvalidResourceHandle,)
        self.events[handle] = None
        self.recorded.add(handle)

        def reach() -> None:
            if handle in self.events:  # it may be destroyed before it comes to pass
                self.events[handle] = self.now

        return (self._put(int(stream), reach, 0.0),)

    def cudaEventSynchronize(self, event: Any) -> Any:
        self.waits += 1
        for stream in self.streams:
            self.flush(stream)
        return (Error.cudaSuccess if int(event) in self.events else Error.cudaErrorInvalidResourceHandle,)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> Any:
        if not {int(start), int(end)} <= self.recorded & self.events.keys():
            return Error.cudaErrorInvalidResourceHandle, 0.0
        first, last = self.events[int(start)], self.events[int(end)]
        if first is None or last is None:
            return Error.cudaErrorNotReady, 0.0
        return Error.cudaSuccess, float(np.float32((last - first) * 1e3))  # of which CUDA gives so many digits

    def cudaEventDestroy(self, event: Any) -> Any:
        return self._drop(self.events, event)

    # How.

    def _handle(self) -> int:
        self._next += 0x10
        return self._next

    def _new_stream(self, stream: _Stream) -> Any:
        handle = self._handle()
        self.streams[handle] = stream
        return Error.cudaSuccess, real.cudaStream_t(handle)

    def _drop(self, table: dict[int, Any], handle: Any) -> Any:
        known = int(handle) in table
        table.pop(int(handle), None)
        return (Error.cudaSuccess if known else Error.cudaErrorInvalidResourceHandle,)

    def _put(self, stream: int, work: Work, seconds: float) -> Any:
        there = self.streams.get(stream)
        if there is None:
            return Error.cudaErrorInvalidResourceHandle
        if self.fault is not None:
            return self.fault
        if there.captured is not None:
            there.captured.append(Task(work, seconds))
            return Error.cudaSuccess
        there.pending.append(Task(work, seconds))
        return Error.cudaSuccess

    def _do(self, task: Task) -> None:
        if self.fault is None:
            self.now += task.seconds
            try:
                task.work()
            except IllegalAddress:
                self.fault = Error.cudaErrorIllegalAddress  # and the context is lost

    def _synchronize(self, stream: int) -> Any:
        self.waits += 1
        there = self.streams.get(stream)
        if there is None:
            return Error.cudaErrorInvalidResourceHandle
        if there.captured is not None:
            there.invalid = True
            return Error.cudaErrorStreamCaptureUnsupported
        if stream == 0:  # the legacy default stream waits for all that wait for it
            for handle, other in self.streams.items():
                if other.waits_for_default:
                    self.flush(handle)
        self.flush(stream)
        return self.fault or Error.cudaSuccess

    def _is_device(self, address: int, nbytes: int) -> bool:
        return any(
            start <= address and address + nbytes <= start + max(a.nbytes, 1) for start, a in self.memory.items()
        )

    def _is_pinned(self, address: int, nbytes: int) -> bool:
        return any(start <= address and address + nbytes <= start + a.nbytes for start, a in self.pinned.items())

    def _copy(self, dst: Any, src: Any, count: int, kind: Any, stream: int) -> Any:
        kinds = real.cudaMemcpyKind
        to_device = kind in (kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToDevice)
        from_device = kind in (kinds.cudaMemcpyDeviceToHost, kinds.cudaMemcpyDeviceToDevice)
        for address, device in ((int(dst), to_device), (int(src), from_device)):
            if self._is_device(address, count if device else 0) != device:
                return Error.cudaErrorInvalidValue
        # Pageable memory is staged: it may change after the call, and pinned memory may not. What comes back is
        # there when waited for.
        staged = None if from_device or self._is_pinned(int(src), count) else _view(int(src), count).copy()

        def copy() -> None:
            _view(int(dst), count)[...] = _view(int(src), count) if staged is None else staged

        status = self._put(stream, copy, COPY + count * COPY_BYTE)
        return None if status == Error.cudaSuccess else status

    def _set(self, address: int, value: int, count: int, stream: int) -> Any:
        if not self._is_device(address, count):
            return Error.cudaErrorInvalidValue
        status = self._put(stream, lambda: _view(address, count).fill(value & 0xFF), count * SET_BYTE)
        return None if status == Error.cudaSuccess else status


def _view(address: int, nbytes: int) -> Array:
    if not nbytes:
        return np.empty(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


GIVES = re.compile(r"Get|Create|Malloc|EndCapture|Instantiate|Elapsed")  # functions with a value beside the status
WITHOUT_DRIVER = ("cudaGetErrorString", "cudaDriverGetVersion", "cudaRuntimeGetVersion")


def _module(cuda: Cuda) -> types.ModuleType:
    class Runtime(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if not hasattr(real, name):
                raise Missing(f"cuda.bindings.runtime {_version()}: has no {name}", name=name)
            there = getattr(real, name)
            if not _is_function(there):
                return there  # enums, structures and constants work without a GPU
            if not hasattr(Cuda, name):
                cuda.refusals.append(f"cuda.bindings.runtime.{name} is not played")
                raise NotPlayed(f"cuda.bindings.runtime.{name} is there, and has no play")
            return _function(cuda, name, there)

    return Runtime("cuda.bindings.runtime")


def _version() -> str:
    from cuda.bindings import __version__

    return str(__version__)


def _is_function(thing: Any) -> bool:
    return type(thing).__name__ in ("cython_function_or_method", "builtin_function_or_method", "function")


def _function(cuda: Cuda, name: str, there: Any) -> Any:
    signature = inspect.signature(there)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
            for parameter, value in bound.arguments.items():
                _check(signature.parameters[parameter].annotation, value)
        except TypeError as error:
            cuda.refusals.append(f"cuda.bindings.runtime.{name}: {error}")
            raise Refused(f"cuda.bindings.runtime.{name}{signature}: {error}") from None
        if not cuda.gpu and name not in WITHOUT_DRIVER:
            values = 2 if name == "cudaMemGetInfo" else 1 if GIVES.search(name) else 0
            return (Error.cudaErrorInsufficientDriver, *(None for _ in range(values)))
        return getattr(cuda, name)(*bound.args, **bound.kwargs)

    return call


def _check(annotation: Any, value: Any) -> None:
    """Enums where the real function names one; elsewhere numbers and handles."""
    if isinstance(annotation, str) and hasattr(real, annotation):
        if not isinstance(value, getattr(real, annotation)):
            raise TypeError(f"got {value!r}, takes a {annotation}")
    elif isinstance(value, (str, bytes, float)) or not (hasattr(value, "__int__") or hasattr(value, "__index__")):
        raise TypeError(f"got {value!r} ({type(value).__name__}), takes a number or a handle")
