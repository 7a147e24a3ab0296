"""The zoo: what its models are made of, that they never change, and that a signal comes through.

When a model is changed on purpose, its hash is made anew by

    python -m models tiny full > tests/data/zoo_hashes.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from harness.judge.compare import compare
from harness.judge.inputs import make_inputs
from harness.judge.oracle import Oracle
from harness.judge.precision import converted
from harness.spec import POINTS, RECIPES, ModelSpec, OnnxFunction, Point, Profile, admit, interface
from models import WRITTEN, ZOO, light, shipped
from models import __main__ as command
from models.authoring import IR_VERSION, OPSET, Graph, noise
from models.blocks import MASKED, attend, linear
from models.declare import model as declare
from models.operators import op
from tests.models.signal import run, share_of_rows, strays

ROOT = Path(__file__).parents[2]
HASHES = ROOT / "tests" / "data" / "zoo_hashes.json"
TINY = [model for model in WRITTEN if model.size == "tiny"]
FULL = [model for model in WRITTEN if model.size == "full"]

IN_ROWS = [model for model in TINY if model.batch is not None]

each_tiny = pytest.mark.parametrize("model", TINY, ids=lambda model: model.id)
each_point = pytest.mark.parametrize("point", POINTS)


def inputs_at(model: ModelSpec, point: Point, seed: int = 7, profile: Profile | None = None) -> dict[str, Any]:
    profile = profile or model.profiles[0]
    return make_inputs(model, interface(model.source.path()), profile.binding(point), profile.contents(point), seed)


def proto(model: ModelSpec) -> onnx.ModelProto:
    return onnx.load(model.source.path())


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestCollection:
    def test_import_is_light(self) -> None:
        loaded = json.loads(python("import json, sys, models; print(json.dumps(sorted(sys.modules)))"))
        assert "models.mlp" in loaded
        assert not {"numpy", "onnx", "spox", "onnxruntime"} & set(loaded)

    def test_names_are_unique(self) -> None:
        assert len({model.id for model in ZOO}) == len(ZOO)

    def test_there_are_enough(self) -> None:
        assert len({model.family for model in WRITTEN}) >= 24
        assert {model.name for model in FULL} == {"resnet", "bert", "vit", "gpt"}

    def test_a_size_is_a_model(self) -> None:
        @declare("thing", profile={"n": (1, 2, 3)}, tiny={"width": 1}, full={"width": 2}, full_profile={"n": (4, 5, 6)})
        def author(g: Graph, *, width: int) -> None:
            g.output("y", op.add(g.input("x", ("n", width)), g.constant(1.0)))

        tiny, full = author
        assert (tiny.id, full.id) == ("thing", "thing_full")
        assert (tiny.profiles[0].binding("max"), full.profiles[0].binding("max")) == ({"n": 3}, {"n": 6})
        assert isinstance(full.source, OnnxFunction)
        (shape,) = (value.type.tensor_type.shape for value in full.source.build().graph.input)
        assert [dim.dim_param or dim.dim_value for dim in shape.dim] == ["n", 2]


class TestBytes:
    held = json.loads(HASHES.read_text())

    @pytest.mark.parametrize("model", WRITTEN, ids=lambda model: model.id)
    def test_are_those_held(self, model: ModelSpec) -> None:
        assert model.source.digest() == self.held.get(model.id), (
            f"{model.id} is not what it was, or new; if that is meant: "
            "python -m models tiny full > tests/data/zoo_hashes.json"
        )

    def test_nothing_else_is_held(self) -> None:
        assert set(self.held) == {model.id for model in WRITTEN}

    def test_are_the_same_elsewhere(self, tmp_path: Path) -> None:
        """Another process, another order of building, another seed of Python's hashes."""
        code = (
            "import json, models; "
            "print(json.dumps({m.id: m.source.digest() for m in reversed(models.WRITTEN) if m.size == 'tiny'}))"
        )
        elsewhere = json.loads(python(code, TRT_HARNESS_EXPORTS=str(tmp_path), PYTHONHASHSEED="12345"))
        assert elsewhere == {model.id: self.held[model.id] for model in TINY}

    def test_are_printed_by_the_command(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        some = tuple(model for model in WRITTEN if model.name in ("mlp", "vit"))
        monkeypatch.setattr(command, "WRITTEN", some)
        monkeypatch.setattr(sys, "argv", ["models"])
        command.main()
        assert json.loads(capsys.readouterr().out) == {name: self.held[name] for name in ("mlp", "vit")}


class TestNoise:
    def test_is_standard(self) -> None:
        values = noise("anything", (1000, 100)).astype("float64")
        assert abs(values.mean()) < 5 / 100_000**0.5
        assert abs(values.var() - 1) < 5 * (2 / 100_000) ** 0.5
        assert abs((values**3).mean()) < 0.05
        assert np.abs(values).max() < 3.5  # of four uniform numbers

    def test_is_held(self) -> None:
        digest = hashlib.sha256(noise("mlp/stem.weight", (7, 11)).astype("<f4").tobytes()).hexdigest()
        assert digest == "a9b4d60b6519959d955431454426cdbb23d639e7f214df1cc748c7baeb1f72ee"

    def test_is_level_where_asked(self) -> None:
        values = noise("level", (5, 7, 3), level=(1, 2)).astype("float64")
        assert np.abs(values.sum(axis=(1, 2))).max() < 21 * 2**-15
        assert np.abs(noise("level", (5, 7, 3)).sum(axis=(1, 2))).max() > 1

    def test_goes_by_name_alone(self) -> None:
        def weights(*names: str) -> dict[str, bytes]:
            g = Graph("g")
            x = g.input("x", ("n", 4))
            for name in names:
                x = op.matmul(x, g.weight(name, (4, 4), 1.0))
            g.output("y", x)
            return {tensor.name: tensor.raw_data for tensor in g.model().graph.initializer}

        assert weights("a", "b")["b"] == weights("b")["b"] != weights("a")["a"]

    def test_a_name_is_used_once(self) -> None:
        g = Graph("g")
        g.weight("w", (1,), 1.0)
        with g.scope("inner"):
            g.weight("w", (1,), 1.0)
        with pytest.raises(ValueError, match=r"g: two weights are called 'w'"):
            g.weight("w", (1,), 1.0)


@each_tiny
class TestEach:
    def test_is_valid(self, model: ModelSpec) -> None:
        made = proto(model)
        onnx.checker.check_model(made, full_check=True)
        assert made.ir_version == IR_VERSION
        assert [(opset.domain, opset.version) for opset in made.opset_import] == [("", OPSET)]
        assert model.source.path().stat().st_size < 1 << 20

    def test_weights_have_names(self, model: ModelSpec) -> None:
        for graph in graphs(proto(model).graph):
            for tensor in graph.initializer:
                assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", tensor.name), tensor.name
                assert "initializer" not in tensor.name.lower()
            for node in graph.node:  # constants are few numbers; what is many is a weight
                if node.op_type == "Constant":
                    (value,) = node.attribute
                    assert onnx.numpy_helper.to_array(value.t).size <= 16

    def test_profile_fits(self, model: ModelSpec) -> None:
        takes = interface(model.source.path())
        assert all(admit(model.id, profile, takes) == profile for profile in model.profiles)
        assert {rule.tensor for rule in model.inputs} <= {tensor.name for tensor in takes.inputs}
        assert model.batch is None or model.batch in takes.symbols
        for profile in model.profiles:
            assert {name for name, _ in profile.values} <= {tensor.name for tensor in takes.inputs}
            assert bool(profile.values) == ("shape_tensor" in model.tags)

    @each_point
    def test_runs(self, model: ModelSpec, point: Point) -> None:
        """Outputs have the shapes and types that are declared; a symbol that only outputs have is any number."""
        for profile in model.profiles:
            got = run(model.source.path(), inputs_at(model, point, profile=profile))
            found: dict[str, int] = {}
            for tensor in interface(model.source.path()).outputs:
                assert str(got[tensor.name].dtype) == tensor.dtype
                own = [symbol for symbol in tensor.symbols if symbol not in profile.binding(point)]
                for size, dim in zip(got[tensor.name].shape, tensor.shape, strict=True):
                    if dim in own:
                        assert found.setdefault(str(dim), size) == size
                assert got[tensor.name].shape == tensor.resolve({**profile.binding(point), **found})

    @pytest.mark.parametrize("point", ["opt", "max"])
    def test_signal_keeps_its_size(self, model: ModelSpec, point: Point) -> None:
        for profile in model.profiles:
            assert strays(proto(model), inputs_at(model, point, profile=profile)) == []


@pytest.mark.parametrize(
    "model", [model for model in TINY if "classifier" in model.tags or model.name == "unet"], ids=lambda m: m.id
)
def test_rounding_is_not_enlarged(model: ModelSpec) -> None:
    """A network that turned chaotic would pass all else: float16 stays inside the tolerance of other models."""
    oracle, half = Oracle(run, "onnxruntime, not optimized"), converted(model, RECIPES["fp16"])
    for seed in range(3):  # of a chaotic one, not every seed shows it
        inputs = inputs_at(model, "max", seed)
        compare(run(half, inputs), oracle.reference(model, inputs), "fp16").require(model.id, f"seed {seed}")


@pytest.mark.parametrize("model", IN_ROWS, ids=lambda model: model.id)
def test_rows_differ(model: ModelSpec) -> None:
    """An output that hardly depends on its row would hide rows that are mixed up."""
    assert model.batch is not None
    got = run(model.source.path(), inputs_at(model, "max"))
    for tensor in interface(model.source.path()).outputs:
        if model.batch in tensor.shape and got[tensor.name].dtype.kind == "f":
            assert share_of_rows(got[tensor.name], tensor.shape.index(model.batch)) > 0.02, tensor.name


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """``graph`` and every graph inside it."""
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [graph, *(found for each in inner for found in graphs(each))]


class TestSignal:
    """The detectors of this file, each made to fire."""

    def chain(self, gain: float) -> onnx.ModelProto:
        g = Graph("chain")
        x = g.input("x", ("n", 64))
        for layer in range(4):
            x = linear(g, f"fc{layer}", x, 64, 64, gain=gain, bias=False)
        g.output("y", x)
        return g.model()

    @pytest.mark.parametrize(("gain", "found"), [(1.0, False), (0.1, True), (10.0, True)])
    def test_collapse_and_explosion_show(self, gain: float, found: bool) -> None:
        assert bool(strays(self.chain(gain), {"x": noise("x", (8, 64))})) is found

    def test_infinity_shows(self) -> None:
        g = Graph("g")
        g.output("y", op.div(g.input("x", ("n", 64)), g.constant(0.0)))
        assert strays(g.model(), {"x": noise("x", (8, 64))}) == ["Div Div_0_C: not finite", "Identity y: not finite"]

    def test_a_mask_is_no_explosion(self) -> None:
        g = Graph("g")
        q, k, v = (g.input(name, ("n", 2, 8, 16)) for name in "qkv")
        g.output("y", attend(g, q, k, v, 16, allowed=g.constant([[[[True] * 7 + [False]]]], "bool")))
        assert abs(MASKED) > 1000
        assert strays(g.model(), {name: noise(name, (4, 2, 8, 16)) for name in "qkv"}) == []

    def test_rows_alike_show(self) -> None:
        rows = noise("rows", (8, 64))
        assert share_of_rows(rows, 0) > 0.8
        assert share_of_rows(np.repeat(rows[:1], 8, axis=0), 0) < 1e-12


class TestUnusedOutputs:
    def test_are_not_named(self) -> None:
        """Optional outputs that nothing reads: a parser may refuse the indices of MaxPool."""
        (pool,) = (node for node in proto(named("unet")).graph.node if node.output[0].startswith("MaxPool_0"))
        assert len(pool.output) == 1
        norms = [node for node in proto(named("bert")).graph.node if node.op_type == "LayerNormalization"]
        assert {len(node.output) for node in norms} == {1}
        encoder, decoder = (node for node in proto(named("lstm")).graph.node if node.op_type == "LSTM")
        assert len(encoder.output) == 1
        assert all(decoder.output)


class TestPassThrough:
    def test_is_an_input_and_an_output(self) -> None:
        graph = proto(named("passthrough")).graph
        assert "x" in {value.name for value in graph.input} & {value.name for value in graph.output}


def named(name: str) -> ModelSpec:
    return next(model for model in TINY if model.name == name)


class TestShipped:
    @pytest.mark.parametrize("model", shipped.MODELS, ids=lambda model: model.id)
    def test_gives_the_outputs_beside_it(self, model: ModelSpec) -> None:
        case = Path(model.origin)
        inputs, outputs = (dict(np.load(path, allow_pickle=False)) for path in shipped.DataSet(model.name, case)())
        assert (model.golden is None) == (case.name in shipped.UNIFORM)
        assert (model.golden is None) == all(np.ptp(want) == 0 for want in outputs.values())
        (profile,) = model.profiles
        for name, values in profile.values:
            assert values.min == values.opt == values.max == tuple(inputs[name])
        takes = interface(model.source.path())
        assert admit(model.id, profile, takes) == profile
        assert outputs.keys() == {tensor.name for tensor in takes.outputs}
        got = run(model.source.path(), inputs)
        for name, want in outputs.items():
            np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "case", [case for case in shipped.cases() if shipped.refusal(case.name)], ids=lambda c: c.name
    )
    def test_is_left_out_for_a_reason(self, case: Path) -> None:
        """What onnxruntime or ONNX can tell; that TensorRT refuses the others is for a run to show."""
        made, reason = onnx.load(case / "model.onnx"), shipped.refusal(case.name)
        types = {value.type.tensor_type.elem_type for value in made.graph.input}
        operators = {node.op_type for node in made.graph.node}
        if reason == shipped.SEQUENCES:
            assert any("Sequence" in operator for operator in operators)
        elif reason == shipped.STRINGS:
            assert onnx.TensorProto.STRING in types
        elif reason == shipped.DILATION:
            pools = [node for node in made.graph.node if node.op_type == "MaxPool"]
            assert any(a.name == "dilations" and set(a.ints) != {1} for pool in pools for a in pool.attribute)
        elif reason == shipped.TRAINING:
            assert "Gradient" in operators
        else:
            assert made.opset_import[0].version < 7

    def test_no_pattern_is_left_over(self) -> None:
        used = {shipped.refusal(case.name) for case in shipped.cases()}
        assert {*shipped.SHAPES, *shipped.UNIFORM, *shipped.WEAK} <= {case.name for case in shipped.cases()}
        assert set(shipped.REFUSED.values()) <= used
        for pattern in shipped.REFUSED:
            assert any(Path(case.name).match(pattern) for case in shipped.cases()), pattern

    def test_there_are_enough(self) -> None:
        assert len(shipped.cases()) >= 140
        assert len(shipped.MODELS) >= 80


