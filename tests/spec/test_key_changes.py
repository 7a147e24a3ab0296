"""100 single changes to what is asked, of which each changes the key; 100 that no builder would see, and none does."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.runtime.capability import Capability, Probe, State
from harness.runtime.fingerprint import FACTS, fingerprint
from harness.spec import (
    RECIPES,
    BuildConfig,
    EngineSpec,
    InputRule,
    ModelSpec,
    NetworkFunction,
    OnnxFile,
    PlanFile,
    Profile,
    Range,
    Values,
)
from harness.spec.build import BuildConfig as Config
from harness.spec.catalog_file import read_file
from harness.spec.model import ToleranceOverride

COUNT = 100

PROFILES = (
    Profile.of({"batch": (1, 4, 8), "seq": (2, 16, 64)}, {"shape": Values((1, 1), (4, 4), (8, 8))}),
    Profile.of({"batch": (9, 12, 16), "seq": (2, 8, 32)}, {"shape": Values((2, 2), (3, 3), (4, 4))}),
)
ENVIRONMENT: dict[str, Any] = {
    "library_version": "8.6.1",
    "gpu": "NVIDIA H200",
    "compute_capability": "9.0",
    "cuda_driver": 12020,
    "gpu_memory": 150_000_000_000,
    "gpu_uuid": "12ab",
    "numpy": "1.26.4",
    "host": {"python": "3.11.7"},
}
PROBE = Probe("tensorrt", "8.6.1", (), ENVIRONMENT)


class Ground:
    """A model with weights inside and outside of its file, a plugin library, and options of every kind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers = folder, itertools.count()
        self.file = self.write(folder / "model")
        self.plugin = folder / "libmine.so"
        self.plugin.write_bytes(b"\x7fELF plugin")
        self.config = BuildConfig(
            workspace=1 << 30,
            optimization_level=3,
            flags=("OBEY_PRECISION_CONSTRAINTS", "REFIT", "SPARSE_WEIGHTS"),
            tactic_sources=("CUBLAS", "CUDNN"),
            plugins=(str(self.plugin),),
            aux_streams=2,
            hardware_compatibility="AMPERE_PLUS",
            profiling_verbosity="DETAILED",
            targets=("SM86", "SM89"),
        )
        self.model = ModelSpec("model", OnnxFile(self.file), PROFILES, config=self.config)
        self.spec = EngineSpec.of(self.model, RECIPES["fp32"])

    def write(self, folder: Path, change: Callable[[onnx.ModelProto], None] = lambda _: None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        weights = [draw.standard_normal((8, 8)).astype(np.float32) for _ in range(3)]
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "outside"], ["a"], name="first"),
                helper.make_node("Gemm", ["a", "inside", "bias"], ["b"], name="second", alpha=1.0),
                helper.make_node("LeakyRelu", ["b"], ["y"], name="third", alpha=0.1),
            ],
            "ground",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
            [
                numpy_helper.from_array(weights[0], "outside"),
                numpy_helper.from_array(weights[1], "inside"),
                numpy_helper.from_array(weights[2][0], "bias"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        tensor = model.graph.initializer[0]
        (folder / "weights.bin").write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, "weights.bin")
        tensor.ClearField("raw_data")
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
        return folder / "model.onnx"

    def elsewhere(self) -> Path:
        return self.folder / f"other {next(self.numbers)}"

    def of(self, file: Path, **changes: Any) -> EngineSpec:
        """The same asked of another file."""
        return dataclasses.replace(self.spec, model=dataclasses.replace(self.model, source=OnnxFile(file), **changes))


# What changes the key ---------------------------------------------------------------------------


def changes(ground: Ground, draw: random.Random) -> Iterator[tuple[str, EngineSpec, Probe]]:
    """One after the other, over all that there is to change; what can be changed in many ways in several."""
    spec = ground.spec
    for number in range(12):  # one weight, by one bit
        yield f"bit {number} of a weight in the file", ground.of(weight_flipped(ground, draw)), PROBE
        yield f"bit {number} of external data", ground.of(data_flipped(ground, draw)), PROBE
    for name, change in MODEL_CHANGES.items():
        yield name, ground.of(ground.write(ground.elsewhere(), change)), PROBE
    for name, profiles in profile_changes():
        yield name, dataclasses.replace(spec, profiles=profiles), PROBE
    for name, config in config_changes(ground):
        yield name, dataclasses.replace(spec, config=config), PROBE
    for recipe in RECIPES.values():
        if recipe != spec.precision:
            yield f"precision {recipe.name}", dataclasses.replace(spec, precision=recipe), PROBE
    for source in (PlanFile(ground.file), NetworkFunction("nets:build", ground.folder)):
        model = dataclasses.replace(ground.model, source=source)
        yield f"a {source.kind} instead of a file", dataclasses.replace(spec, model=model), PROBE
    for name, probe in probe_changes():
        yield name, spec, probe


def weight_flipped(ground: Ground, draw: random.Random) -> Path:
    """In place, at the same size, at once after the last one: only the bytes tell."""

    def change(model: onnx.ModelProto) -> None:
        tensor = draw.choice(model.graph.initializer[1:])
        tensor.raw_data = flipped(tensor.raw_data, draw)

    return ground.write(ground.folder / "same place", change)


def data_flipped(ground: Ground, draw: random.Random) -> Path:
    file = ground.write(ground.folder / "same place")
    data = file.with_name("weights.bin")
    data.write_bytes(flipped(data.read_bytes(), draw))
    return file


def flipped(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _set_alpha(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[0].f = 0.2


def _set_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Elu"


def _set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def _transpose(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("transB", 1))


def _fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def _drop_bias(model: onnx.ModelProto) -> None:
    del model.graph.node[1].input[2]


def _rename_output(model: onnx.ModelProto) -> None:
    model.graph.node[2].output[0] = model.graph.output[0].name = "z"


MODEL_CHANGES = {
    "an attribute": _set_alpha,
    "an operator": _set_operator,
    "the opset": _set_opset,
    "one more attribute": _transpose,
    "a fixed dimension": _fix_batch,
    "one input less": _drop_bias,
    "the name of an output": _rename_output,
}


def profile_changes() -> Iterator[tuple[str, tuple[Profile, ...]]]:
    """Every bound of every dimension and of every shape value, by one; fewer, more, and other profiles."""
    for number, profile in enumerate(PROFILES):
        for symbol, sizes in profile.ranges:
            for point in ("min", "opt", "max"):
                moved = dataclasses.replace(sizes, **{point: getattr(sizes, point) + 1})
                other = dataclasses.replace(profile, ranges=tuple((dict(profile.ranges) | {symbol: moved}).items()))
                yield f"{point} of {symbol} in profile {number}", with_profile(number, other)
        for tensor, values in profile.values:
            for point, element in itertools.product(("min", "opt", "max"), range(2)):
                held = list(getattr(values, point))
                held[element] += 1
                moved_values = dataclasses.replace(values, **{point: tuple(held)})
                other = dataclasses.replace(profile, values=((tensor, moved_values),))
                yield f"{point} of {tensor}[{element}] in profile {number}", with_profile(number, other)
    yield "the order of profiles", PROFILES[::-1]
    yield "one profile less", PROFILES[:1]
    yield "one profile more", (*PROFILES, PROFILES[0])
    renamed = Profile.of({"rows": (1, 4, 8), "seq": (2, 16, 64)}, dict(PROFILES[0].values))
    yield "the name of a dimension", with_profile(0, renamed)
    yield "a dimension less", with_profile(0, dataclasses.replace(PROFILES[0], ranges=PROFILES[0].ranges[:1]))
    yield "no values", with_profile(0, dataclasses.replace(PROFILES[0], values=()))


def with_profile(number: int, profile: Profile) -> tuple[Profile, ...]:
    return tuple(profile if index == number else other for index, other in enumerate(PROFILES))


def config_changes(ground: Ground) -> Iterator[tuple[str, BuildConfig]]:
    """Every field there is, whatever fields there will be: left out, and set to something else."""
    plain = Config()
    other_library = ground.folder / "libother.so"
    other_library.write_bytes(b"\x7fELF plugin, mended")
    for field in dataclasses.fields(BuildConfig):
        value, default = getattr(ground.config, field.name), getattr(plain, field.name)
        if value != default:
            yield f"no {field.name}", dataclasses.replace(ground.config, **{field.name: default})
        others: list[Any]
        if field.name == "plugins":
            others = [(str(other_library),), (*value, str(other_library))]
        elif isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int):
            others = [value + 1, value - 1]
        elif isinstance(value, str):
            others = [f"{value}_2"]
        elif isinstance(value, tuple):
            others = [value[:-1], (*value, "ANOTHER"), (*value[:-1], "ANOTHER")]
        else:
            others = ["something"]
        for number, other in enumerate(other for other in others if other != value):
            yield f"{field.name}, {number}", dataclasses.replace(ground.config, **{field.name: other})


def probe_changes() -> Iterator[tuple[str, Probe]]:
    """What builds: a default of another version may be another."""
    for fact in FACTS:
        changed = 12040 if fact == "cuda_driver" else f"{ENVIRONMENT[fact]}x"
        yield fact, dataclasses.replace(PROBE, environment={**ENVIRONMENT, fact: changed})
        yield f"no {fact}", dataclasses.replace(PROBE, environment={**ENVIRONMENT, fact: ""})
    yield "version", dataclasses.replace(PROBE, version="8.6.2")
    yield "backend", dataclasses.replace(PROBE, backend="tensorrt_rtx")


# What does not ----------------------------------------------------------------------------------


def immaterial(ground: Ground, draw: random.Random) -> Iterator[tuple[str, EngineSpec, Probe]]:
    """Names, places, order, words, and what is done with an engine once it is built."""
    spec = ground.spec
    for number in range(14):
        folder = ground.elsewhere() / "".join(draw.choices("abc ü'", k=5)).strip()
        folder.mkdir(parents=True)
        shutil.copy(ground.file, folder / f"renamed {number}.onnx")
        shutil.copy(ground.file.with_name("weights.bin"), folder)
        yield f"place {number}", ground.of(folder / f"renamed {number}.onnx"), PROBE
        yield f"time {number}", ground.of(touched(folder / f"renamed {number}.onnx", draw)), PROBE
    for name, change in SAID_OF_A_MODEL.items():
        yield name, dataclasses.replace(spec, model=dataclasses.replace(ground.model, **change)), PROBE
    for number in range(12):
        config = shuffled(ground.config, draw)
        yield f"order of names {number}", dataclasses.replace(spec, config=config), PROBE
        yield f"order of dimensions {number}", dataclasses.replace(spec, profiles=reordered(draw)), PROBE
    for number in range(25):
        yield f"file {number}", spec_of_toml(ground, draw), PROBE
    for number in range(4):
        library = ground.folder / f"lib{number}.so"
        shutil.copy(ground.plugin, library)
        config = dataclasses.replace(ground.config, plugins=(str(library),))
        yield f"name of a library {number}", dataclasses.replace(spec, config=config), PROBE
    for name in sorted(ENVIRONMENT.keys() - set(FACTS)):
        yield name, spec, dataclasses.replace(PROBE, environment={**ENVIRONMENT, name: "other"})
    ran = Capability("run", State.PRESENT, "it ran")
    yield "capabilities", spec, dataclasses.replace(PROBE, capabilities=(ran,))
    yield "order of facts", spec, dataclasses.replace(PROBE, environment=dict(reversed(ENVIRONMENT.items())))


SAID_OF_A_MODEL: dict[str, dict[str, Any]] = {
    "name": {"name": "another"},
    "size": {"size": "full"},
    "family": {"family": "mlp"},
    "tags": {"tags": ("nlp", "classifier")},
    "batch": {"batch": "batch"},
    "special": {"special": True},
    "relations": {"relations": ("seq >= 2",)},
    "origin": {"origin": "/elsewhere/a.toml"},
    "inputs": {"inputs": (InputRule("x", "uniform", -1, 1),)},
    "tolerances": {"tolerances": (ToleranceOverride("*", 1e-2, 1e-2, "by hand"),)},
    "data": {"data": Path("inputs.npz")},
    "golden": {"golden": (Path("inputs.npz"), Path("outputs.npz"))},
    # The spec has its own, which are those of the model unless a test asks for others.
    "profiles of the model": {"profiles": (Profile(),)},
    "options of the model": {"config": BuildConfig()},
}


def touched(file: Path, draw: random.Random) -> Path:
    for path in (file, file.with_name("weights.bin")):
        os.utime(path, (draw.uniform(1e9, 2e9),) * 2)
    return file


def shuffled(config: BuildConfig, draw: random.Random) -> BuildConfig:
    flags, sources = list(config.flags), list(config.tactic_sources or ())
    draw.shuffle(flags)
    draw.shuffle(sources)
    return dataclasses.replace(config, flags=(*flags, flags[0]), tactic_sources=tuple(sources))


def reordered(draw: random.Random) -> tuple[Profile, ...]:
    made = []
    for profile in PROFILES:
        ranges = list(profile.ranges)
        draw.shuffle(ranges)
        made.append(Profile.of(dict(ranges), dict(profile.values)))
    return tuple(made)


def spec_of_toml(ground: Ground, draw: random.Random) -> EngineSpec:
    """The same in a file of its own, with comments, in another order, and with other words for the same."""
    folder = ground.elsewhere()
    ground.write(folder)
    shutil.copy(ground.plugin, folder)
    top = ['model = "model.onnx"', f'name = "m{draw.randrange(1000)}"', 'tags = ["nlp"]', 'family = "x"']
    options = [
        f"workspace = {draw.choice(['1073741824', '1_073_741_824', chr(34) + '1 GiB' + chr(34)])}",
        "optimization_level = 3",
        f"flags = {jumbled(ground.config.flags, draw)}",
        f"tactic_sources = {jumbled(ground.config.tactic_sources or (), draw)}",
        'plugins = ["libmine.so"]',
        "aux_streams = 2",
        'hardware_compatibility = "AMPERE_PLUS"',
        'profiling_verbosity = "DETAILED"',
        'targets = ["SM86", "SM89"]',
    ]
    profiles = []
    for profile in PROFILES:
        sizes = [f"{symbol} = {spelled(found, draw)}" for symbol, found in profile.ranges]
        draw.shuffle(sizes)
        (values,) = (held for _, held in profile.values)
        held = [f"{point} = {list(getattr(values, point))}" for point in ("min", "opt", "max")]
        draw.shuffle(held)
        lines = [f"dims = {{ {', '.join(sizes)} }}", f"values = {{ shape = {{ {', '.join(held)} }} }}"]
        draw.shuffle(lines)
        profiles.append(["[[profiles]]", *lines])
    draw.shuffle(top)
    draw.shuffle(options)
    tables = [["[build]", *options], [line for table in profiles for line in table]]
    draw.shuffle(tables)
    lines = [*top, *(line for table in tables for line in table)]
    text = "\n".join(f"{line}{draw.choice(['', '  # so it is', chr(10)])}" for line in lines)
    (folder / "any.toml").write_text(f"# {draw.random()}\n{text}\n")
    return EngineSpec.of(read_file(folder / "any.toml"), RECIPES["fp32"])


def jumbled(names: tuple[str, ...], draw: random.Random) -> str:
    order = list(names)
    draw.shuffle(order)
    return str(order).replace("'", '"')


def spelled(sizes: Range, draw: random.Random) -> str:
    return draw.choice([f'"{sizes}"', f"[{sizes.min}, {sizes.opt}, {sizes.max}]"])


# Both --------------------------------------------------------------------------------------------


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def plan_key(spec: EngineSpec, probe: Probe) -> str:
    """As a pool makes it."""
    fresh = dataclasses.replace(spec)  # a spec remembers its key
    return fresh.plan_key(fingerprint(probe))


def test_every_single_change_changes_the_key(ground: Ground) -> None:
    before = plan_key(ground.spec, PROBE)
    keys: dict[str, str] = {}
    for name, spec, probe in changes(ground, random.Random(0)):
        keys[name] = plan_key(spec, probe)
        assert keys[name] != before, name
    assert len(keys) >= COUNT
    assert len(set(keys.values())) >= len(keys) - 2, "and to a key of its own, but where two changes come to the same"
    changed = {word for name in keys for word in name.replace(",", "").split()}
    assert {field.name for field in dataclasses.fields(BuildConfig)} <= changed


def test_no_immaterial_change_changes_it(ground: Ground) -> None:
    before = plan_key(ground.spec, PROBE)
    names = set()
    for name, spec, probe in immaterial(ground, random.Random(0)):
        names.add(name)
        assert plan_key(spec, probe) == before, name
    assert len(names) >= COUNT
    told = {field.name for field in dataclasses.fields(ModelSpec)} - {"source", "profiles", "config"}
    assert told <= names
