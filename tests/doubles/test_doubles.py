"""A double has what its version lists, refuses everything else, and says so."""

from __future__ import annotations

import copy
import json
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.doubles import plays
from tests.doubles.double import Double, Missing, NotPlayed, ReadOnly, Refused, state
from tests.doubles.install import installed
from tests.doubles.module import DATA, SUPPLEMENT, GenerationError, generate, make, versions

SUPPLEMENTED = json.loads(SUPPLEMENT.read_text())


def listing_of(version: str) -> dict[str, Any]:
    listing: dict[str, Any] = json.loads((DATA / f"trt_api_{version}.json").read_text())
    return listing


@pytest.fixture(params=versions())
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def double(version: str) -> Double:
    return make(version, plays)


@pytest.fixture
def trt(double: Double) -> Any:
    return double.module


@pytest.fixture
def logger(double: Double) -> Any:
    return listener(double)


def listener(double: Double) -> Any:
    """A logger that keeps what it hears, in ``heard``."""
    trt: Any = double.module

    class Listener(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.heard: list[tuple[str, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            self.heard.append((severity.name, msg))

    return Listener()


def public(thing: Any) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("__")}


# What there is.


def test_four_versions_are_listed() -> None:
    assert versions() == ("10.16.1", "11.4.0", "8.6.1", "rtx_1.7.1")


def test_has_every_listed_name_and_no_other(version: str, double: Double) -> None:
    listing = listing_of(version)
    wanted = {*listing["classes"], *listing["enums"], *listing["functions"], *listing["constants"]}
    assert public(double.module) == wanted
    for name, entry in listing["classes"].items():
        cls = double.classes[name]
        named = {*entry["methods"], *entry["properties"], *entry.get("nested", {}), *entry.get("attributes", {})}
        assert public(cls) == {member for member in named if not member.startswith("__")}, name
        specials = {member for member in named if member.startswith("__")}
        assert specials <= vars(cls).keys(), name
        assert [base.__name__ for base in cls.__mro__[1:] if base.__name__ in double.classes][:1] == entry["bases"][:1]
    for name, entry in listing["enums"].items():
        assert {member: int(value) for member, value in double.enums[name].__members__.items()} == entry["members"]


def test_real_version_is_told(version: str, trt: Any) -> None:
    assert trt.__version__ == listing_of(version)["version"]
    assert trt.__name__ == ("tensorrt_rtx" if version.startswith("rtx") else "tensorrt")


def test_integers_of_enums_differ_between_versions() -> None:
    strong = {v: make(v, plays).enums["NetworkDefinitionCreationFlag"].__members__ for v in versions()}
    found = {v: int(members["STRONGLY_TYPED"]) for v, members in strong.items() if "STRONGLY_TYPED" in members}
    assert found == {"10.16.1": 1, "11.4.0": 0, "rtx_1.7.1": 0}


def test_every_member_of_a_play_is_listed_by_some_version() -> None:
    """A play with a name of its own is one misspelt, or reached by nobody."""
    listings = [listing_of(version)["classes"] for version in versions()]

    def listed(name: str) -> set[str]:
        found = {"api", "world", *SUPPLEMENTED["special"].get(name, ())}
        for classes in listings:
            for base in (name, *classes.get(name, {"bases": ()})["bases"]):
                entry = classes.get(base, {"methods": {}, "properties": {}})
                found |= {*entry["methods"], *entry["properties"]}
        return found

    helpers = {
        "Profile": {"shapes", "contents", "is_ordered"},
        "Config": {"is_set"},
        "HostMemory": {"of"},
        "Network": {"strongly_typed", "fill", "changed", "known", "rename", "tensor"},
        "Engine": {"may_share"},
        "SerializationConfig": {"names"},
        "TimingCache": {"lacks", "learn"},
    }
    for name in plays.names():
        play: Any = plays.play_of(name)
        members = {m for base in play.__mro__[:-1] for m in public(base) if not m.startswith("_")}
        assert members - listed(name) - helpers.get(play.__name__, set()) == set(), name


# What is refused.


def test_name_that_the_version_lacks_is_missing(double: Double, trt: Any, logger: Any) -> None:
    builder = trt.Builder(logger)
    for thing, where in ((trt, ""), (trt.Builder, "Builder."), (builder, "Builder."), (trt.DataType, "DataType.")):
        assert not hasattr(thing, "no_such_name")
        with pytest.raises(Missing, match=f"{double.version}: has no {where}no_such_name"):
            _ = thing.no_such_name
    assert {lookup.member for lookup in double.missing} == {
        "no_such_name",
        "Builder.no_such_name",
        "DataType.no_such_name",
    }
    assert all(lookup.file == __file__ for lookup in double.missing)
    assert double.refusals == [], "asking is allowed"


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("8.6.1", "IProgressMonitor"),
        ("8.6.1", "NetworkDefinitionCreationFlag.STRONGLY_TYPED"),
        ("8.6.1", "DataType.INT64"),
        ("8.6.1", "ParserError.node_operator"),
        ("10.16.1", "ICudaEngine.num_bindings"),
        ("10.16.1", "IBuilderConfig.max_workspace_size"),
        ("11.4.0", "BuilderFlag.FP16"),
        ("11.4.0", "ICudaEngine.device_memory_size"),
        ("11.4.0", "OnnxParser.supports_model"),
        ("rtx_1.7.1", "BuilderFlag.FP16"),
        ("rtx_1.7.1", "Builder.platform_has_tf32"),
        ("rtx_1.7.1", "INetworkDefinition.has_implicit_batch_dimension"),
    ],
)
def test_names_that_moved_between_versions(version: str, path: str) -> None:
    thing: Any = make(version, plays).module
    *owners, name = path.split(".")
    for owner in owners:
        thing = getattr(thing, owner)
    assert not hasattr(thing, name)
    have = [v for v in versions() if v != version]
    assert any(make(v, plays).world.has(path) for v in have), "or this test asks for what no version has"