class TestLight:
    def test_there_are_nine(self) -> None:
        assert len([model for model in light.MODELS if {"parse_only", "fp32_only"} <= set(model.tags)]) == 9
        assert len([model for model in light.MODELS if model.size == "full"]) == 9

    def test_as_shipped_nothing_depends_on_the_input(self) -> None:
        model = next(model for model in light.MODELS if model.id == "light_squeezenet")
        (got,) = run(model.source.path(), inputs_at(model, "opt")).values()
        assert float(np.ptp(got)) == 0.0

    @pytest.mark.parametrize("name", ["light_squeezenet_full", "light_shufflenet_full", "light_densenet121_full"])
    def test_reseeded_it_does(self, name: str) -> None:
        model = next(model for model in light.MODELS if model.id == name)
        takes = interface(model.source.path())
        once, again = (
            next(iter(run(model.source.path(), make_inputs(model, takes, {}, {}, seed)).values())) for seed in (1, 2)
        )
        assert np.isfinite(once).all()
        assert float(once.std()) > 1e-4
        assert share_of_rows(np.stack((once, again)), 0) > 0.004

    def test_reseeded_it_bears_half_precision(self) -> None:
        """A deep chain of ReLU without a shortcut, on another image too, whose outputs differ by more than rounding."""
        model = next(model for model in light.MODELS if model.id == "light_inception_v1_full")
        takes = interface(model.source.path())
        oracle = Oracle(run, "onnxruntime, not optimized")
        half = converted(model, RECIPES["fp16"])
        inputs, others = (make_inputs(model, takes, {}, {}, seed) for seed in (1, 2))
        got = run(half, inputs)
        assert compare(got, oracle.reference(model, inputs), "fp16").passed
        assert not compare(got, oracle.reference(model, others), "fp16").passed

    def test_a_weight_without_a_rule_is_an_error(self) -> None:
        node = onnx.helper.make_node("LpNormalization", ["w"], ["y"])
        with pytest.raises(ValueError, match="w: no rule for a weight that LpNormalization reads as input 0"):
            light.Wiring([node], {}).law("w", (1,))
