"""A backend that needs no vendor: onnx's reference evaluator, honest, or wrong in one way on demand.

It is there for the tests of everything that judges backends: each `Fault` is a way in which a real one
was seen, or must be expected, to fail. ``fake:wrong_rows`` names one, ``fake:crash_run@mlp`` for one
model alone; without a fault in its name a backend takes the one in $TRT_HARNESS_FAKE. Some take a
parameter, ``fake:wrong_above=batch:4``: `PARAMETERS` says which and of what form. None has a comma,
which separates backends on a command line.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import hashlib
import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import (
    BuildError,
    DeserializeError,
    ParseError,
    RefitError,
    RunError,
    SpecError,
    StageError,
    UnsupportedError,
)
from harness.runtime import probing
from harness.runtime.backend.fake_samples import (
    CONTEXT,
    ENGINE,
    SLOW_PROCESS,
    TAKEN,
    FakeDevice,
    dropped,
    in_milliseconds,
    shuffled,
    slowing,
)
from harness.runtime.backend.fake_timings import FakeTimings, timed
from harness.runtime.backend.fake_weights import FakeWeights, parsed, replaced
from harness.runtime.backend.inference import ShapeInference
from harness.runtime.backend.living import Living
from harness.runtime.backend.mapped import mapped
from harness.runtime.backend.omission import Omission, tensor_named
from harness.runtime.backend.profiles import reported
from harness.runtime.backend.protocol import (
    POISON,
    UNCAPTURABLE,
    Array,
    BuildRequest,
    EngineInfo,
    HowToRefit,
    IOTensor,
    LayerWeights,
    Plan,
    Progress,
    Refittable,
    Residue,
    Shape,
    ShapeRange,
    Streaming,
    Weights,
    poison,
)
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.probing import Found
from harness.runtime.sampling import Repeated, Samples, Sampling, sample

if TYPE_CHECKING:
    import onnx

FAULT_VARIABLE = "TRT_HARNESS_FAKE"
_MAGIC = b"FAKEPLAN"
_REFITTING = (
    *("refit", "refit_named", "refit_async", "refit_device", "parser_refit", "refit_individual", "strip_plan"),
)
_REFITS = ("REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL")
_MISS = "ERROR_ON_TIMING_CACHE_MISS"
_VERBOSITY = ("LAYER_NAMES_ONLY", "NONE", "DETAILED")  # of profiling, the default first
_COMPATIBLE = ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")
_TIMED = ("timing_cache", "timing_cache_miss")  # as capabilities
_TIMING = ("DISABLE_TIMING_CACHE", _MISS)
_FLAGS = frozenset(
    {"FP16", "TF32", "STRIP_PLAN", "WEIGHT_STREAMING", "SPARSE_WEIGHTS", *_REFITS, *_COMPATIBLE, *_TIMING}
)
_PARTS = frozenset({"EXCLUDE_WEIGHTS", "EXCLUDE_LEAN_RUNTIME", "INCLUDE_REFIT"})  # of a plan: serialization flags
_LEVELS = ("NONE", "AMPERE_PLUS")  # of hardware compatibility
_OPTIONS = ("weight_streaming", "version_compatible", "hardware_compatible")  # as capabilities
_PIECE = 1 << 12  # bytes that a stream reader gives, and a stream writer takes, at a time
_SCRATCH = 1 << 10  # bytes that a session takes to stream weights


class Fault(str, enum.Enum):
    """The ways to misbehave."""

    NONE = ""
    # what probing meets
    ABSENT = "absent"  # nothing to import
    NEEDS_GPU = "needs_gpu"  # builds, but can't load or run
    WRONG_PROBE = "wrong_probe"  # what is run to see whether anything can be gives a wrong number
    CRASH_PROBE = "crash_probe"
    HANG_PROBE = "hang_probe"
    # no answer: a signal, an exit, silence
    CRASH_PARSE = "crash_parse"
    CRASH_BUILD = "crash_build"
    CRASH_LOAD = "crash_load"
    CRASH_RUN = "crash_run"
    EXIT_RUN = "exit_run"
    HANG_BUILD = "hang_build"
    HANG_LOAD = "hang_load"
    HANG_RUN = "hang_run"
    HANG_GIL = "hang_gil"  # in run, and no other thread of the process runs either
    SLOW = "slow"  # in run, by `SLOWNESS`
    # refusals, and calls that fail by what they return
    PARSE_ERROR = "parse_error"
    BUILDER_NONE = "builder_none"
    FIXED_WEIGHTS = "fixed_weights"  # as above, where they are to be replaceable
    DESERIALIZE_NONE = "deserialize_none"
    ENQUEUE_FALSE = "enqueue_false"
    BUG = "bug"  # an exception in run that is nobody's refusal
    # outputs of the wrong kind
    MISSING_OUTPUT = "missing_output"
    EXTRA_OUTPUT = "extra_output"
    RESHAPED_OUTPUT = "reshaped_output"
    OTHER_TYPE = "other_type"
    # wrong numbers
    WRONG_ROWS = "wrong_rows"  # from the second of a batch on
    ROWS_LEAK = "rows_leak"  # a row depends on its neighbour
    STALE = "stale"  # the previous run's output, where it has the shape
    NAN = "nan"  # one in each floating output
    UNWRITTEN = "unwritten"  # the last element of each output
    IMPRECISE = "imprecise"  # floats off by a hundredth of the largest
    WIDE_PROFILE = "wide_profile"  # as above, where the profile is not of one shape
    UNCAPTURABLE = "uncapturable"  # no graph can be captured, and the engine does not show why
    STALE_GRAPH = "stale_graph"  # a replayed graph computes on the inputs of its capture
    SECOND_SESSION = "second_session"  # off while another session of the engine is open
    OTHER_REBUILD = "other_rebuild"  # off in every build but the first of a process
    # wrong somewhere inside the profiles: see PARAMETERS
    WRONG_ABOVE = "wrong_above"  # off where the symbol is larger than n
    WRONG_BOTH_MAX = "wrong_both_max"  # off where both symbols are at the profile's maximum
    WRONG_ODD = "wrong_odd"  # off where the symbol's size is odd
    WRONG_PROFILE = "wrong_profile"  # off on the profile of this number
    SWAP_ROWS_ABOVE = "swap_rows_above"  # the first two rows of outputs of more than n rows change places
    MASK_IGNORED = "mask_ignored"  # computed as if the input were all ones
    # shapes before and around a run
    WRONG_INFERENCE = "wrong_inference"  # shapes inferred have one more in the first dimension
    WRONG_REPORT = "wrong_report"  # the engine reports maxima one larger than they are
    LENIENT = "lenient"  # shapes and contents outside the profile are taken all the same
    TOUCHES = "touches"  # a refused run writes its outputs
    UPSET = "upset"  # the run after a refused one is off
    GREEDY = "greedy"  # asks for twice the memory that an output needs
    DATA_ALONE = "data_alone"  # what decides shapes is taken for data: no profile tells or bounds what it holds
    KEEPS_SHAPE = "keeps_shape"  # what is omitted is taken from the run before, over a switch too
    # timing caches
    TIMES_AGAIN = "times_again"  # what a timing cache knows is found out once more, and added to it
    OTHER_TACTICS = "other_tactics"  # other tactics than those that the timing cache knows
    ANY_TIMINGS = "any_timings"  # a foreign or damaged timing cache is taken for an empty one, without a word
    NO_MISS = "no_miss"  # an unknown tactic is no error, although the flag says so
    # state that goes stale
    STALE_GRAPH_SHAPE = "stale_graph_shape"  # a graph is replayed for shapes that it was not captured for
    STALE_REFIT = "stale_refit"  # sessions that are open at a refit keep the weights that they had
    OTHER_CONTEXT = "other_context"  # the last output of another open session of the engine, where there is one
    LEAK = "leak"  # a closed session lives on
    # what every build leaves behind in the process
    LEAKS_MEMORY = "leaks_memory"  # n kB
    LEAKS_FILES = "leaks_files"  # an open file
    LEAKS_THREADS = "leaks_threads"  # a thread
    # refits
    REFIT_IGNORED = "refit_ignored"  # accepted, and nothing is replaced
    REFIT_FIRST = "refit_first"  # only the first of the weights given is replaced
    REFIT_LATE = "refit_late"  # what the next run computes with are the old weights
    REFIT_DEAF = "refit_deaf"  # one that is listed can be set, and is not replaced: the last
    REFIT_DRIFTS = "refit_drifts"  # weights that come back are a last bit off
    REFITS_ANYTHING = "refits_anything"  # what is unknown or does not fit is taken, and left aside
    REFUSAL_KEPT = "refusal_kept"  # of a refused refit all is replaced that fits
    REFUSAL_MUTE = "refusal_mute"  # refused without a name
    NAN_KEPT = "nan_kept"  # weights that are NaN are refused, and kept
    ROLES_SWAPPED = "roles_swapped"  # two places of one kind change places
    LIST_FORGETS = "list_forgets"  # the last one can be set, and is not listed
    MISSING_FORGETS = "missing_forgets"  # one that has to be given, too, is not named before
    STALE_KEPT_GRAPH = "stale_kept_graph"  # a graph that is kept goes on with the weights of its capture
    BORROWED_WEIGHTS = "borrowed_weights"  # read from the caller's memory at each run
    ASYNC_LATE = "async_late"  # a refit by stream is not waited for
    PARSER_FORGETS = "parser_forgets"  # the parser's refitter leaves the last one as it was
    STRIPS_NOTHING = "strips_nothing"  # a stripped plan has its weights
    MARKS_ALL = "marks_all"  # all weights can be replaced where only some are marked
    # what the inspector tells
    FORGETS_LAYER = "forgets_layer"  # the first layer is left out
    FORGETS_ORIGIN = "forgets_origin"  # the first layer has no metadata, and a name that says nothing
    FORGETS_TENSOR = "forgets_tensor"  # the last output is none of its inputs and outputs
    MUTE_LAYER = "mute_layer"  # the first layer is an empty object
    GIBBERISH = "gibberish"  # no JSON
    # plans: what is written is not what was there
    PROFILE_LOST = "profile_lost"  # a plan that an engine writes has every profile at its optimum alone
    ROUNDED_PLAN = "rounded_plan"  # a plan that an engine writes has its weights rounded to float16
    SHORT_STREAM = "short_stream"  # a stream reader's last piece is lost
    LOOSE_STREAM = "loose_stream"  # a stream writer is given the first piece twice
    # options of the builder
    WRONG_FACTS = "wrong_facts"  # an engine says of itself that it was built with every option that there is
    STREAMS_WRONG = "streams_wrong"  # off as soon as weights are streamed
    STREAMS_NOTHING = "streams_nothing"  # all weights stay on the device, whatever the budget
    REFUSES_TOGETHER = "refuses_together"  # a builder that is given more than one flag says no
    REFUSES_SILENTLY = "refuses_silently"  # a builder that is given more than one flag says no, and not why
    REBUILD_OUTLIER = "rebuild_outlier"  # the third build of a model is twice as large as the others
    # latencies
    SLOWER = "slower"  # all take n percent longer
    SLOWING = "slowing"  # the second half of the samples takes longer and longer
    NEVER_WARM = "never_warm"  # however long the warm-up, it goes on
    SLOW_PROCESS = "slow_process"  # one process in five is slower by a tenth
    CLOCK_DROP = "clock_drop"  # half-way through the samples the clock of the device drops
    WRONG_UNIT = "wrong_unit"  # milliseconds, told as seconds
    SHUFFLED = "shuffled"  # samples come in another order than that in which they were taken
    # runtimes beside the full one
    LEAN_OFF = "lean_off"  # off in the lean runtime
    LEAN_REFUSES = "lean_refuses"  # the lean runtime loads nothing
    STUB_MUTE = "stub_mute"  # the dispatch runtime refuses a plan without a lean one, and says nothing
    STUB_CRASH = "stub_crash"  # the dispatch runtime dies of a plan without a lean one
    # plans that are none
    CRASH_FORGED = "crash_forged"
    HANG_FORGED = "hang_forged"
    MUTE_FORGED = "mute_forged"  # refused without a word
    BUG_FORGED = "bug_forged"  # an exception that is nobody's refusal
    HOARDS_FORGED = "hoards_forged"  # memory, without bounds
    TAKES_FORGED = "takes_forged"  # a plan cut short or damaged is taken for the last good one


PARAMETERS = {  # form of what follows ``=`` in the name of a fault
    Fault.WRONG_ABOVE: "<symbol>:<n>",
    Fault.WRONG_BOTH_MAX: "<symbol>+<symbol>",
    Fault.WRONG_ODD: "<symbol>",
    Fault.WRONG_PROFILE: "<n>",
    Fault.SWAP_ROWS_ABOVE: "<n>",
    Fault.MASK_IGNORED: "<input>",
    Fault.SLOWER: "<n>",
    Fault.LEAKS_MEMORY: "<n>",
}
_SPOILT = {  # samples, once they are taken
    Fault.SLOWING: slowing,
    Fault.CLOCK_DROP: dropped,
    Fault.WRONG_UNIT: in_milliseconds,
    Fault.SHUFFLED: shuffled,
}


@dataclass(frozen=True)
class Mischief:
    """A fault with its parameter, and the one model that it is for ("" for all)."""

    fault: Fault = Fault.NONE
    symbols: tuple[str, ...] = ()  # or the name of an input
    number: int = 0
    model: str = ""
    text: str = ""  # as it was named

    @classmethod
    def parse(cls, text: str) -> Mischief:
        """From ``wrong_rows``, ``wrong_above=batch:4`` or ``crash_run@mlp``. SpecError for anything else."""
        named, _, model = text.partition("@")
        name, _, parameter = named.partition("=")
        try:
            fault = Fault(name)
        except ValueError:
            faults = ", ".join(f"{f.value}={PARAMETERS[f]}" if f in PARAMETERS else f.value for f in Fault if f)
            raise SpecError(f"unknown fault {name!r} of the backend fake: choose from {faults}") from None
        form = PARAMETERS.get(fault, "")
        symbols: tuple[str, ...] = ()
        number = ""
        if form.endswith("<n>"):
            symbol, _, number = parameter.rpartition(":")
            symbols = (symbol,) if symbol else ()
        elif parameter:
            symbols = tuple(parameter.split("+"))
        wanted = form.count("<symbol>") + form.count("<input>")
        if len(symbols) != wanted or not all(symbols) or (form.endswith("<n>") and not number.isdecimal()):
            raise SpecError(f"fault {named!r} of the backend fake: write {name}{'=' * bool(form)}{form}")
        return cls(fault, symbols, int(number or 0), model, text)


SLOWNESS = 0.1  # seconds that `Fault.SLOW` adds to a run
_MADE = itertools.count()  # backends of this process, each of which plays one of its own


class FakeBackend:
    """Plays a small engine. ``fault`` is that of the name: ``wrong_rows``, ``crash_run@mlp``, or nothing.

    ``kind`` is "lean" or "dispatch" for a runtime that builds nothing and loads version-compatible plans alone.
    """

    def __init__(self, fault: str = "", kind: str = "") -> None:
        self.name = f"fake_{kind}" if kind else "fake"
        self._kind = kind
        self._mischief = Mischief.parse(fault or os.environ.get(FAULT_VARIABLE, ""))
        self._fault = self._mischief.fault
        self._process = os.getpid() + next(_MADE)
        self._builds = 0
        self._built: Counter[str] = Counter()  # by model
        self._good: bytes = b""  # the last plan that was one
        self._hoard: list[Array] = []
        self._living = Living()
        self._memory: list[dict[str, Array]] = []  # of every session that lives

    def probe(self) -> Probe:
        return probing.probe(self.name, self.probe_steps(), self.probe_step)

    def probe_steps(self) -> tuple[str, ...]:
        return ("import", "run") if self._kind else ("import", "build", "run")

    def probe_step(self, step: str) -> Found:
        if step == "import":
            if self._fault is Fault.ABSENT:
                return (Capability("import", State.ABSENT, "No module named 'fake'", "pip install fake"),), {}
            import onnx

            # A plan holds its fault, so that the version, which plans are kept by, does too.
            fault = f"+{self._mischief.text}" if self._fault else ""
            gpu = "" if self._fault is Fault.NEEDS_GPU else "fake GPU"
            facts = {"version": onnx.__version__ + fault, "gpu": gpu}
            return (Capability("import", State.PRESENT, f"onnx {onnx.__version__}, reference evaluator"),), facts
        if step == "build":
            evidence = "the reference evaluator takes any ONNX operator, and every type as it is"
            names = ("parse", "build", "tf32", "fp16", "strong_typing", "weak_typing", "profiles", "shape_tensors")
            more = (*_REFITTING, *_TIMED, "progress", "plan_file", "stream_writer", *_OPTIONS)
            return tuple(Capability(name, State.PRESENT, evidence) for name in (*names, *more)), {}
        if self._fault is Fault.CRASH_PROBE:
            _crash()
        if self._fault is Fault.HANG_PROBE:
            _hang()
        state, evidence, fix = State.PRESENT, "plain numpy", ""
        if self._fault is Fault.NEEDS_GPU:
            state, evidence, fix = State.NEEDS_GPU, "no fake GPU was found", "a fake GPU"
        others = ("deserialize", "data_dependent_shapes", "cuda_graph", "serialize", "stream_reader")
        run = Capability("run", state, evidence, fix)
        if self._fault is Fault.WRONG_PROBE:
            run = Capability("run", State.USELESS, "Relu of -1.0 gave 12.0")
        return (run, *(Capability(name, state, evidence, fix) for name in others)), {}

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        spared = self._mischief.model not in ("", request.name)
        fault = Fault.NONE if spared else self._fault
        started = time.perf_counter()
        if progress:
            progress("parse", 0, 1)
        model = self._parse(request, fault)
        parsed = time.perf_counter()
        if progress:
            progress("build", 0, 1)
        timings, tactics = self._timed(request, model, fault)
        data = self._builder(request, model, fault, "" if spared else self._mischief.text, tactics)
        if data is not None and request.stream:
            pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
            data = b"".join(pieces[:1] * (fault is Fault.LOOSE_STREAM) + pieces)
        if data is None:
            raise BuildError(f"{request.name}: the builder returned None instead of a plan", log=(_COMPLAINT,))
        if progress:
            progress("Writing", 1, 1)
        self._leak(fault)
        seconds = {"parse": parsed - started, "build": time.perf_counter() - parsed}
        known = None if timings is None else timings.serialized()
        return Plan(np.frombuffer(data, np.uint8), seconds, timing_cache=known)

    def merged(self, timing_caches: Sequence[Array]) -> Array:
        whole = FakeTimings(self._maker)
        for cache in timing_caches:
            whole.add(FakeTimings(self._maker, cache))
        return whole.serialized()

    def load(
        self, plan: Array | Path, plugins: tuple[str, ...] = (), *, host_code: bool = False, stream: bool = False
    ) -> FakeEngine:
        absent = [library for library in plugins if not os.path.exists(library)]  # noqa: PTH110 - text, as TensorRT's
        if absent:
            raise DeserializeError(f"{absent[0]}: the plugin library could not be loaded")
        if self._fault is Fault.NEEDS_GPU:
            raise UnsupportedError("fake deserialize: needs-gpu", "no fake GPU was found", "a fake GPU")
        data = mapped(plan)
        if stream and self._fault is Fault.SHORT_STREAM:
            data = data[: (data.nbytes - 1) // _PIECE * _PIECE]
        try:
            engine = FakeEngine(data, self._living, self._memory, self._process)
            if self._fault is Fault.TAKES_FORGED:
                self._good = data.tobytes()
        except DeserializeError as error:
            engine = self._forged(error)
        try:
            self._admits(engine, host_code)
        except DeserializeError:
            engine.close()
            raise
        return engine

    def _forged(self, error: DeserializeError) -> FakeEngine:
        """What becomes of a plan that is none."""
        if self._fault is Fault.CRASH_FORGED:
            _crash()
        if self._fault is Fault.HANG_FORGED:
            _hang()
        if self._fault is Fault.MUTE_FORGED:
            raise DeserializeError("")
        if self._fault is Fault.BUG_FORGED:
            raise ZeroDivisionError("a bug in the backend") from error
        if self._fault is Fault.HOARDS_FORGED:
            self._hoard.append(np.ones(1 << 26, np.uint8))
        if self._good:
            return FakeEngine(np.frombuffer(self._good, np.uint8), self._living, self._memory, self._process)
        raise error

    def _admits(self, engine: FakeEngine, host_code: bool) -> None:
        """DeserializeError unless this kind of runtime may load such a plan, in words like TensorRT's."""
        if engine.carries_runtime and not host_code:
            raise DeserializeError("the plan carries code, and engine_host_code_allowed is not set", log=(_COMPLAINT,))
        if self._kind and not engine.compatible:
            raise DeserializeError(f"the {self._kind} runtime loads version-compatible plans alone", log=(_COMPLAINT,))
        if self._kind == "dispatch" and not engine.carries_runtime:
            if self._fault is Fault.STUB_CRASH:
                _crash()
            if self._fault is Fault.STUB_MUTE:
                raise DeserializeError("")
            raise DeserializeError("Unexpected call to stub: the plan has no lean runtime", log=(_COMPLAINT,))
        if self._kind == "lean" and self._fault is Fault.LEAN_REFUSES:
            raise DeserializeError("not today", log=(_COMPLAINT,))
        if self._kind == "lean" and self._fault is Fault.LEAN_OFF:
            engine.off = True

    def taken_memory(self) -> int:
        return TAKEN + ENGINE * self._living.engines + CONTEXT * self._living.sessions

    def residue(self) -> Residue:
        blocks = [block for memory in self._memory for block in memory.values()]
        nbytes = sum(block.nbytes for block in blocks)
        return Residue(self._living.engines, self._living.sessions, len(blocks), nbytes)

    def close(self) -> None: ...

    def _parse(self, request: BuildRequest, fault: Fault) -> onnx.ModelProto:
        if fault is Fault.CRASH_PARSE:
            _crash()
        if request.network:
            raise UnsupportedError("fake network_function: absent", "the fake backend reads ONNX alone")
        if self._kind:
            raise UnsupportedError(f"{self.name} build: absent", "this runtime has no builder")
        asked = request.config
        refused = sorted({*request.recipe.flags, *asked.flags} - _FLAGS) + list(asked.plugins)
        refused += [asked.hardware_compatibility] if asked.hardware_compatibility not in (None, *_LEVELS) else []
        if refused:
            raise UnsupportedError(f"fake {refused[0]}: absent", "the fake backend has no such flag, level or plugin")
        if asked.profiling_verbosity not in (None, *_VERBOSITY):
            name = f"ProfilingVerbosity.{asked.profiling_verbosity}"
            raise UnsupportedError(f"fake {name}: absent", f"the fake backend has {', '.join(_VERBOSITY)}")
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.checker import ValidationError
        from onnx.reference import ReferenceEvaluator

        try:
            model = onnx.load(request.model)
            ReferenceEvaluator(model)
        except (DecodeError, ValidationError, NotImplementedError, RuntimeError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ParseError(f"{request.name}: {request.model} can't be read: {reason}") from None
        if not model.graph.output:
            raise ParseError(f"{request.name}: {request.model} has no outputs")
        if fault is Fault.PARSE_ERROR:
            node = model.graph.node[0]
            raise ParseError(
                f"{request.name}: node {node.name!r} ({node.op_type}): not today",
                detail={"node": node.name, "operator": node.op_type, "reason": "not today"},
            )
        return model

    def _leak(self, fault: Fault) -> None:
        if fault is Fault.LEAKS_MEMORY:
            self._hoard.append(np.ones(1000 * self._mischief.number, np.uint8))  # written to, so that it is there
        elif fault is Fault.LEAKS_FILES:
            os.open(os.devnull, os.O_RDONLY)
        elif fault is Fault.LEAKS_THREADS:
            threading.Thread(target=threading.Event().wait, daemon=True).start()

    @property
    def _maker(self) -> str:
        return f"fake{':' * bool(self._fault)}{self._mischief.text}"

    def _timed(
        self, request: BuildRequest, model: onnx.ModelProto, fault: Fault
    ) -> tuple[FakeTimings | None, list[int]]:
        """The tactic of every node, and the timing cache that it was taken from or has been added to."""
        layers = [hashlib.sha256(node.SerializeToString(deterministic=True)).hexdigest() for node in model.graph.node]
        config = request.config
        if request.timing_cache is None or config.optimization_level == 0 or "DISABLE_TIMING_CACHE" in config.flags:
            return None, [timed(layer) for layer in layers]
        timings = FakeTimings(self._maker, request.timing_cache, lenient=fault is Fault.ANY_TIMINGS)
        missed = timings.lacks(layers)
        if missed and _MISS in config.flags and fault is not Fault.NO_MISS:
            raise BuildError(f"{request.name}: {len(missed)} tactics are not in the timing cache", log=(_COMPLAINT,))
        if fault is Fault.TIMES_AGAIN and not missed:
            layers = [f"{layer} of build {len(timings.tactics)}" for layer in layers]
        chosen = timings.choose(layers)
        tactics = [timed("") if fault is Fault.OTHER_TACTICS else chosen[layer] for layer in layers]
        return timings, tactics

    def _builder(
        self, request: BuildRequest, model: onnx.ModelProto, fault: Fault, mischief: str, tactics: list[int]
    ) -> bytes | None:
        """As a builder does: a plan, or None and a message that was logged."""
        if fault is Fault.CRASH_BUILD:
            _crash()
        if fault is Fault.HANG_BUILD:
            _hang()
        if fault is Fault.BUILDER_NONE or (fault is Fault.FIXED_WEIGHTS and "REFIT" in request.config.flags):
            return None
        flags = request.config.flags
        if "EXCLUDE_LEAN_RUNTIME" in flags and "VERSION_COMPATIBLE" not in flags:
            raise BuildError("EXCLUDE_LEAN_RUNTIME can only be set if VERSION_COMPATIBLE is set", log=(_COMPLAINT,))
        if fault is Fault.REFUSES_TOGETHER and len(flags) > 1:
            raise BuildError(f"{flags[0]} and {flags[1]} do not go together", log=(_COMPLAINT,))
        if fault is Fault.REFUSES_SILENTLY and len(flags) > 1:
            raise BuildError("")
        self._builds += 1
        self._built[request.name] += 1
        marked = request.config.refittable
        refit = bool(marked) or any(flag in request.config.flags for flag in _REFITS)
        model = parsed(model) if refit else model
        if absent := sorted(set(marked) - set(FakeWeights(model).names)):
            raise BuildError(f"{request.name}: weights {absent[0]!r} can't be marked as refittable: there are none")
        stripped = "STRIP_PLAN" in request.config.flags and fault is not Fault.STRIPS_NOTHING
        if stripped:
            _strip(model, FakeWeights(model).names)
        header = {
            "name": request.name,
            "fault": mischief,
            "build": self._builds,
            "profiles": [_ranges(profile) for profile in request.profiles],
            "contents": [_ranges(contents) for contents in request.contents],
            "refit": refit,
            "marked": [] if fault is Fault.MARKS_ALL else list(marked),
            "stripped": stripped,
            "streams": "WEIGHT_STREAMING" in flags,
            "compatible": "VERSION_COMPATIBLE" in flags,
            "runtime": request.config.carries_code,
            "hardware": request.config.hardware_compatibility or "NONE",
            "padding": "",
            "verbosity": request.config.profiling_verbosity or _VERBOSITY[0],
            "tactics": tactics,
        }
        if fault is Fault.REBUILD_OUTLIER and self._built[request.name] == 3:
            header["padding"] = " " * model.ByteSize()
        return _plan(header, model)


_COMPLAINT = "[E] no implementation was found that meets the request"


class FakeEngine:
    """A plan, read."""

    info: EngineInfo

    def __init__(self, data: Array, living: Living, memory: list[dict[str, Array]], process: int) -> None:
        started = time.perf_counter()
        beginning = data[: len(_MAGIC)].tobytes()
        if beginning != _MAGIC:  # before it is copied: who knows how long it is
            raise DeserializeError(f"not a plan of the fake backend: it begins with {beginning!r}")
        try:
            self._read(data.tobytes())
        except StageError:
            raise
        except Exception as error:  # whatever a damaged plan makes of itself
            raise DeserializeError(f"the plan is damaged or cut short: {type(error).__name__}: {error}") from None
        self.off = False  # whether every output is
        self.living, self.memory, self.process = living, memory, process
        self.sessions: list[FakeSession] = []  # that are open
        self.budget = self.streamable
        self.info = replace(self.info, seconds={"deserialize": time.perf_counter() - started})
        self._held = contextlib.ExitStack()
        living.add_engine(self._held)

    def _read(self, plan: bytes) -> None:
        """What the plan says, in full: nothing of it is looked at later for the first time."""
        import onnx

        begin = len(_MAGIC) + 8
        end = begin + int.from_bytes(plan[len(_MAGIC) : begin], "little")
        self._header = json.loads(plan[begin:end])
        self._model = onnx.ModelProto.FromString(plan[end:])
        self.mischief, self.builds = Mischief.parse(self._header["fault"]), int(self._header["build"])
        self.fault = self.mischief.fault
        if self.fault is Fault.CRASH_LOAD:
            _crash()
        if self.fault is Fault.HANG_LOAD:
            _hang()
        if self.fault is Fault.DESERIALIZE_NONE:
            raise DeserializeError("the runtime returned None instead of an engine", log=(_COMPLAINT,))
        self.profiles = [_read_ranges(profile) for profile in self._header["profiles"]]
        self.contents = [_read_ranges(contents) for contents in self._header["contents"]]
        weights = {tensor.name for tensor in self._model.graph.initializer}
        values = [value for value in self._model.graph.input if value.name not in weights]
        if self.fault is Fault.DATA_ALONE:
            self.contents = [{} for _ in self.contents]
        shape_tensors = {name for contents in self.contents for name in contents}
        inputs = [_tensor(value, "input", value.name in shape_tensors) for value in values]
        outputs = [_tensor(value, "output", False) for value in self._model.graph.output]
        self.symbols = {value.name: _symbols(value) for value in values}
        self.shape_tensors = shape_tensors
        self.compatible, self.carries_runtime = bool(self._header["compatible"]), bool(self._header["runtime"])
        self._weights = FakeWeights(self._model, self._header["marked"])
        self._awaited = _filled(self._model) if self._header["stripped"] else set()
        self._borrowed: dict[str, Array] = {}
        self._late: Any = None  # what computes with weights that came late
        streams = self._header["streams"]
        self.streamable = sum(len(tensor.raw_data) for tensor in self._model.graph.initializer) if streams else 0
        self.evaluator = self._evaluator()
        self.infer = ShapeInference(self._model)
        boasts = self.fault is Fault.WRONG_FACTS
        self.info = EngineInfo(
            (*inputs, *outputs),
            len(self.profiles),
            {
                "name": str(self._header["name"]),
                "nodes": len(self._model.graph.node),
                "layers": len(self._model.graph.node),
                "profile_shapes": self._report(inputs),
                "refittable": bool(self._header["refit"]) or boasts,
                "hardware_compatibility": "AMPERE_PLUS" if boasts else str(self._header["hardware"]),
                "profiling_verbosity": str(self._header["verbosity"]),
                "aux_streams": 0,
                "device_memory": 0,
                "streamable_weights": self.streamable or int(boasts),
            },
        )

    def session(self, profile: int = 0) -> FakeSession:
        self.has_profile(profile, DeserializeError)
        return FakeSession(self, profile)

    def has_profile(self, profile: int, failure: type[StageError]) -> None:
        if not 0 <= profile < len(self.profiles):
            raise failure(f"profile {profile} of {len(self.profiles)}: there is no such profile")

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        if unknown := sorted(set(flags) - _PARTS):
            raise UnsupportedError(f"SerializationFlag.{unknown[0]}", f"the fake backend has {', '.join(_PARTS)}")
        header, model = self._header, self._model
        if flags:
            header = {**header, "refit": header["refit"] and "INCLUDE_REFIT" in flags}
            header["runtime"] = header["runtime"] and "EXCLUDE_LEAN_RUNTIME" not in flags
        if "EXCLUDE_WEIGHTS" in flags and self._header["refit"]:
            header["stripped"], model = True, _copied(model)
            _strip(model, self._weights.names)
        if self.fault is Fault.PROFILE_LOST:
            narrow = [{name: [opt] * 3 for name, (_, opt, _) in profile.items()} for profile in header["profiles"]]
            header = {**header, "profiles": narrow}
        if self.fault is Fault.ROUNDED_PLAN:
            model = _rounded(model)
        return np.frombuffer(_plan(header, model), np.uint8)

    def stream(self, budget: int | None = None) -> Streaming:
        if not self._header["streams"]:
            raise DeserializeError("the plan was built without BuilderFlag.WEIGHT_STREAMING", log=(_COMPLAINT,))
        if budget is not None:
            if self.sessions or budget < 0:
                raise DeserializeError(f"a budget of {budget} bytes with {len(self.sessions)} sessions: refused")
            self.budget = min(budget, self.streamable)
            self.off = self.fault is Fault.STREAMS_WRONG and self.budget < self.streamable
        resident = self.streamable if self.fault is Fault.STREAMS_NOTHING else self.budget
        scratch = _SCRATCH if self.budget < self.streamable else 0
        return Streaming(self.streamable, self.budget, scratch, resident + scratch * len(self.sessions))

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        self._is_refittable()
        asked = self._weights.asked(given or {}, layers or {})
        missing = self._missing(asked)
        listed = self._weights.lists(missing[:-1] if self.fault is Fault.MISSING_FORGETS else missing)
        return replace(listed, names=listed.names[:-1]) if self.fault is Fault.LIST_FORGETS else listed

    def refit(
        self,
        weights: Weights,
        *,
        layers: LayerWeights | None = None,
        how: HowToRefit = "plain",
        keep_graphs: bool = False,
    ) -> None:
        layers, fault = layers or {}, self.fault
        if fault is Fault.REFITS_ANYTHING:
            weights, layers = self._fitting(weights, layers)
        self._is_refittable()
        if fault is Fault.ROLES_SWAPPED:
            layers = self._swapped(layers)
        try:
            asked = self._weights.asked(weights, layers)
            if missing := self._missing(asked):
                listed = self._weights.lists(missing)
                detail = {"missing": listed.missing, "missing_places": listed.missing_places}
                raise RefitError(f"these weights must be given, too: {', '.join(missing)}", detail=detail)
        except RefitError as error:
            if fault is Fault.REFUSAL_KEPT:
                self._replace(self._weights.asked(*self._fitting(weights, layers)))
            if fault is Fault.REFUSAL_MUTE:
                raise RefitError("the refit was refused", detail=error.detail) from None
            raise
        if not keep_graphs:
            for session in self.sessions:
                session.drop_graph()
        self._replace(asked, late=fault is Fault.REFIT_LATE or (fault is Fault.ASYNC_LATE and how == "async"))
        if fault is Fault.NAN_KEPT and any(np.isnan(array).any() for array in asked.values()):
            raise RefitError(f"weights {' '.join(asked)}: some are NaN")

    def refit_from(self, model: str) -> None:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper

        self._is_refittable()
        try:
            read = parsed(onnx.load(model))
        except (DecodeError, OSError) as error:
            raise RefitError(f"{model} can't be read: {error}") from None
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in read.graph.initializer}
        names = self._weights.names
        if absent := [name for name in names if name not in held]:
            raise RefitError(f"{model} has no weights {absent[0]!r}")
        forgotten = names[-1:] if self.fault is Fault.PARSER_FORGETS else ()
        self._replace(self._weights.asked({name: held[name] for name in names if name not in forgotten}, {}))

    def settle(self) -> None:
        """A run is over: weights that came late are there now."""
        if self._late is not None:
            self.evaluator, self._late = self._late, None
            for session in self.sessions:
                session.evaluator = self.evaluator

    def look(self) -> None:
        """A run begins: weights that are still the caller's are what they are by now."""
        if self._borrowed:
            replaced(self._model, self._borrowed)
            self._renew()

    def _is_refittable(self) -> None:
        if not self._header["refit"] and self.fault is not Fault.REFITS_ANYTHING:
            raise RefitError("the plan was built without BuilderFlag.REFIT: its weights are fixed")

    def _missing(self, asked: Weights) -> tuple[str, ...]:
        """Those of companions, and on a stripped plan all that were never given."""
        missing = self._weights.missing([name for name in asked if name not in self._awaited])
        given = {*asked, *missing}
        return (*missing, *(name for name in self._weights.names if name in self._awaited and name not in given))

    def _fitting(self, weights: Weights, layers: LayerWeights) -> tuple[Weights, LayerWeights]:
        """Of all that is given what is known and fits, one by one."""

        def fits(given: Weights, placed: LayerWeights) -> bool:
            try:
                return bool(self._weights.asked(given, placed))
            except RefitError:
                return False

        named = {name: array for name, array in weights.items() if fits({name: array}, {})}
        placed = {
            layer: {role: array for role, array in roles.items() if fits({}, {layer: {role: array}})}
            for layer, roles in layers.items()
        }
        return named, placed

    def _swapped(self, layers: LayerWeights) -> LayerWeights:
        """What is given for one place goes to the other one of its kind that is given, where there is one."""
        places = [(layer, role) for layer, roles in layers.items() for role in roles]
        kinds = self._weights.kinds
        for first, second in itertools.combinations(places, 2):
            names = [self._weights.places.get(place, "") for place in (first, second)]
            if all(name in kinds for name in names) and kinds[names[0]] == kinds[names[1]]:
                changed = {layer: dict(roles) for layer, roles in layers.items()}
                changed[first[0]][first[1]] = layers[second[0]][second[1]]
                changed[second[0]][second[1]] = layers[first[0]][first[1]]
                return changed
        return layers

    def _replace(self, asked: Mapping[str, Array], *, late: bool = False) -> None:
        fault, names = self.fault, self._weights.names
        if fault is Fault.REFIT_IGNORED:
            return
        if fault is Fault.REFIT_FIRST:
            asked = dict(itertools.islice(asked.items(), 1))
        if fault is Fault.REFIT_DEAF:
            asked = {name: array for name, array in asked.items() if name != names[-1]}
        if fault is Fault.REFIT_DRIFTS:
            asked = {name: np.nextafter(array, np.asarray(np.inf, array.dtype)) for name, array in asked.items()}
        if fault is Fault.BORROWED_WEIGHTS:
            self._borrowed = dict(asked)
        replaced(self._model, asked)
        self._awaited -= asked.keys()
        self._renew(late=late)

    def _renew(self, *, late: bool = False) -> None:
        """Compute with the weights that the model has by now; ``late``: after the next run."""
        if late:
            self._late = self._evaluator()
            return
        self.evaluator = self._evaluator()
        if self.fault is not Fault.STALE_REFIT:
            for session in self.sessions:
                session.evaluator = self.evaluator

    def inspect(self) -> dict[str, Any]:
        """The nodes, each a layer of its own, told as much of as the builder was asked for."""
        from harness.runtime.backend import onnx_layers

        if self.fault is Fault.GIBBERISH:
            raise DeserializeError("what the inspector tells can't be read: Expecting value: line 1 column 1 (char 0)")
        shapes = {name: sizes.opt for name, sizes in (self.profiles[0] if self.profiles else {}).items()}
        known = onnx_layers.at_optimum(self._model, shapes)
        told = onnx_layers.layers(self._model.graph, self.info, known, lambda node: [onnx_layers.name_of(node)])
        for layer, tactic in zip(told["Layers"], self._header["tactics"], strict=True):
            layer["TacticValue"] = f"{tactic:#x}"
        if self.fault is Fault.FORGETS_LAYER:
            del told["Layers"][0]
        elif self.fault is Fault.FORGETS_ORIGIN:
            told["Layers"][0] |= {"Name": "layer 0", "Metadata": ""}
        elif self.fault is Fault.FORGETS_TENSOR:
            del told["I/O Tensors"][-1]
        verbosity = self._header["verbosity"]
        if verbosity != "DETAILED":
            told["Layers"] = [layer["Name"] for layer in told["Layers"] if verbosity != "NONE"]
        if self.fault is Fault.MUTE_LAYER and told["Layers"]:
            told["Layers"][0] = {}
        return told

    def close(self) -> None:
        self._held.close()

    def _evaluator(self) -> Any:
        from onnx.reference import ReferenceEvaluator

        from harness.runtime.backend.fake_pools import POOLS

        return ReferenceEvaluator(self._model, new_ops=POOLS)

    def _report(self, inputs: list[IOTensor]) -> list[dict[str, list[list[int]]]]:
        told = [reported(inputs, *profile) for profile in zip(self.profiles, self.contents, strict=True)]
        if self.fault is Fault.WRONG_REPORT:
            for ranges in told:
                for _, _, largest in ranges.values():
                    largest[:] = [size + 1 for size in largest]
        return told