# One misuse each, by the member that must be named; `o` has an object of every kind.
MISUSES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "too few arguments": ("Builder.__init__", lambda o: o.trt.Builder()),
    "str for an object": ("Builder.__init__", lambda o: o.trt.Builder("logger")),
    "None for an object": ("Builder.__init__", lambda o: o.trt.Builder(None)),
    "too many arguments": ("Builder.create_network", lambda o: o.builder.create_network(0, 0)),
    "str for int": ("Builder.create_network", lambda o: o.builder.create_network("0")),
    "float for int": ("Builder.create_network", lambda o: o.builder.create_network(1.0)),
    "enum for int": ("Builder.create_network", lambda o: o.builder.create_network(o.trt.BuilderFlag.TF32)),
    "unknown keyword": ("Builder.create_network", lambda o: o.builder.create_network(flag=0)),
    "keyword for an unnamed parameter": ("INetworkDefinition.__getitem__", lambda o: o.network.__getitem__(arg0=0)),
    "int for enum": ("IBuilderConfig.set_flag", lambda o: o.config.set_flag(6)),
    "another enum": ("IBuilderConfig.set_flag", lambda o: o.config.set_flag(o.trt.TacticSource.JIT_CONVOLUTIONS)),
    "one argument twice": ("IBuilderConfig.set_flag", lambda o: o.config.set_flag(o.tf32, flag=o.tf32)),
    "str to an int property": ("IBuilderConfig.max_aux_streams", lambda o: setattr(o.config, "max_aux_streams", "3")),
    "float to an int property": ("IBuilderConfig.max_aux_streams", lambda o: setattr(o.config, "max_aux_streams", 3.0)),
    "int to an enum property": (
        "IBuilderConfig.profiling_verbosity",
        lambda o: setattr(o.config, "profiling_verbosity", 0),
    ),
    "str for Dims": ("INetworkDefinition.add_input", lambda o: o.network.add_input("x", o.trt.float32, "23")),
    "floats for Dims": ("INetworkDefinition.add_input", lambda o: o.network.add_input("x", o.trt.float32, (2.0,))),
    "str for DataType": ("INetworkDefinition.add_input", lambda o: o.network.add_input("x", "float32", (2,))),
    "bytes for str": ("INetworkDefinition.add_input", lambda o: o.network.add_input(b"x", o.trt.float32, (2,))),
    "str for bytes": ("Runtime.deserialize_cuda_engine", lambda o: o.runtime.deserialize_cuda_engine("plan")),
    "a class without a constructor": ("ICudaEngine", lambda o: o.trt.ICudaEngine()),
    "no member of this number": ("DataType", lambda o: o.trt.DataType(99)),
    "too many for a function": ("volume", lambda o: o.trt.volume((1,), 2)),
}


