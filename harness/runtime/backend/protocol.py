"""What every backend is to the rest: build a plan, load it, run it.

A backend works in the process it is made in. Those that load a vendor's runtime are made in an
engine host and reached through `harness.runtime.backend.hosted`, which has the same shape.

What it can do it reports by the names in `harness.runtime.capability.CAPABILITIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt

from harness.judge.poison import POISON as POISON
from harness.judge.poison import poison as poison
from harness.runtime.capability import Probe
from harness.runtime.sampling import Repeated, Samples, Sampling
from harness.spec.build import BuildConfig
from harness.spec.precision import Recipe

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Weights = Mapping[str, Array]  # by name
LayerWeights = Mapping[str, Weights]  # by layer, then by role, as TensorRT's ``WeightsRole`` calls it ("KERNEL")
Progress = Callable[[str, int, int], None]  # phase, step, number of steps
GRANULE = 512  # bytes: of an output allocator TensorRT asks for multiples of it, as seen on 8.6
HowToRefit = Literal["plain", "async", "device"]
UNCAPTURABLE = "uncapturable"  # in the ``detail`` of a RunError: what was refused is the capture of a graph
REFUSED_TIMINGS = "refused_timings"  # in the ``detail`` of a BuildError: what was refused is the timing cache


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, optimal and largest shape (or, for a shape tensor, contents) of one input."""

    min: Shape
    opt: Shape
    max: Shape


@dataclass(frozen=True)
class BuildRequest:
    """A build as a backend sees it: a file, and everything resolved to names and numbers.

    ``model`` is the path of the ONNX file, already converted to the recipe's precision; ``network``
    is the import path of a callable instead. Each profile gives every input its shapes, and each
    shape tensor its contents in ``contents``, by input name.

    ``timing_cache`` is what earlier builds found out about tactics, serialized, and empty for nothing
    yet. With None a build starts from nothing, and what it finds out is not asked for: a cold one.
    """

    name: str
    recipe: Recipe
    config: BuildConfig
    profiles: tuple[Mapping[str, ShapeRange], ...]
    contents: tuple[Mapping[str, ShapeRange], ...]
    model: str = ""
    network: str = ""
    network_folder: str = ""
    stream: bool = False  # the builder hands the plan out piece by piece, to a stream writer; the plan is the same
    timing_cache: Array | None = field(default=None, compare=False)  # uint8 of one dimension


@dataclass(frozen=True)
class Plan:
    """A serialized engine, uint8 of one dimension, with seconds by stage and the builder's messages."""

    data: Array
    seconds: Mapping[str, float] = field(default_factory=dict)  # "parse", "build"
    log: tuple[str, ...] = ()
    keep: bool = True  # False when it needs what only this run or process has: a file, a loaded plugin library
    # what the request's has become; None where it had none, or the build goes by none
    timing_cache: Array | None = field(default=None, compare=False)


@dataclass(frozen=True)
class IOTensor:
    """One input or output of an engine, as the engine reports it. Dynamic sizes are -1."""

    name: str
    mode: str  # "input" or "output"
    dtype: str
    shape: Shape
    shape_tensor: bool = False  # its contents decide shapes; lives on the host
    format: str = ""  # how it lies in memory, as TensorRT calls it ("LINEAR"); "" where that is not told


@dataclass(frozen=True)
class EngineInfo:
    """What an engine says of itself; ``facts`` (layers, memory, profiles, ...) as far as its version tells."""

    tensors: tuple[IOTensor, ...]
    profiles: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)  # "deserialize"

    @property
    def outputs(self) -> tuple[IOTensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.mode == "output")

    @property
    def inputs(self) -> tuple[IOTensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.mode == "input")


@dataclass(frozen=True)
class Streaming:
    """Weights that come to the device as they are needed, in bytes.

    ``budget`` of all that are ``streamable`` may stay on the device; to stream the others every session takes
    ``scratch`` there. ``device`` is what the engine and its sessions take of the device's memory now, by what is
    free beside them: others on the same device count in. It is given out in steps of ``step``.
    """

    streamable: int
    budget: int
    scratch: int
    device: int
    step: int = 1


