"""What the inputs and outputs of one session lie in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness.errors import RunError
from harness.runtime.backend.nv.elements import nbytes
from harness.runtime.backend.protocol import POISON, Array, IOTensor, Shape
from harness.runtime.device import Buffer, CudaError, Resource, Stream


class Memory(Resource):
    """A device buffer for each tensor; for one that holds a shape, host memory, which TensorRT uses in place.

    Outputs are poisoned wherever they come to lie: floats with NaN, other types with bytes of 0xA5.
    """

    def __init__(self, tensors: Mapping[str, IOTensor], stream: Stream) -> None:
        self._tensors, self._stream = tensors, stream
        self._outputs = [tensor.name for tensor in tensors.values() if tensor.mode == "output"]
        self._buffers = {name: Buffer() for name in tensors}
        self._host: dict[str, Array] = {}
        self._limits: dict[str, int] = {}
        self._poisons = True
        self._short: list[str] = []  # what allocators were refused

    def reserve(self, name: str, shape: Shape) -> None:
        """Have device memory for ``shape``."""
        if self._buffers[name].reserve(nbytes(self._tensors[name].dtype, shape)):
            self._poison(name)

    def home(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Host memory, the same as long as its shape is: a captured graph goes on using it."""
        kept = self._host.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            self.has_room(name, shape)
            kept = self._host[name] = np.empty(shape, dtype)
            self._poison(name)
        return kept

    def address(self, name: str) -> int:
        return self._buffers[name].address

    def buffer(self, name: str) -> Buffer:
        """The buffer of a tensor, the same as long as this is open, wherever it lies."""
        return self._buffers[name]

    @property
    def addresses(self) -> dict[str, int]:
        """Of all on the device."""
        return {name: buffer.address for name, buffer in self._buffers.items()}

    def allocate(self, name: str, size: int) -> int:
        """Memory for an output of ``size`` bytes, as an output allocator gives it: 0 where there is none."""
        if (words := self._shortage(name, size)) is not None:
            self._short.append(words)
            return 0
        self._buffers[name].reserve(size)
        self._poison(name)
        return self._buffers[name].address

    def move(self, name: str) -> None:
        """Have as much memory elsewhere."""
        if name in self._host:
            self._host[name] = self._host[name].copy()
        if self._buffers[name].address:
            self._buffers[name].move()
        self._poison(name)

    def limit(self, name: str, size: int | None) -> None:
        """Let a tensor have ``size`` bytes at most; None lifts it."""
        if size is None:
            self._limits.pop(name, None)
        else:
            self._limits[name] = size

    def has_room(self, name: str, shape: Shape) -> None:
        """RunError when ``shape`` is more than its limit allows."""
        words = self._shortage(name, nbytes(self._tensors[name].dtype, shape))
        if words is not None:
            raise RunError(f"{words}, for shape {shape}")

    def refuse_shortage(self) -> None:
        """RunError when an allocator had to refuse since this was asked last."""
        if self._short:
            words, self._short = self._short[0], []
            raise RunError(words)

    def _shortage(self, name: str, size: int) -> str | None:
        limit = self._limits.get(name)
        if limit is None or size <= limit:
            return None
        return f"{name!r} needs {size} bytes, its memory is limited to {limit}"

    def upload(self, name: str, array: Array) -> None:
        """Copy to the device; ``array`` must live until the stream is synchronized."""
        self._stream.upload(array, self._buffers[name])

    def download(self, name: str, size: int) -> Array:
        """The first ``size`` bytes, there once the stream is synchronized."""
        array = np.empty(size, np.uint8)
        self._stream.download(self._buffers[name], array)
        return array

    @contextlib.contextmanager
    def as_it_is(self) -> Iterator[None]:
        """Nothing is poisoned meanwhile: what an allocator hands out in a run that is timed must cost it nothing."""
        self._poisons = False
        try:
            yield
        finally:
            self._poisons = True

    def poison(self) -> None:
        """Poison all of every output's memory."""
        for name in self._outputs:
            self._poison(name)

    def _poison(self, name: str) -> None:
        if name not in self._outputs or not self._poisons:
            return
        if name in self._host:
            self._host[name].reshape(-1).view(np.uint8)[...] = self._byte(name)
        self._stream.fill(self._buffers[name], self._byte(name), self._buffers[name].nbytes)

    def _byte(self, name: str) -> int:
        return 0xFF if "float" in self._tensors[name].dtype else POISON

    def touched(self) -> tuple[str, ...] | None:
        """Outputs whose memory is not all poison; None where none has memory, or the device can't be asked."""
        held = {name: self._host[name].reshape(-1).view(np.uint8) for name in self._outputs if name in self._host}
        try:
            for name in self._outputs:
                if self._buffers[name].address:
                    held[name] = self.download(name, self._buffers[name].nbytes)
            self._stream.synchronize()
        except CudaError:
            return None
        return tuple(name for name, data in held.items() if (data != self._byte(name)).any()) if held else None

    def close(self) -> None:
        for buffer in self._buffers.values():
            buffer.close()