def objects(double: Double, logger: Any) -> Any:
    trt: Any = double.module
    builder = trt.Builder(logger)
    return types.SimpleNamespace(
        trt=trt,
        builder=builder,
        network=builder.create_network(0),
        config=builder.create_builder_config(),
        runtime=trt.Runtime(logger),
        tf32=trt.BuilderFlag.TF32,
    )


@pytest.mark.parametrize("misuse", MISUSES)
def test_arguments_that_no_overload_takes_are_refused(double: Double, logger: Any, misuse: str) -> None:
    where, act = MISUSES[misuse]
    o = objects(double, logger)
    with pytest.raises(Refused) as caught:
        act(o)
    assert str(caught.value).startswith(f"{double.name} {double.version}: {where} ")
    assert double.refusals == [str(caught.value)], "remembered, should a caller take it for an answer"


def test_writing_is_refused_where_there_is_no_setter(double: Double, trt: Any, logger: Any) -> None:
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    for thing, name in ((network, "num_layers"), (trt, "Builder"), (trt.Builder, "reset"), (trt.DataType, "FLOAT")):
        with pytest.raises(ReadOnly, match=f"{double.version}: .*{name} can't be set"):
            setattr(thing, name, 1)
    with pytest.raises(ReadOnly, match=r"DataType.value can't be set"):
        trt.DataType.FLOAT.value = 1
    with pytest.raises(ReadOnly, match="can't be deleted"):
        del network.name
    with pytest.raises(Missing, match=r"INetworkDefinition.nmae does not exist, and can't be set"):
        network.nmae = "a typing error"
    assert len(double.refusals) == 7


def test_listed_member_without_a_play_says_so(double: Double, trt: Any, logger: Any) -> None:
    network = trt.Builder(logger).create_network(0)
    with pytest.raises(NotPlayed, match=r"INetworkDefinition.remove_tensor is listed, and has no play"):
        network.remove_tensor(network.add_input("x", trt.float32, (1,)))
    with pytest.raises(NotPlayed, match="is listed, and has no play"):
        trt.IErrorRecorder()
    assert len(double.refusals) == 2


def test_wrong_result_of_a_play_is_told(trt: Any, logger: Any) -> None:
    builder = trt.Builder(logger)
    state(builder).create_builder_config = lambda: builder
    with pytest.raises(NotPlayed, match=r"create_builder_config is played wrongly"):
        builder.create_builder_config()
    state(builder).max_threads = "many"
    with pytest.raises(NotPlayed, match=r"max_threads is played wrongly"):
        _ = builder.max_threads


def test_nothing_is_used_after_it_was_freed(trt: Any, logger: Any) -> None:
    builder = trt.Builder(logger)
    builder.__del__()
    with pytest.raises(Refused, match=r"Builder.create_network is used before __init__\(\) or after __del__\(\)"):
        builder.create_network(0)


# What it is like to use, as the real bindings are.


def test_enums_are_pybind11s(trt: Any) -> None:
    flag = trt.BuilderFlag.TF32
    assert (flag.name, int(flag), flag.value, repr(flag)) == (
        "TF32",
        int(flag),
        int(flag),
        f"<BuilderFlag.TF32: {int(flag)}>",
    )
    assert flag == trt.BuilderFlag(int(flag))
    assert flag in {trt.BuilderFlag.TF32}
    assert flag != int(flag), "no equality with integers"
    with pytest.raises(TypeError):
        _ = 1 << flag
    with pytest.raises(TypeError):
        _ = flag | flag
    with pytest.raises(TypeError):
        iter(trt.BuilderFlag)
    with pytest.raises(TypeError):
        _ = trt.BuilderFlag["TF32"]
    assert trt.ILogger.Severity is trt.Logger.Severity
    assert trt.Logger.WARNING == trt.ILogger.Severity.WARNING


