"""The double of CUDA: names of the installed package, lazy streams, addresses that are checked."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda.bindings import runtime as real

from tests.doubles.cuda_runtime import COPY, COPY_BYTE, KERNEL, L2_CACHE, SET_BYTE, UNWRITTEN, Cuda
from tests.doubles.double import Missing, NotPlayed, Refused

OK = real.cudaError_t.cudaSuccess
TO_DEVICE = real.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = real.cudaMemcpyKind.cudaMemcpyDeviceToHost
RELAXED = real.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


@pytest.fixture
def cudart(cuda: Cuda) -> Any:
    return cuda.module


def good(status: Any) -> Any:
    """What a call gave beside its success."""
    assert status[0] == OK, status[0]
    return status[1] if len(status) > 1 else None


def test_plays_only_what_the_package_has() -> None:
    played = {name for name in vars(Cuda) if name.startswith("cuda")}
    assert len(played) > 30
    assert all(hasattr(real, name) for name in played)


def test_refuses_what_the_package_has_not(cuda: Cuda, cudart: Any) -> None:
    with pytest.raises(Missing, match="has no cudaMaloc"):
        _ = cudart.cudaMaloc
    assert not hasattr(cudart, "cudaMaloc")
    with pytest.raises(NotPlayed, match="cudaHostRegister is there, and has no play"):
        _ = cudart.cudaHostRegister
    assert cudart.cudaError_t is real.cudaError_t
    misuses: tuple[Callable[[], Any], ...] = (
        lambda: cudart.cudaMalloc(),
        lambda: cudart.cudaMalloc(1, 2),
        lambda: cudart.cudaMalloc(bytes=1),
        lambda: cudart.cudaMalloc("1"),
        lambda: cudart.cudaMemcpyAsync(1, 2, 3, 1, 0),
    )
    for misuse in misuses:
        with pytest.raises(Refused, match=r"cuda.bindings.runtime.cuda"):
            misuse()
    assert len(cuda.refusals) == 6


def test_nothing_runs_before_it_is_waited_for(cudart: Any) -> None:
    stream, address = good(cudart.cudaStreamCreate()), good(cudart.cudaMalloc(4))
    there, back = np.arange(4, dtype=np.uint8), np.zeros(4, np.uint8)
    good(cudart.cudaMemcpyAsync(address, there.ctypes.data, 4, TO_DEVICE, stream))
    there[:] = 9  # pageable memory has been staged
    good(cudart.cudaMemcpyAsync(back.ctypes.data, address, 4, TO_HOST, stream))
    assert back.tolist() == [0, 0, 0, 0]
    good(cudart.cudaStreamSynchronize(stream))
    assert back.tolist() == [0, 1, 2, 3]


def test_fresh_memory_holds_garbage(cuda: Cuda, cudart: Any) -> None:
    address = good(cudart.cudaMalloc(3))
    assert cuda.device_array(address, np.dtype(np.uint8), (3,)).tolist() == [UNWRITTEN] * 3
    assert address % 256 == 0


def test_copies_know_host_from_device(cudart: Any) -> None:
    address, host = good(cudart.cudaMalloc(4)), np.zeros(8, np.uint8)
    invalid = real.cudaError_t.cudaErrorInvalidValue
    for dst, src, count, kind in (
        (host.ctypes.data, address, 4, TO_DEVICE),  # the wrong way round
        (address, address, 4, TO_DEVICE),
        (address, host.ctypes.data, 5, TO_DEVICE),  # one byte too many
        (host.ctypes.data, address + 1, 4, TO_HOST),
    ):
        assert cudart.cudaMemcpyAsync(dst, src, count, kind, 0) == (invalid,)
    assert cudart.cudaMemsetAsync(host.ctypes.data, 0, 1, 0) == (invalid,)


def test_an_illegal_access_ends_everything(cuda: Cuda, cudart: Any) -> None:
    stream, host = good(cudart.cudaStreamCreate()), np.zeros(4, np.float32)
    cuda.enqueue(int(stream), lambda: cuda.device_array(host.ctypes.data, host.dtype, host.shape).fill(1))
    illegal = real.cudaError_t.cudaErrorIllegalAddress
    assert cudart.cudaStreamSynchronize(stream) == (illegal,)
    assert cudart.cudaMemsetAsync(good(cudart.cudaMalloc(1)), 0, 1, stream) == (illegal,)
    assert host.tolist() == [0, 0, 0, 0]


def test_what_is_freed_is_gone(cuda: Cuda, cudart: Any) -> None:
    address, stream, event = good(cudart.cudaMalloc(4)), good(cudart.cudaStreamCreate()), good(cudart.cudaEventCreate())
    assert cuda.live() == {"memory": 1, "streams": 1, "events": 1}
    for free, thing in (
        (cudart.cudaFree, address),
        (cudart.cudaStreamDestroy, stream),
        (cudart.cudaEventDestroy, event),
    ):
        good(free(thing))
        assert free(thing)[0] != OK, "not twice"
    assert cuda.live() == {}
    assert cudart.cudaStreamSynchronize(stream)[0] != OK


def test_graph_replays_on_what_memory_holds_then(cuda: Cuda, cudart: Any) -> None:
    stream, address = good(cudart.cudaStreamCreate()), good(cudart.cudaMalloc(1))

    def value() -> int:
        good(cudart.cudaStreamSynchronize(stream))
        return int(cuda.device_array(address, np.dtype(np.uint8), (1,))[0])

    def double() -> None:
        cuda.device_array(address, np.dtype(np.uint8), (1,))[...] *= 2

    good(cudart.cudaMemsetAsync(address, 1, 1, stream))
    good(cudart.cudaStreamSynchronize(stream))
    good(cudart.cudaStreamBeginCapture(stream, RELAXED))
    assert cuda.enqueue(int(stream), double)
    graph = good(cudart.cudaStreamEndCapture(stream))
    assert value() == 1, "captured, not run"
    run = good(cudart.cudaGraphInstantiate(graph, 0))
    good(cudart.cudaGraphDestroy(graph))
    good(cudart.cudaGraphLaunch(run, stream))
    good(cudart.cudaGraphLaunch(run, stream))
    assert value() == 4
    good(cudart.cudaMemsetAsync(address, 5, 1, stream))
    good(cudart.cudaGraphLaunch(run, stream))
    assert value() == 10
    good(cudart.cudaGraphExecDestroy(run))
    assert cuda.live() == {"memory": 1, "streams": 1}


def test_capture_is_lost_to_what_can_not_be_captured(cuda: Cuda, cudart: Any) -> None:
    stream = good(cudart.cudaStreamCreate())
    good(cudart.cudaStreamBeginCapture(stream, RELAXED))
    assert cudart.cudaStreamSynchronize(stream) == (real.cudaError_t.cudaErrorStreamCaptureUnsupported,)
    status, graph = cudart.cudaStreamEndCapture(stream)
    assert (status, int(graph)) == (real.cudaError_t.cudaErrorStreamCaptureInvalidated, 0)
    good(cudart.cudaStreamBeginCapture(stream, RELAXED))
    assert not cuda.run_now(int(stream), lambda: None)
    assert cudart.cudaStreamEndCapture(stream)[0] == real.cudaError_t.cudaErrorStreamCaptureInvalidated


def test_events_take_the_time_between_them(cuda: Cuda, cudart: Any) -> None:
    stream, first, last = (
        good(cudart.cudaStreamCreate()),
        good(cudart.cudaEventCreate()),
        good(cudart.cudaEventCreate()),
    )
    assert cudart.cudaEventElapsedTime(first, last)[0] == real.cudaError_t.cudaErrorInvalidResourceHandle
    good(cudart.cudaEventRecord(first, stream))
    assert cuda.enqueue(int(stream), lambda: None, 3e-3)
    assert cuda.enqueue(int(stream), lambda: None, 4e-3)
    good(cudart.cudaEventRecord(last, stream))
    assert cudart.cudaEventElapsedTime(first, last)[0] == real.cudaError_t.cudaErrorNotReady
    good(cudart.cudaStreamSynchronize(stream))
    assert good(cudart.cudaEventElapsedTime(first, last)) == pytest.approx(7)
    assert good(cudart.cudaEventElapsedTime(last, first)) == pytest.approx(-7)


def test_an_event_that_is_destroyed_in_time_stays_so(cuda: Cuda, cudart: Any) -> None:
    stream, event = good(cudart.cudaStreamCreate()), good(cudart.cudaEventCreate())
    good(cudart.cudaEventRecord(event, stream))
    good(cudart.cudaEventDestroy(event))
    good(cudart.cudaStreamSynchronize(stream))
    assert "events" not in cuda.live()


def test_all_work_takes_time(cuda: Cuda, cudart: Any) -> None:
    """By what it is, and not by the clock of the machine."""
    stream, address = good(cudart.cudaStreamCreate()), good(cudart.cudaMalloc(1000))
    host = np.zeros(1000, np.uint8)
    spent = []
    for act in (
        lambda: cudart.cudaMemsetAsync(address, 1, 1000, stream),
        lambda: cudart.cudaMemcpyAsync(address, host.ctypes.data, 1000, TO_DEVICE, stream),
        lambda: (OK,) if cuda.enqueue(int(stream), lambda: None) else (None,),
    ):
        before = cuda.now
        good(act())
        assert cuda.now == before, "nothing is done before it is waited for"
        good(cudart.cudaStreamSynchronize(stream))
        spent.append(cuda.now - before)
    assert spent == pytest.approx([1000 * SET_BYTE, COPY + 1000 * COPY_BYTE, KERNEL])


def test_pinned_memory_is_read_when_the_copy_is_done(cuda: Cuda, cudart: Any) -> None:
    stream, address, pinned = (
        good(cudart.cudaStreamCreate()),
        good(cudart.cudaMalloc(4)),
        good(cudart.cudaMallocHost(4)),
    )
    there = np.ctypeslib.as_array((ctypes.c_uint8 * 4).from_address(pinned))
    there[:] = 1
    good(cudart.cudaMemcpyAsync(address, pinned, 4, TO_DEVICE, stream))
    there[:] = 9
    good(cudart.cudaStreamSynchronize(stream))
    assert cuda.device_array(address, np.dtype(np.uint8), (4,)).tolist() == [9] * 4
    assert cuda.live()["pinned"] == 1
    good(cudart.cudaFreeHost(pinned))
    assert cudart.cudaFreeHost(pinned)[0] != OK, "not twice"
    assert "pinned" not in cuda.live()


def test_knows_the_size_of_its_cache(cudart: Any) -> None:
    attributes = real.cudaDeviceAttr
    assert good(cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrL2CacheSize, 0)) == L2_CACHE
    assert cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrL2CacheSize, 1)[0] != OK
    with pytest.raises(NotPlayed, match="cudaDevAttrClockRate is there, and has no play"):
        cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrClockRate, 0)


def test_without_a_driver() -> None:
    """As the real one, which answers so on a machine without a GPU."""
    cudart: Any = Cuda(gpu=False).module
    no_driver = real.cudaError_t.cudaErrorInsufficientDriver
    assert cudart.cudaGetDeviceCount() == (no_driver, None)
    assert cudart.cudaMalloc(1) == (no_driver, None)
    assert cudart.cudaSetDevice(0) == (no_driver,)
    assert cudart.cudaMemGetInfo() == (no_driver, None, None)
    assert good(cudart.cudaGetErrorString(no_driver))
