"""The CUDA device, as far as this project needs it: streams, buffers, events, captured graphs.

Every resource has ``close()`` and is a context manager. Every CUDA status other than success is a
`CudaError`. Memory comes from plain allocations and belongs to whoever made it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from cuda.bindings import runtime as cudart

from harness.errors import RunError

Array = np.ndarray[Any, Any]
_allocated: dict[int, int] = {}  # bytes by address, of all that this process has allocated and not freed
R = TypeVar("R", bound="Resource")


class CudaError(RunError):
    """A CUDA call failed; ``detail`` has its name and status."""

    @property
    def is_shortage(self) -> bool:
        """Whether there is too little memory: the device goes on working."""
        return bool(self.detail.get("cuda_error") == int(cudart.cudaError_t.cudaErrorMemoryAllocation))


def check(status: tuple[Any, ...]) -> Any:
    """The result of a CUDA runtime call without its status, once that is success."""
    code, *values = status
    if code != cudart.cudaError_t.cudaSuccess:
        _, text = cudart.cudaGetErrorString(code)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise CudaError(f"CUDA: {words} ({code.name}, {int(code)})", detail={"cuda_error": int(code)})
    return values[0] if len(values) == 1 else tuple(values)


def count() -> int:
    """How many devices CUDA sees. CudaError when there is no driver, or it is too old."""
    number: int = check(cudart.cudaGetDeviceCount())
    return number


def describe(device: int) -> dict[str, Any]:
    """Name, compute capability, memory in bytes, UUID, and the versions of driver and runtime."""
    facts = check(cudart.cudaGetDeviceProperties(device))
    name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
    return {
        "gpu": name.rstrip("\0"),
        "compute_capability": f"{facts.major}.{facts.minor}",
        "gpu_memory": int(facts.totalGlobalMem),
        "gpu_uuid": bytes(facts.uuid.bytes).hex() if hasattr(facts.uuid, "bytes") else "",
        "cuda_driver": check(cudart.cudaDriverGetVersion()),
        "cuda_runtime": check(cudart.cudaRuntimeGetVersion()),
    }


def management() -> Any:
    """NVML, as the module of CUDA's bindings. ImportError where they are too old to have it."""
    from cuda.bindings import nvml

    return nvml


def use(device: int) -> None:
    """Make ``device`` the current one of this thread."""
    check(cudart.cudaSetDevice(device))


def free_memory() -> int:
    """Bytes of the current device that nobody has taken."""
    free, _total = check(cudart.cudaMemGetInfo())
    return int(free)


def taken_memory() -> int:
    """Bytes of the current device that somebody has taken, this process or another."""
    free, total = check(cudart.cudaMemGetInfo())
    return int(total) - int(free)


def l2_cache() -> int:
    """Bytes of the current device's second-level cache."""
    attribute = cudart.cudaDeviceAttr.cudaDevAttrL2CacheSize
    return int(check(cudart.cudaDeviceGetAttribute(attribute, check(cudart.cudaGetDevice()))))


def allocated() -> tuple[int, int]:
    """How many allocations of `Buffer` and `Pinned` are not freed, whoever forgot them, and their bytes."""
    return len(_allocated), sum(_allocated.values())