def test_two_names_of_one_number() -> None:
    """10.16 has WEIGHTLESS for STRIP_PLAN."""
    flags: Any = make("10.16.1", plays).enums["BuilderFlag"]
    assert flags.WEIGHTLESS == flags.STRIP_PLAN
    assert int(flags.WEIGHTLESS) == int(flags.STRIP_PLAN)


def test_data_types(trt: Any) -> None:
    assert trt.float32 == trt.DataType.FLOAT
    assert (trt.DataType.HALF.itemsize, trt.nptype(trt.DataType.HALF)) == (2, np.float16)
    assert trt.volume((2, 3)) == 6


def test_nptype_raises_for_what_numpy_has_not(trt: Any) -> None:
    with pytest.raises(TypeError, match="Could not resolve"):
        trt.nptype(trt.DataType.FP8)


def test_dims_are_sequences_and_little_else(trt: Any) -> None:
    dims = trt.Dims((1, 2, 3))
    assert (tuple(dims), len(dims), dims[-1], dims[0:2], dims == [1, 2, 3], str(dims)) == (
        (1, 2, 3),
        3,
        3,
        (1, 2),
        True,
        "(1, 2, 3)",
    )
    assert tuple(trt.Dims2(4, 5)) == (4, 5)
    assert trt.Dims.MAX_DIMS == 8
    with pytest.raises(IndexError):
        _ = dims[3]
    with pytest.raises(ValueError, match="Max expected length is 8"):
        trt.Dims([1] * 9)
    with pytest.raises(TypeError):
        _ = dims == trt.Dims((1, 2, 3))


def test_context_managers_are_deprecated(trt: Any, logger: Any) -> None:
    with pytest.warns(DeprecationWarning, match="Context managers"), trt.Builder(logger):
        pass


def test_host_memory_is_a_buffer_and_nothing_else(trt: Any, logger: Any) -> None:
    o = objects(trt.double, logger)
    memory = warned(o.config.create_timing_cache, b"").serialize()
    assert bytes(memory) == bytes(np.frombuffer(memory, np.uint8))
    assert memory.nbytes == len(bytes(memory)) > 3
    for misuse in (lambda: len(memory), lambda: memory[0], lambda: list(memory), lambda: memory + b""):
        with pytest.raises(TypeError):
            misuse()
    assert not hasattr(memory, "decode")
    assert memory != bytes(memory)