@dataclass(frozen=True)
class Residue:
    """What lives of all that a backend made in its process, in numbers, and what its logger had to say.

    ``buffers`` counts allocations that sessions hold, ``nbytes`` their bytes; a backend that holds no
    memory of its own between runs (onnxruntime) has none. ``errors`` are those that the runtime's logger
    received and that no call took along: they came while nobody listened, or in a call that went well.
    Each is handed out once.
    """

    engines: int = 0
    sessions: int = 0
    buffers: int = 0
    nbytes: int = 0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refittable:
    """Weights of an engine that a refit may replace, as the engine lists them.

    A weight may have a name, a place (a layer and a role in it), or both. ``missing`` and ``missing_places``
    are those that have to be given together with what was given already: the engine holds them only in what it
    computed from all of them.
    """

    names: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    missing: tuple[str, ...] = ()
    missing_places: tuple[tuple[str, str], ...] = ()


class Session(Protocol):
    """One execution context on one optimization profile at a time.

    After a call that was refused the session is as good as before it: the next valid run is right.
    """

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        """Outputs by name. RunError when TensorRT refuses, or says False.

        Every output buffer is poisoned first, so that what an engine does not write shows: floats
        to NaN, other types to bytes of 0xA5. With ``graph`` the launch is captured for these shapes
        and replayed from then on, on new inputs. UnsupportedError where that can't be, by what the
        engine itself shows: sizes that depend on data, or shape tensors among inputs and outputs. Any
        other refusal is a RunError with TensorRT's words, and ``detail["uncapturable"]``: whether the
        model explains it, by a loop or a branch, only the model can tell.

        ``omit`` leaves one step of binding out, so that its refusal shows (`harness.runtime.backend.omission`):
        ``"shape:<input>"`` its shape is not told, ``"size:<input>:<axis>"`` -1 is told for that one size,
        ``"address:<tensor>"`` no memory is given. What a static input or an honest runtime does not need is
        not missed, and the run goes well. Not together with ``graph``.

        A RunError of a refused run has ``detail["touched"]``: the outputs whose memory changed all the
        same, of which there should be none; it is missing where no output has memory to look at. Only a run
        that is refused for too little memory of an output whose size the data decide (`limit`) may have
        written others by then.
        """

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:
        """The outputs' shapes for ``inputs``, without a run; -1 where only the data decide. RunError as `run`."""

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:
        """How long runs on ``inputs`` take, sampled as ``sampling`` says; errors as `run`.

        The device is asked where there is one, and then ``gpu`` leads; without one, the host's clock is all
        there is, and ``end_to_end`` leads. UnsupportedError for what the backend can't do: a graph, as in `run`,
        a cold cache, several streams. What is made for it is given back before this returns.
        """

    def repeat(self, inputs: Mapping[str, Array], seconds: float, *, graph: bool = False) -> Repeated:
        """Run on ``inputs`` again and again for so many ``seconds``, and count; errors as `measure`.

        Nothing is copied in between, and nothing timed: it is for what others measure meanwhile.
        """

    def reshape(self, inputs: Mapping[str, Array], others: Mapping[str, Array], times: int) -> Array:
        """How long a first run after another shape holds up the host: seconds, float64, (times,); errors as `run`.

        Each time a run on ``others`` comes first and is waited for; then the shapes of ``inputs`` are told, and
        addresses, and a run is enqueued, which is what is timed. UnsupportedError where a runtime is told no shapes.
        """

    def switch(self, profile: int) -> None:
        """Take another profile on the same context; RunError when it is refused, and nothing changes then.

        Shapes told before are forgotten, except by TensorRT 8.6; a captured graph is dropped.
        """

    def move(self, tensor: str) -> None:
        """Give an input or output other memory, with nothing in it; a captured graph does not survive it."""

    def limit(self, tensor: str, nbytes: int | None) -> None:
        """Let the memory of ``tensor`` have at most ``nbytes``; None lifts it.

        A run that needs more is a RunError of ours before anything is launched: TensorRT is given addresses
        and can't see how much there is. Of an output whose size the data decide, and of onnxruntime's, it is
        known only in the run, which is a RunError then; what TensorRT asks for is a multiple of `GRANULE`.
        """

    def close(self) -> None: ...