class FakeSession:
    """An execution context: checks shapes against its profile, computes, then does its mischief."""

    def __init__(self, engine: FakeEngine, profile: int) -> None:
        self._engine, self._profile = engine, profile
        self.evaluator = engine.evaluator
        self.last: dict[str, Array] = {}  # outputs of the last run
        self._before: dict[str, Array] = {}  # what they should have been
        self._graph: dict[str, Array] | None = None  # inputs of the run that was captured
        self._graph_evaluator: Any = None  # what computed it
        self._memory: dict[str, Array] = {}
        self._limits: dict[str, int] = {}
        self._told: dict[str, Array] = {}  # inputs of the last run that was not refused
        self._refused = False
        self._closed = False
        self._held = contextlib.ExitStack()
        engine.living.add_session(self._held)
        engine.memory.append(self._memory)
        engine.sessions.append(self)

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        self._is_open()
        fault = self._engine.fault
        omission = Omission.parse(omit, self._engine.info, graph=graph)
        for block in self._memory.values():
            block.fill(POISON)
        with self._refusals():
            self._check(inputs)
            self._bound(inputs, omission)
            if fault is Fault.UNCAPTURABLE and graph:
                raise RunError("this engine can't be captured", log=(_COMPLAINT,), detail={UNCAPTURABLE: True})
            self._engine.look()
            outputs = self._enqueue(self._replayed(inputs, fault) if graph else inputs, fault, graph=graph)
            self._engine.settle()
            if outputs is None:
                raise RunError("the enqueue returned False", log=(_COMPLAINT,))
            self._reserve(inputs, outputs)
        if not graph:
            self._graph = None if self._shapes(self._graph) != self._shapes(inputs) else self._graph
        self._told = dict(inputs)
        others = [session.last for session in self._engine.sessions if session is not self and session.last]
        self.last = {name: array.copy() for name, array in outputs.items()}
        if fault is Fault.OTHER_CONTEXT and others:
            return others[-1]
        if fault is Fault.UPSET and self._refused:
            self._refused = False
            return {name: _off(array) for name, array in outputs.items()}
        return outputs

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:
        self._is_open()
        self._check(inputs)
        shapes = {name: array.shape for name, array in inputs.items()}
        contents = {name: inputs[name] for name in self._engine.shape_tensors}
        found = self._engine.infer(shapes, contents)
        if self._engine.fault is Fault.WRONG_INFERENCE:
            found = {name: (shape[0] + 1, *shape[1:]) if shape else shape for name, shape in found.items()}
        return found

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:
        self.run(inputs, graph=sampling.graph)
        device, fault = self._device(sampling), self._engine.fault
        replays = max(sampling.replays, 1)
        samples = sample(device.take, sampling, device.leading, replays=replays, clock=device.clock)
        return _SPOILT[fault](samples) if fault in _SPOILT else samples

    def repeat(self, inputs: Mapping[str, Array], seconds: float, *, graph: bool = False) -> Repeated:
        self.run(inputs, graph=graph)
        return self._device(Sampling(graph=graph)).repeat(seconds)

    def reshape(self, inputs: Mapping[str, Array], others: Mapping[str, Array], times: int) -> Array:
        for asked in (others, inputs):
            self.run(asked)
        return self._device(Sampling()).reshape(times)

    def _device(self, sampling: Sampling) -> FakeDevice:
        fault, load = self._engine.fault, 1.0
        if fault is Fault.SLOWER:
            load += self._engine.mischief.number / 100
        if fault is Fault.SLOW_PROCESS and self._engine.process % 5 == 0:
            load *= SLOW_PROCESS
        layers = int(self._engine.info.facts["layers"])
        return FakeDevice(layers, self._engine.process, sampling, load=load, cools=fault is Fault.NEVER_WARM)

    def switch(self, profile: int) -> None:
        self._is_open()
        self._engine.has_profile(profile, RunError)
        self._profile = profile
        self._graph = None
        if self._engine.fault is not Fault.KEEPS_SHAPE:
            self._told = {}

    def move(self, tensor: str) -> None:
        self._is_open()
        name = tensor_named(tensor, self._engine.info)
        self._graph = None
        self._memory[name] = self._memory.get(name, np.zeros(0, np.uint8)).copy()

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self._is_open()
        name = tensor_named(tensor, self._engine.info)
        if nbytes is None:
            self._limits.pop(name, None)
        else:
            self._limits[name] = nbytes

    def drop_graph(self) -> None:
        self._graph = None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._engine.sessions.remove(self)
        if self._engine.fault is not Fault.LEAK:
            self._held.close()
            self._engine.memory[:] = [memory for memory in self._engine.memory if memory is not self._memory]

    def _is_open(self) -> None:
        if self._closed:
            raise RunError("the session is closed")

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """A RunError takes along which outputs' memory changed."""
        outputs = [tensor.name for tensor in self._engine.info.outputs if tensor.name in self._memory]
        try:
            yield
        except RunError as error:
            self._refused = True
            if self._engine.fault is Fault.TOUCHES:
                for name in outputs:
                    self._memory[name].fill(0)
            if outputs:
                error.detail["touched"] = tuple(name for name in outputs if (self._memory[name] != POISON).any())
            raise

    def _check(self, inputs: Mapping[str, Array]) -> None:
        declared = {tensor.name: tensor for tensor in self._engine.info.inputs}
        if inputs.keys() != declared.keys():
            raise RunError(f"inputs {sorted(inputs)} were given, the engine has {sorted(declared)}")
        lenient = self._engine.fault is Fault.LENIENT
        ranges, contents = self._engine.profiles[self._profile], self._engine.contents[self._profile]
        for name, array in inputs.items():
            if array.dtype.name != declared[name].dtype:
                raise RunError(f"input {name!r} is {array.dtype}, the engine takes {declared[name].dtype}")
            if not lenient and not _admits(ranges.get(name), array.shape, declared[name].shape):
                raise RunError(f"input {name!r} of shape {array.shape} lies outside profile {self._profile}")
            values = tuple(int(value) for value in array.reshape(-1)) if name in contents else ()
            if name in contents and not lenient and not _admits(contents[name], values, ()):
                raise RunError(f"shape tensor {name!r}: {array.tolist()} lies outside profile {self._profile}")

    def _bound(self, inputs: Mapping[str, Array], omission: Omission) -> None:
        """What a runtime checks before it launches: that it was told all, and ours, that there is room."""
        kept = self._engine.fault is Fault.KEEPS_SHAPE and omission.tensor in self._told
        dynamic = any(-1 in tensor.shape for tensor in self._engine.info.inputs if tensor.name == omission.tensor)
        if not kept:
            omission.refuse(inputs, needs_shape=dynamic)
        for name, array in inputs.items():
            self._has_room(name, array, array.nbytes)

    def _has_room(self, name: str, array: Array, nbytes: int) -> None:
        limit = self._limits.get(name)
        if limit is not None and nbytes > limit:
            raise RunError(f"{name!r} of shape {array.shape} needs {nbytes} bytes, its memory is limited to {limit}")

    def _reserve(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Have memory for a run, and the outputs in it."""
        for name, array in outputs.items():
            self._has_room(name, array, array.nbytes * (2 if self._engine.fault is Fault.GREEDY else 1))
        for name, array in {**inputs, **outputs}.items():
            if self._memory.get(name, np.zeros(0, np.uint8)).nbytes < max(array.nbytes, 1):
                self._memory[name] = np.full(max(array.nbytes, 1), POISON, np.uint8)
        for name, array in outputs.items():
            self._memory[name][: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)

    def _replayed(self, inputs: Mapping[str, Array], fault: Fault) -> Mapping[str, Array]:
        """What a graph computes on: the inputs of now, captured for their shapes."""
        same = self._shapes(self._graph) == self._shapes(inputs)
        if self._graph is None or (not same and fault is not Fault.STALE_GRAPH_SHAPE):
            self._graph = {name: array.copy() for name, array in inputs.items()}
            self._graph_evaluator = self.evaluator
        stale = fault is Fault.STALE_GRAPH or not same
        return self._graph if stale else inputs

    @property
    def _captured(self) -> Any:
        """What a graph computes with."""
        return self._graph_evaluator if self._engine.fault is Fault.STALE_KEPT_GRAPH else self.evaluator

    def _shapes(self, inputs: Mapping[str, Array] | None) -> Any:
        """What a graph holds for: shapes, and contents that decide shapes."""
        deciding = self._engine.shape_tensors
        return {n: (a.shape, a.tobytes() if n in deciding else b"") for n, a in (inputs or {}).items()}

    def _enqueue(self, inputs: Mapping[str, Array], fault: Fault, *, graph: bool) -> dict[str, Array] | None:
        """As an enqueue does: fill the output buffers, or give None for its False."""
        if fault is Fault.CRASH_RUN:
            _crash()
        if fault is Fault.EXIT_RUN:
            os._exit(3)
        if fault is Fault.HANG_RUN:
            _hang()
        if fault is Fault.HANG_GIL:
            ctypes.PyDLL(None).pause()
        if fault is Fault.SLOW:
            time.sleep(SLOWNESS)
        if fault is Fault.ENQUEUE_FALSE:
            return None
        if fault is Fault.BUG:
            raise ZeroDivisionError("a bug in the backend")
        ignored = self._engine.mischief.symbols if fault is Fault.MASK_IGNORED else ()
        given = {name: np.ones_like(array) if name in ignored else array for name, array in inputs.items()}
        outputs = {}
        try:
            with np.errstate(all="ignore"):
                results = (self._captured if graph else self.evaluator).run(None, given)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(f"the reference evaluator: {type(error).__name__}: {error}") from error
        here = self._is_wrong_here(inputs)
        for tensor, result in zip(self._engine.info.outputs, results, strict=True):
            written = np.asarray(result)
            buffer = np.empty(written.shape, written.dtype)
            poison(buffer)
            buffer[...] = written
            outputs[tensor.name] = _off(buffer) if here or self._engine.off else self._spoil(tensor.name, buffer, fault)
        return self._rename(outputs, fault)

    def _is_wrong_here(self, inputs: Mapping[str, Array]) -> bool:
        """Whether this place inside the profiles is one that the fault is about."""
        mischief = self._engine.mischief
        if mischief.fault is Fault.WRONG_PROFILE:
            return self._profile == mischief.number
        if mischief.fault not in (Fault.WRONG_ABOVE, Fault.WRONG_BOTH_MAX, Fault.WRONG_ODD):
            return False
        ranges = self._engine.profiles[self._profile]
        sizes: dict[str, int] = {}
        largest: dict[str, int] = {}
        for name, array in inputs.items():
            for axis, (symbol, size) in enumerate(zip(self._engine.symbols[name], array.shape, strict=False)):
                sizes[symbol] = size
                largest[symbol] = ranges[name].max[axis] if name in ranges else size
        if not all(symbol in sizes for symbol in mischief.symbols):
            return False  # a model without them
        if mischief.fault is Fault.WRONG_ABOVE:
            return sizes[mischief.symbols[0]] > mischief.number
        if mischief.fault is Fault.WRONG_ODD:
            return sizes[mischief.symbols[0]] % 2 == 1
        return all(sizes[symbol] == largest[symbol] for symbol in mischief.symbols)

    def _spoil(self, name: str, right: Array, fault: Fault) -> Array:
        wrong = right.copy()
        ranges = self._engine.profiles[self._profile].values()
        rows = right.ndim > 0 and len(right) > 1
        if fault is Fault.WRONG_ROWS and rows:
            wrong[1:] = _off(right[1:])
        elif fault is Fault.SWAP_ROWS_ABOVE and rows and len(right) > self._engine.mischief.number:
            wrong[:2] = right[1::-1]
        elif fault is Fault.ROWS_LEAK and rows:
            wrong[:-1] = right[1:]
        elif fault is Fault.STALE:
            before = self._before.get(name)
            self._before[name] = right
            wrong = before if before is not None and before.shape == right.shape else wrong
        elif fault is Fault.NAN and right.size and right.dtype.kind == "f":
            wrong.reshape(-1)[right.size // 2] = np.nan
        elif fault is Fault.UNWRITTEN and right.size:
            poison(wrong.reshape(-1)[-1:])
        elif (
            fault is Fault.IMPRECISE
            or (fault is Fault.WIDE_PROFILE and any(sizes.min != sizes.max for sizes in ranges))
            or (fault is Fault.SECOND_SESSION and len(self._engine.sessions) > 1)
            or (fault is Fault.OTHER_REBUILD and self._engine.builds > 1)
        ):
            wrong = _off(right)
        return wrong

    def _rename(self, outputs: dict[str, Array], fault: Fault) -> dict[str, Array]:
        name = next(iter(outputs))
        if fault is Fault.MISSING_OUTPUT:
            del outputs[name]
        elif fault is Fault.EXTRA_OUTPUT:
            outputs["unasked"] = outputs[name]
        elif fault is Fault.RESHAPED_OUTPUT:
            outputs[name] = outputs[name][None]
        elif fault is Fault.OTHER_TYPE:
            other = np.float64 if outputs[name].dtype != np.float64 else np.float32
            outputs[name] = outputs[name].astype(other)
        return outputs


def _plan(header: Mapping[str, Any], model: onnx.ModelProto) -> bytes:
    text = json.dumps(header).encode()
    body: bytes = model.SerializeToString(deterministic=True)
    return _MAGIC + len(text).to_bytes(8, "little") + text + body


def _strip(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Take the numbers of ``names`` away, and leave their types and shapes."""
    for tensor in model.graph.initializer:
        if tensor.name in names:
            for field in ("raw_data", "float_data", "int32_data", "double_data"):
                tensor.ClearField(field)


def _filled(model: onnx.ModelProto) -> set[str]:
    """The names of the weights that have no numbers, which are zero from now on."""
    from onnx import helper, numpy_helper

    found = set()
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) and not (tensor.raw_data or tensor.float_data or tensor.int32_data):
            found.add(tensor.name)
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), kind), tensor.name))
    return found


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with its float32 weights as float16 would have them."""
    import onnx
    from onnx import numpy_helper

    copy = _copied(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16).astype(np.float32), tensor.name))
    return copy


def _off(right: Array) -> Array:
    """``right``, wrong everywhere: floats by a hundredth of the largest, other types by one."""
    if right.dtype.kind == "b":
        return np.logical_not(right)
    if right.dtype.kind != "f":
        return np.add(right, 1, dtype=right.dtype)
    finite = np.abs(right[np.isfinite(right)].astype(np.float64))
    step = 0.01 * max(float(finite.max(initial=0.0)), 1e-3)
    wrong: Array = (right.astype(np.float64) + step).astype(right.dtype)
    return wrong


def _admits(sizes: ShapeRange | None, got: Shape, declared: Shape) -> bool:
    if sizes is None:
        return got == declared
    if len(got) != len(sizes.min):
        return False
    return all(low <= n <= high for low, n, high in zip(sizes.min, got, sizes.max, strict=True))


def _ranges(profile: Mapping[str, ShapeRange]) -> dict[str, list[Shape]]:
    return {name: [sizes.min, sizes.opt, sizes.max] for name, sizes in profile.items()}


def _read_ranges(profile: Mapping[str, list[list[int]]]) -> dict[str, ShapeRange]:
    return {name: ShapeRange(*(tuple(shape) for shape in shapes)) for name, shapes in profile.items()}


def _symbols(value: onnx.ValueInfoProto) -> tuple[str, ...]:
    """What profiles call each dimension."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_param or f"{value.name}:{axis}" for axis, dim in enumerate(dims))


def _tensor(value: onnx.ValueInfoProto, mode: str, shape_tensor: bool) -> IOTensor:
    from onnx import helper

    kind: Any = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
    dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return IOTensor(value.name, mode, dtype, shape, shape_tensor, "LINEAR")


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    while True:
        time.sleep(3600)
