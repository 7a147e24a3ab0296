"""What every play shares: the process, its one logger, and the small value classes."""

from __future__ import annotations

import re
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.doubles.double import Double

MAX_DIMS = 8

# DataType members and the element types of numpy and ONNX that they stand for, most fitting first.
DTYPES: dict[str, tuple[str, float]] = {
    "FLOAT": ("float32", 4),
    "HALF": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "INT8": ("int8", 1),
    "INT32": ("int32", 4),
    "INT64": ("int64", 8),
    "BOOL": ("bool", 1),
    "UINT8": ("uint8", 1),
    "FP8": ("float8_e4m3fn", 1),
    "INT4": ("int4", 0.5),
    "FP4": ("float4_e2m1fn", 0.5),
}
DRIVER_ECHO = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)


class World:
    """One process in which the double is loaded."""

    def __init__(self, double: Double) -> None:
        self.double = double
        self.logger: Any = None
        self.cuda: Any = None  # the double of CUDA that memory and streams come from
        self.crash: Callable[[int], Any] = signal.raise_signal  # how this process ends where the real one's does

    def has(self, path: str) -> bool:
        """Whether the version lists ``path``: a class, an enum, or one member of either."""
        owner, _, member = path.partition(".")
        if owner in self.double.enums:
            return not member or member in self.double.enums[owner].__members__
        cls = self.double.classes.get(owner)
        return cls is not None and (not member or any(member in vars(base) for base in cls.__mro__))

    @property
    def legacy(self) -> bool:
        """A version whose networks may still have an implicit batch dimension."""
        return self.has("Builder.max_batch_size")

    @property
    def rtx(self) -> bool:
        return self.has("ComputeCapability")

    @property
    def kind(self) -> str:
        """ "lean" or "dispatch" for a runtime that builds nothing; "" for all others."""
        return next((kind for kind in ("lean", "dispatch") if self.double.name.endswith(kind)), "")

    def enum(self, path: str) -> Any:
        owner, _, member = path.rpartition(".")
        return self.double.enums[owner].__members__[member]

    def new(self, name: str, play: Play | None) -> Any:
        """The object that ``play`` plays: the one there is already, or a new one."""
        there = None if play is None or play.api is None else play.api()
        return there if there is not None else self.double.new(name, play)

    def register(self, logger: Any, function: str) -> None:
        """Take ``logger`` if it is the first of this process; TensorRT never takes another."""
        if self.logger is None:
            self.logger = logger
        elif self.logger is not logger:
            self.log(
                "WARNING",
                f"The logger passed into {function} differs from one already registered for an existing builder, "
                "runtime, or refitter. So the current new logger is ignored, and TensorRT will use the existing one "
                "which is returned by nvinfer1::getLogger() instead.",
            )

    def log(self, severity: str, message: str) -> None:
        self.double.call(self.logger, "log", self.enum(f"ILogger.Severity.{severity}"), message)

    def error(self, where: str, words: str, code: str = "3: API Usage Error") -> None:
        """An error as the version words it, with the echo that follows it where there is no driver."""
        number, _, kind = code.partition(": ")
        place = f"{number}: [{where}] Error Code {number}" if self.legacy else f"{where}: Error Code {number}"
        self.log("ERROR", f"{place}: {kind} ({words})")
        if not self.double.gpu:
            self.log("ERROR", DRIVER_ECHO)

    def enter(self, thing: Any) -> Any:
        warnings.warn(
            "Context managers for TensorRT types are deprecated. "
            "Memory will be freed automatically when the reference count reaches 0.",
            DeprecationWarning,
            stacklevel=3,
        )
        return thing

    def dtype(self, name: str) -> Any:
        """The DataType for numpy's ``name``, as this version binds it; None when it has none."""
        narrow = {"float64": "float32"} | ({} if self.has("DataType.INT64") else {"int64": "int32"})
        name = narrow.get(name, name)
        member = next((member for member, (known, _) in DTYPES.items() if known == name), "")
        return self.enum(f"DataType.{member}") if member and self.has(f"DataType.{member}") else None


class Play:
    """One object. ``api`` refers to the object of the double, once there is one."""

    api: weakref.ref[Any] | None = None

    def __init__(self, world: World) -> None:
        self.world = world