def warned(call: Callable[..., Any], *args: Any) -> Any:
    """RTX warns that its timing caches do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return call(*args)


def test_derived_class_must_call_its_base(trt: Any) -> None:
    class Careless(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            self.mine = 1

    with pytest.raises(Refused, match=r"ILogger.__init__\(\) must be called when overriding __init__"):
        Careless()


def test_derived_class_may_have_names_of_its_own(logger: Any) -> None:
    logger.anything = 1
    assert logger.anything == 1


def test_one_logger_a_process(double: Double, trt: Any, logger: Any) -> None:
    second = listener(double)
    trt.Builder(logger)
    trt.Builder(second).create_network(0).get_input(0)
    assert second.heard == []
    assert [severity for severity, _ in logger.heard] == ["WARNING", "ERROR"]
    assert "differs from one already registered" in logger.heard[0][1]


def test_exception_in_a_callback_does_not_get_through(double: Double, trt: Any, capsys: Any) -> None:
    class Raises(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, _severity: Any, _msg: str) -> None:
            raise ValueError("mine")

    assert trt.Builder(Raises()).create_network(0).get_input(0) is None
    assert "Exception caught in log(): mine" in capsys.readouterr().err
    assert any("log raised ValueError: mine" in refusal for refusal in double.refusals)


def test_freed_objects_are_forgotten(double: Double, trt: Any, logger: Any) -> None:
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert (double.live("Builder"), double.live("INetworkDefinition")) == (1, 1)
    del network
    assert double.live("INetworkDefinition") == 0


# The generator.

TINY: dict[str, Any] = {
    "module": "tensorrt_bindings",
    "version": "0.0",
    "classes": {"A": {"bases": [], "methods": {"f": ["f(self: A, x: int) -> None"]}, "properties": {}}},
    "enums": {"E": {"arith": False, "members": {"ONE": 1}}},
    "functions": {},
    "constants": {},
    "submodules": {},
}


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        ("classes.A.methods.f", ["f(self: A, *args) -> None"], "can't read"),
        ("classes.A.methods.f", ["f(self: A, x: Unheard) -> None"], "A.f: no class is called Unheard"),
        ("classes.A.methods.f", ["f(self: A) -> Unheard"], "no class is called Unheard"),
        ("classes.A.methods.f", ["f(self: A, x: E = <E.ONE: 2>) -> None"], "E.ONE is 1 and not 2"),
        ("classes.A.methods.f", ["f(self: A, x: E = <E.TWO: 2>) -> None"], "there is no .*E.TWO"),
        ("classes.A.properties", {"p": {"type": "Unheard", "rw": True}}, "A.p: no class is called Unheard"),
        ("classes.A.properties", {"p": {"type": "List[", "rw": True}}, "ends where"),
        ("classes.A.bases", ["B"], "derived from B, which is not listed"),
        ("classes.A.fields", {}, r"has \['fields'\], which is not known"),
        ("enums.E.arith", True, "arithmetic enum"),
        ("constants.c", "E.TWO", "there is no E.TWO"),
        ("functions.f", ["f(x: Unheard) -> None"], "no class is called Unheard"),
    ],
)
def test_generator_refuses_what_it_does_not_cover(place: str, value: Any, why: str) -> None:
    bare = {name: type(part)() for name, part in SUPPLEMENTED.items()}
    generate(TINY, bare, plays)
    listing = copy.deepcopy(TINY)
    entry = listing
    *path, last = place.split(".")
    for step in path:
        entry = entry[step]
    entry[last] = value
    with pytest.raises(GenerationError, match=f"tensorrt 0.0: .*{why}"):
        generate(listing, bare, plays)


def test_every_entry_of_the_supplement_is_used() -> None:
    """What nothing needs any more would hide a correction that is wrong."""
    listings = [listing_of(version) for version in versions()]
    texts = {
        text
        for listing in listings
        for methods in (listing["functions"], *(entry["methods"] for entry in listing["classes"].values()))
        for overloads in methods.values()
        for text in overloads
    }
    classes = {name for listing in listings for name in listing["classes"]}
    assert SUPPLEMENTED["signatures"].keys() <= texts
    for part in ("implicit", "virtuals", "statics", "special"):
        assert SUPPLEMENTED[part].keys() <= classes, part
    assert set(SUPPLEMENTED["buffers"]) <= classes
    assert not classes & SUPPLEMENTED["aliases"].keys()
    assert set(SUPPLEMENTED["aliases"].values()) <= classes


# Putting it in place.


def test_installing_puts_everything_back(version: str) -> None:
    from harness.runtime import device

    with installed(version) as stage:
        import importlib

        assert importlib.import_module(stage.backend) is stage.trt.module
        inside = importlib.import_module("harness.runtime.device")
        assert inside is not device
        assert inside.cudart is stage.cuda.module
        other = "tensorrt" if stage.backend == "tensorrt_rtx" else "tensorrt_rtx"
        with pytest.raises(ImportError):
            importlib.import_module(other)
    import cuda.bindings.runtime

    from harness.runtime import device as after

    assert after is device
    assert sys.modules["harness.runtime.device"] is device
    assert cuda.bindings.runtime.__name__ == "cuda.bindings.runtime"
    assert not isinstance(cuda.bindings.runtime, type(stage.cuda.module))
    assert sys.modules.get(stage.backend) is not stage.trt.module