class Engine(Protocol):
    """A plan made runnable."""

    @property
    def info(self) -> EngineInfo: ...

    def session(self, profile: int = 0) -> Session:
        """A new session; DeserializeError when no context can be made."""

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        """A plan again, uint8 of one dimension, with the weights that it has now.

        ``flags`` are members of ``SerializationFlag`` by name. UnsupportedError where there are none such.
        """

    def stream(self, budget: int | None = None) -> Streaming:
        """Keep at most ``budget`` bytes of the weights on the device, and stream the others; None changes nothing.

        DeserializeError while sessions are open, and for a budget that is refused; UnsupportedError where the
        capability ``weight_streaming`` is missing.
        """

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        """What a refit may replace, and what a refit with ``given`` and ``layers`` would still ask for.

        Nothing is replaced. Errors as in `refit`.
        """

    def refit(
        self,
        weights: Weights,
        *,
        layers: LayerWeights | None = None,
        how: HowToRefit = "plain",
        keep_graphs: bool = False,
    ) -> None:
        """Replace weights by name, those of ``layers`` by place, in all sessions, open ones too: all or none.

        8.6 breaks that: where it refuses a type, which it looks at as late as in the refit, what it came to before
        is replaced.

        Names are those of the ONNX file's initializers and of what its parser made of them. The arrays may
        change as soon as this returns. ``how``: "async" puts the refit on a stream and waits for that;
        "device" hands the weights over in memory of the GPU. Sessions drop the graphs that they captured,
        unless ``keep_graphs``: what a replay of an old graph computes with is for the runtime to say.

        RefitError where the plan was built without ``BuilderFlag.REFIT``, and when a weight is unknown (then
        ``detail["unknown"]`` has the names), does not fit, or needs others (``detail["missing"]``) that were
        not given: the message names it. UnsupportedError where the capability ``refit``, or that of ``how``
        (``refit_async``, ``refit_device``), is missing.
        """

    def refit_from(self, model: str) -> None:
        """Replace all weights by those of the ONNX file ``model``, through the parser's own refitter.

        RefitError when the file can't be read or does not fit; UnsupportedError without ``parser_refit``.
        """

    def inspect(self) -> dict[str, Any]:
        """What the runtime's inspector tells of the layers: its JSON, parsed, unaltered.

        `harness.report.layers` reads every form of it. How much is told the builder was asked for
        (``profiling_verbosity``): below DETAILED no more than names. Sizes that vary are those at the
        optimum of the first profile, and -1 where the runtime can't tell. DeserializeError when what it
        says can't be read; UnsupportedError from a runtime without an inspector.
        """

    def close(self) -> None: ...


class Backend(Protocol):
    """One installation of one runtime on one device."""

    name: str

    def probe(self) -> Probe:
        """What it can do here; never raises for what is missing."""

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        """ParseError, BuildError, or UnsupportedError for an option that this version does not have.

        A timing cache of another version or device, or a damaged one, is a BuildError with
        ``detail["refused_timings"]``.
        """

    def merged(self, timing_caches: Sequence[Array]) -> Array:
        """One timing cache with what all of them know; of tactics that several know what the first says.

        BuildError when one is foreign or damaged, UnsupportedError where the capability ``timing_cache`` is missing.
        """

    def load(
        self, plan: Array | Path, plugins: tuple[str, ...] = (), *, host_code: bool = False, stream: bool = False
    ) -> Engine:
        """DeserializeError with the runtime's own words. ``plugins``: libraries that the plan needs, by path.

        A plan that is named by its path is mapped, not read. ``host_code`` lets a version-compatible plan run
        the code that it carries, its lean runtime: only for a plan that is trusted. With ``stream`` the runtime
        asks for the plan piece by piece, through a stream reader; UnsupportedError where it has none.
        """

    def taken_memory(self) -> int:
        """Bytes of its device's memory that somebody has taken; UnsupportedError where it works on no device.

        What others take counts in, and all is given out in steps, of 2 MiB as seen with CUDA.
        """

    def residue(self) -> Residue:
        """What lives of all that it made; nothing of it outlives its process."""

    def close(self) -> None: ...


def asked_name(name: str, asked: Container[str]) -> str:
    """What the caller calls the engine's input ``name``.

    An input that is an output too can't have one name twice, so the parsers of 8.6 and RTX call it ``__x``.
    """
    plain = name.removeprefix("__")
    return plain if name not in asked and plain in asked else name