class Resource:
    """Something that is given back once, by ``close()`` or at the end of a ``with``."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream(Resource):
    """A stream that does not wait for the legacy default stream."""

    def __init__(self) -> None:
        self._stream: Any = check(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))

    @property
    def handle(self) -> int:
        return int(self._stream)

    def synchronize(self) -> None:
        check(cudart.cudaStreamSynchronize(self._stream))

    def upload(self, array: Array, buffer: Buffer) -> None:
        """Copy a contiguous host array; it must live until the stream is synchronized."""
        if array.nbytes:
            kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
            check(cudart.cudaMemcpyAsync(buffer.address, array.ctypes.data, array.nbytes, kind, self._stream))

    def download(self, buffer: Buffer, array: Array) -> None:
        """Copy into a contiguous host array, which is complete once the stream is synchronized."""
        if array.nbytes:
            kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
            check(cudart.cudaMemcpyAsync(array.ctypes.data, buffer.address, array.nbytes, kind, self._stream))

    def send(self, pinned: Pinned, buffer: Buffer) -> None:
        """Copy all of ``pinned`` to the device, while the host goes on."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        check(cudart.cudaMemcpyAsync(buffer.address, pinned.address, pinned.nbytes, kind, self._stream))

    def fetch(self, buffer: Buffer, pinned: Pinned) -> None:
        """Fill ``pinned`` from the device, while the host goes on."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        check(cudart.cudaMemcpyAsync(pinned.address, buffer.address, pinned.nbytes, kind, self._stream))

    def fill(self, buffer: Buffer, byte: int, nbytes: int) -> None:
        """Set the first ``nbytes`` of ``buffer`` to ``byte``."""
        if nbytes:
            check(cudart.cudaMemsetAsync(buffer.address, byte, nbytes, self._stream))

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """What ``enqueue`` puts on this stream, as a graph; nothing runs. CudaError when it can't be captured."""
        check(cudart.cudaStreamBeginCapture(self._stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed))
        try:
            enqueue()
        except BaseException:
            # A stream left capturing refuses everything; its graph, valid or not, is of no use.
            _, graph = cudart.cudaStreamEndCapture(self._stream)
            if graph is not None and int(graph):
                check(cudart.cudaGraphDestroy(graph))
            raise
        return Graph(check(cudart.cudaStreamEndCapture(self._stream)))

    def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            check(cudart.cudaStreamDestroy(stream))


class Buffer(Resource):
    """Device memory that grows when asked for more, and never shrinks."""

    def __init__(self) -> None:
        self.address = 0
        self.nbytes = 0

    def reserve(self, nbytes: int) -> bool:
        """Have at least ``nbytes`` (at least 1, so that an empty tensor has an address too).

        True when the address changed; the old contents are then lost.
        """
        wanted = max(nbytes, 1)
        if wanted <= self.nbytes:
            return False
        self.close()
        self._allocate(wanted)
        return True

    def move(self) -> None:
        """Have as much memory at another address, with nothing in it."""
        before, nbytes = self.address, self.nbytes
        self._allocate(max(nbytes, 1))
        if before:
            _free(before)

    def _allocate(self, nbytes: int) -> None:
        self.address = int(check(cudart.cudaMalloc(nbytes)))
        self.nbytes = _allocated[self.address] = nbytes

    def close(self) -> None:
        if self.address:
            address, self.address, self.nbytes = self.address, 0, 0
            _free(address)


class Pinned(Resource):
    """Memory of the host that the device reads and writes by itself, so that a copy does not hold up the host.

    ``array`` is that memory, uint8 of one dimension; it must not be used once this is closed.
    """

    def __init__(self, nbytes: int) -> None:
        self.address = int(check(cudart.cudaMallocHost(nbytes)))
        self.nbytes = _allocated[self.address] = nbytes
        self.array: Array = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self.address))

    def close(self) -> None:
        if self.address:
            address, self.address, self.nbytes = self.address, 0, 0
            del _allocated[address]
            check(cudart.cudaFreeHost(address))


def _free(address: int) -> None:
    del _allocated[address]
    check(cudart.cudaFree(address))


class Event(Resource):
    """A point on a stream, with its time."""

    def __init__(self) -> None:
        self._event: Any = check(cudart.cudaEventCreate())

    def record(self, stream: Stream) -> None:
        check(cudart.cudaEventRecord(self._event, stream.handle))

    def since(self, start: Event) -> float:
        """Seconds between two recorded events that have both come to pass."""
        milliseconds: float = check(cudart.cudaEventElapsedTime(start._event, self._event))
        return milliseconds / 1e3

    def close(self) -> None:
        if self._event is not None:
            event, self._event = self._event, None
            check(cudart.cudaEventDestroy(event))


class Graph(Resource):
    """A captured sequence, ready to be launched again and again."""

    def __init__(self, graph: Any) -> None:
        try:
            self._run: Any = check(cudart.cudaGraphInstantiate(graph, 0))
        finally:
            check(cudart.cudaGraphDestroy(graph))

    def launch(self, stream: Stream) -> None:
        check(cudart.cudaGraphLaunch(self._run, stream.handle))

    def close(self) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            check(cudart.cudaGraphExecDestroy(run))