class Dims(Play):
    """Sizes, at most 8."""

    def __init__(self, world: World, *given: Any) -> None:
        super().__init__(world)
        self.sizes = [int(size) for size in (given[0] if len(given) == 1 else given)]
        if len(self.sizes) > MAX_DIMS:
            raise ValueError(f"Input length {len(self.sizes)}. Max expected length is {MAX_DIMS}")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self.sizes[index])
        if not -len(self.sizes) <= index < len(self.sizes):
            raise IndexError("Out of bounds")
        return self.sizes[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.sizes[index] = list(value) if isinstance(index, slice) else value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple)):
            raise TypeError("__eq__(): incompatible function arguments: takes a list or a tuple, as Dims do")
        return self.sizes == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(tuple(self.sizes))

    def __str__(self) -> str:
        return repr(self)


class Permutation(Dims):
    """An order of axes."""


class Weights(Play):
    """Values of a network; they are not copied."""

    def __init__(self, world: World, given: Any, address: int = 0, count: int = 0) -> None:
        super().__init__(world)
        self.array = given if isinstance(given, np.ndarray) else np.zeros(0, np.float32)
        self.dtype: Any = world.dtype(str(self.array.dtype))
        if self.dtype is None:
            raise TypeError(f"Could not implicitly convert NumPy data type: {self.array.dtype} to TensorRT.")
        self.size, self.nbytes, self.address = self.array.size, self.array.nbytes, address
        if address:  # of a type that is given, on the host or on the device
            self.dtype, self.size = given, count
            self.nbytes = int(count * DTYPES[given.name][1])

    def __len__(self) -> int:
        return int(self.size)

    def numpy(self) -> Any:
        return self.array


class ILogger(Play):
    """The base class; what is derived from it overrides ``log``."""

    def log(self, _severity: Any, _message: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class Logger(Play):
    """Prints to standard error, from ``min_severity`` on."""

    def __init__(self, world: World, min_severity: Any) -> None:
        super().__init__(world)
        self.min_severity = min_severity

    def log(self, severity: Any, message: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] [{severity.name[0]}] {message}", file=sys.stderr)


class Callback(Play):
    """An interface whose work is done by what is derived from it."""


class HostMemory(Play):
    """Bytes that a builder gives out; they are read through the buffer protocol only."""

    def __init__(self, world: World, data: bytes) -> None:
        super().__init__(world)
        self.nbytes = len(data)
        self.dtype = world.enum("DataType.INT8")

    @classmethod
    def of(cls, world: World, data: bytes) -> Any:
        memory = world.new("IHostMemory", cls(world, data))
        bytearray.__init__(memory, data)
        return memory


class PluginRegistry(Play):
    """Knows no plugins, and loads what the dynamic loader loads."""

    def load_library(self, plugin_path: str) -> Any:
        if self.world.legacy:
            return  # 8.6 says None, and not a word
        self.world.error(
            "IPluginRegistry::loadLibrary",
            f"Unable to load library: {plugin_path}: {plugin_path}: cannot open shared object file: "
            "No such file or directory",
            "6: API Usage Error",
        )


def volume(_world: World, sizes: Any) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def nptype(_world: World, member: Any) -> Any:
    name = DTYPES.get(member.name, ("", 0))[0]
    if not re.fullmatch(r"float(16|32)|u?int(8|32|64)|bool", name):
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return np.dtype(name).type


def itemsize(_world: World, member: Any) -> float | None:
    return DTYPES.get(member.name, ("", None))[1]


def init_libnvinfer_plugins(world: World, logger: Any, _namespace: str) -> bool:
    if logger is not None:
        world.register(logger, "initLibNvInferPlugins")
    return True


def get_plugin_registry(world: World) -> Any:
    return world.new("IPluginRegistry", PluginRegistry(world))


PLAYS: dict[str, type] = {
    "Dims": Dims,
    "Dims2": Dims,
    "Dims3": Dims,
    "Dims4": Dims,
    "DimsHW": Dims,
    "Permutation": Permutation,
    "Weights": Weights,
    "ILogger": ILogger,
    "Logger": Logger,
    "IOutputAllocator": Callback,
    "IProgressMonitor": Callback,
    "IProfiler": Callback,
    "IStreamReaderV2": Callback,
    "IStreamWriter": Callback,
    "IHostMemory": HostMemory,
    "IPluginRegistry": PluginRegistry,
}


def error_code_name(world: World, member: Any) -> Any:
    """Of the parser's codes 8.6 has a bound method instead, which nothing can call."""

    def name() -> str:
        raise TypeError("name(): incompatible function arguments")

    return name if world.legacy else vars(member)["name"]


FUNCTIONS: dict[str, Any] = {
    "volume": volume,
    "nptype": nptype,
    "_itemsize": itemsize,
    "_error_code_name": error_code_name,
    "init_libnvinfer_plugins": init_libnvinfer_plugins,
    "get_plugin_registry": get_plugin_registry,
}
