"""A kernel that spins for a stated number of the device's clock cycles: slowness of an exactly known size."""

from __future__ import annotations

import ctypes
from typing import Any

from cuda.bindings import driver

# The driver compiles it for the device at hand.
SPIN = b"""
.version 7.0
.target sm_70
.address_size 64

.visible .entry spin(.param .u64 cycles)
{
    .reg .u64 %begin, %now, %asked;
    .reg .pred %early;
    ld.param.u64 %asked, [cycles];
    mov.u64 %begin, %clock64;
again:
    mov.u64 %now, %clock64;
    sub.u64 %now, %now, %begin;
    setp.lt.u64 %early, %now, %asked;
    @%early bra again;
    ret;
}
"""


def kernel() -> Any:
    """The kernel, for the context that is current."""
    status, module = driver.cuModuleLoadData(SPIN)
    assert status == driver.CUresult.CUDA_SUCCESS, status
    status, function = driver.cuModuleGetFunction(module, b"spin")
    assert status == driver.CUresult.CUDA_SUCCESS, status
    return function


def launch(spin: Any, cycles: int, stream: int) -> None:
    """``spin`` for ``cycles``, on ``stream``."""
    (status,) = driver.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, ((cycles,), (ctypes.c_uint64,)), 0)
    assert status == driver.CUresult.CUDA_SUCCESS, status
