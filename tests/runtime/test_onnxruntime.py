"""The onnxruntime backend: plans, errors in onnxruntime's words, and profiles that hold."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from harness.errors import BuildError, DeserializeError, ParseError, RunError, SpecError, UnsupportedError
from harness.report.layers import read
from harness.runtime.backend.hosted import HostedBackend
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend, doubling, reference_name, reference_runner
from harness.runtime.backend.protocol import BuildRequest, Residue, ShapeRange
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.capability import CAPABILITIES, State
from harness.spec import BuildConfig, recipe
from harness.spec.source import EXPORT_VARIABLE, export_folder
from tests.interpreters import interpreter
from tests.judge.graphs import INT64, graph, node, spec, value, weight


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = graph(
        [node("MatMul", ["x", "w"], ["y"]), node("Shape", ["x"], ["n"])],
        [value("x", ["batch", 4])],
        [value("y", ["batch", 4]), value("n", [2], INT64)],
        [weight("w", np.eye(4, dtype=np.float32) * 2)],
    )
    return spec(tmp_path, made).source.path()


@pytest.fixture
def backend() -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend()


def request(model: Path, **fields: Any) -> BuildRequest:
    made: dict[str, Any] = {
        "name": "m",
        "recipe": recipe("fp32"),
        "config": BuildConfig(),
        "profiles": ({"x": ShapeRange((1, 4), (2, 4), (8, 4))}, {"x": ShapeRange((16, 4), (16, 4), (32, 4))}),
        "contents": ({}, {}),
        "model": str(model),
    }
    return BuildRequest(**{**made, **fields})


def rows(count: int) -> np.ndarray:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


def test_from_model_to_outputs(model: Path, backend: OnnxRuntimeBackend) -> None:
    plan = backend.build(request(model))
    assert plan.data.dtype == np.uint8
    assert plan.data.ndim == 1
    assert plan.seconds["build"] > 0
    assert plan.keep
    model.unlink()  # the plan holds it
    engine = backend.load(plan.data)
    got = engine.session().run({"x": rows(3)})
    np.testing.assert_array_equal(got["y"], rows(3) * 2)
    np.testing.assert_array_equal(got["n"], [3, 4])


def test_what_the_engine_says_of_itself(model: Path, backend: OnnxRuntimeBackend) -> None:
    info = backend.load(backend.build(request(model)).data).info
    assert [(t.name, t.mode, t.dtype, t.shape) for t in info.tensors] == [
        ("x", "input", "float32", (-1, 4)),
        ("y", "output", "float32", (-1, 4)),
        ("n", "output", "int64", (2,)),
    ]
    assert info.profiles == 2
    assert info.facts == {
        "optimized": True,
        "threads": 1,
        "profile_shapes": [{"x": [[1, 4], [2, 4], [8, 4]]}, {"x": [[16, 4], [16, 4], [32, 4]]}],
    }


@pytest.mark.parametrize(
    ("omit", "words"),
    [
        ("shape:x", "the shape of input x is not specified"),
        ("size:x:1", r"of shape \[2, -1\]: a size is negative"),
        ("address:x", "Address is not set for tensor x"),
        ("address:y", "Address is not set for tensor y"),
    ],
)
def test_what_it_was_not_told_is_refused(model: Path, backend: OnnxRuntimeBackend, omit: str, words: str) -> None:
    session = backend.load(backend.build(request(model)).data).session()
    with pytest.raises(RunError, match=words):
        session.run({"x": rows(2)}, omit=omit)
    assert np.array_equal(session.run({"x": rows(2)})["y"], 2 * rows(2))


def test_a_static_shape_need_not_be_told(tmp_path: Path, backend: OnnxRuntimeBackend) -> None:
    static = spec(tmp_path, graph([node("Relu", ["x"], ["y"])], [value("x", [2, 4])], [value("y", [2, 4])]))
    asked = request(static.source.path(), profiles=({},), contents=({},))
    session = backend.load(backend.build(asked).data).session()
    assert np.array_equal(session.run({"x": rows(2)}, omit="shape:x")["y"], rows(2))


def test_shapes_are_inferred(model: Path, backend: OnnxRuntimeBackend) -> None:
    session = backend.load(backend.build(request(model)).data).session()
    for count in (1, 8):
        assert session.infer({"x": rows(count)}) == {"y": (count, 4), "n": (2,)}
    with pytest.raises(RunError, match="dimension 0 is 9, profile 0 allows 1 to 8"):
        session.infer({"x": rows(9)})


def test_it_switches_profiles(model: Path, backend: OnnxRuntimeBackend) -> None:
    session = backend.load(backend.build(request(model)).data).session()
    session.switch(1)
    assert session.run({"x": rows(20)})["y"].shape == (20, 4)
    with pytest.raises(RunError, match="dimension 0 is 8, profile 1 allows 16 to 32"):
        session.run({"x": rows(8)})
    with pytest.raises(RunError, match="no profile 2: the engine has 2"):
        session.switch(2)
    session.switch(0)
    assert session.run({"x": rows(8)})["y"].shape == (8, 4)


def test_memory_is_limited(model: Path, backend: OnnxRuntimeBackend) -> None:
    session = backend.load(backend.build(request(model)).data).session()
    for tensor in ("x", "y"):
        session.limit(tensor, 2 * 16)
        assert session.run({"x": rows(2)})["y"].shape == (2, 4)
        with pytest.raises(RunError, match=f"'{tensor}' of shape .3, 4. needs 48 bytes, its memory is limited to 32"):
            session.run({"x": rows(3)})
        session.limit(tensor, None)
        assert session.run({"x": rows(3)})["y"].shape == (3, 4)
    session.move("y")
    for ask in (session.move, lambda name: session.limit(name, 1)):
        with pytest.raises(SpecError, match="no tensor 'z': the engine has x, y, n"):
            ask("z")


def test_a_plan_is_written_again_and_its_weights_are_fixed(model: Path, backend: OnnxRuntimeBackend) -> None:
    plan = backend.build(request(model)).data
    engine = backend.load(plan)
    assert np.array_equal(engine.serialize(), plan)
    with pytest.raises(UnsupportedError, match="weights are fixed"):
        engine.refit({"w": np.eye(4, dtype=np.float32)})
    assert not backend.probe().has("refit")


def test_it_tells_what_it_made_of_the_nodes(model: Path, backend: OnnxRuntimeBackend) -> None:
    engine = backend.load(backend.build(request(model)).data)
    found = read(engine.inspect())
    product, shape = sorted(found.layers, key=lambda layer: layer.kind)
    assert (product.kind, product.precision, product.weights) == ("MatMul", "float32", 64)
    assert (product.origins, product.traced) == (("node_of_y",), True)
    assert [str(tensor) for tensor in (*product.inputs, *product.outputs)] == ["float32[2, 4]", "float32[2, 4]"]
    assert [str(tensor) for tensor in shape.outputs] == ["int64[2]"]
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [("x", (-1, 4)), ("y", (-1, 4)), ("n", (2,))]


def test_what_it_makes_of_nodes_is_told_with_all_that_went_into_it(tmp_path: Path, backend: OnnxRuntimeBackend) -> None:
    """Optimized, a product, its bias and its activation are one."""
    made = graph(
        [
            node("MatMul", ["x", "w"], ["p"], name="product"),
            node("Add", ["p", "b"], ["s"], name="bias"),
            node("Relu", ["s"], ["y"], name="activation"),
        ],
        [value("x", ["batch", 4])],
        [value("y", ["batch", 4])],
        [weight("w", np.eye(4, dtype=np.float32)), weight("b", np.ones(4, np.float32))],
    )
    asked = request(spec(tmp_path, made).source.path())
    (layer,) = read(backend.load(backend.build(asked).data).inspect()).layers
    assert (layer.origins, layer.weights) == (("product", "bias", "activation"), 80)
    plain = OnnxRuntimeBackend(optimized=False)
    assert [one.origins for one in read(plain.load(plain.build(asked).data).inspect()).layers] == [
        ("product",),
        ("bias",),
        ("activation",),
    ]


def test_what_lives_is_counted(model: Path, backend: OnnxRuntimeBackend) -> None:
    engine = backend.load(backend.build(request(model)).data)
    first, second = engine.session(), engine.session(1)
    assert backend.residue() == Residue(engines=1, sessions=2)
    for _ in range(2):
        first.close()
        assert backend.residue() == Residue(engines=1, sessions=1)
    del second
    gc.collect()
    assert backend.residue() == Residue(engines=1, sessions=1), "forgotten is not closed"
    engine.close()
    assert backend.residue() == Residue(sessions=1)


def test_a_profile_admits_its_own_shapes_only(model: Path, backend: OnnxRuntimeBackend) -> None:
    engine = backend.load(backend.build(request(model)).data)
    assert engine.session(1).run({"x": rows(20)})["y"].shape == (20, 4)
    says = r"input 'x': dimension 0 is 9, profile 0 allows 1 to 8 \(got \[9, 4\], min \[1, 4\], max \[8, 4\]\)"
    with pytest.raises(RunError, match=says):
        engine.session(0).run({"x": rows(9)})
    with pytest.raises(RunError, match="dimension 0 is 8, profile 1 allows 16 to 32"):
        engine.session(1).run({"x": rows(8)})
    with pytest.raises(RunError, match="has 3 dimensions, profile 0 2"):
        engine.session(0).run({"x": rows(4).reshape(1, 4, 4)})


def test_a_shape_tensor_stays_inside_its_contents(tmp_path: Path, backend: OnnxRuntimeBackend) -> None:
    made = graph(
        [node("Reshape", ["x", "shape"], ["y"])],
        [value("x", [12]), value("shape", [2], INT64)],
        [value("y", [None, None])],
    )
    whole = {"x": ShapeRange((12,), (12,), (12,)), "shape": ShapeRange((2,), (2,), (2,))}
    contents = {"shape": ShapeRange((1, 2), (3, 4), (6, 12))}
    asked = request(spec(tmp_path, made).source.path(), profiles=(whole,), contents=(contents,))
    engine = backend.load(backend.build(asked).data)
    assert [t.name for t in engine.info.tensors if t.shape_tensor] == ["shape"]
    x = np.arange(12, dtype=np.float32)
    assert engine.session().run({"x": x, "shape": np.array([3, 4])})["y"].shape == (3, 4)
    with pytest.raises(RunError, match="shape tensor 'shape': element 0 is 12, profile 0 allows 1 to 6"):
        engine.session().run({"x": x, "shape": np.array([12, 1])})


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "inputs x are missing or unknown; the model takes x"),
        ({"x": rows(2), "z": rows(2)}, "inputs z are missing or unknown"),
        ({"x": rows(2).astype(np.float64)}, "input 'x' is float64, the model takes float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    inputs: dict[str, np.ndarray], says: str, model: Path, backend: OnnxRuntimeBackend
) -> None:
    session = backend.load(backend.build(request(model)).data).session()
    with pytest.raises(RunError, match=says):
        session.run(inputs)


def test_a_failing_run_has_onnxruntimes_words(tmp_path: Path, backend: OnnxRuntimeBackend) -> None:
    made = graph(
        [node("Gather", ["w", "i"], ["y"])], [value("i", [1], INT64)], [value("y", [1])], [weight("w", np.ones(3, "f"))]
    )
    asked = request(spec(tmp_path, made).source.path(), profiles=({},), contents=({},))
    with pytest.raises(RunError, match="out of data bounds"):
        backend.load(backend.build(asked).data).session().run({"i": np.array([7])})


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09garbage" * 9])
def test_what_is_no_model_does_not_parse(
    content: bytes, tmp_path: Path, backend: OnnxRuntimeBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ParseError):
        backend.build(request(tmp_path / "bad.onnx"))
    assert capfd.readouterr() == ("", "")


def test_a_missing_model_does_not_parse(tmp_path: Path, backend: OnnxRuntimeBackend) -> None:
    with pytest.raises(ParseError, match="nowhere"):
        backend.build(request(tmp_path / "nowhere.onnx"))


def test_an_operator_without_a_kernel(
    tmp_path: Path, backend: OnnxRuntimeBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node("Unknown", ["x"], ["y"], domain="mine")], "g", [value("x", [1])], [value("y", [1])]
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)],
        ir_version=9,
    )
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises((ParseError, BuildError), match="Unknown"):
        backend.build(request(tmp_path / "m.onnx"))
    assert capfd.readouterr() == ("", "")


def test_warnings_are_not_printed(
    tmp_path: Path, backend: OnnxRuntimeBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime warns of a weight that nothing uses."""
    made = graph(
        [node("Relu", ["x"], ["y"])], [value("x", [4])], [value("y", [4])], [weight("unused", np.ones(3, "f"))]
    )
    backend.build(request(spec(tmp_path, made).source.path()))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"format": "of another kind"}'])
def test_what_is_no_plan_does_not_load(data: bytes, backend: OnnxRuntimeBackend) -> None:
    with pytest.raises(DeserializeError, match="not a plan of the onnxruntime backend"):
        backend.load(np.frombuffer(data, np.uint8))


def test_a_model_with_external_data_stays_where_it_is(model: Path, backend: OnnxRuntimeBackend) -> None:
    """Its plan is of use while it is there."""
    onnx.save_model(onnx.load(model), str(model), save_as_external_data=True, location="weights.bin", size_threshold=0)
    plan = backend.build(request(model))
    assert not plan.keep
    engine = backend.load(plan.data)
    np.testing.assert_array_equal(engine.session().run({"x": rows(3)})["y"], rows(3) * 2)
    assert engine.session().infer({"x": rows(3)})["y"] == (3, 4)
    assert engine.inspect()["Layers"]
    model.unlink()
    with pytest.raises(DeserializeError):
        engine.inspect()
    with pytest.raises(DeserializeError):
        backend.load(plan.data)


def test_a_plan_that_is_cut_short_does_not_load(model: Path, backend: OnnxRuntimeBackend) -> None:
    data = backend.build(request(model)).data
    head = data.tobytes().index(b"\n") + 1
    for length in (head, head + 1, data.nbytes - 1):
        with pytest.raises(DeserializeError):
            backend.load(data[:length])


@pytest.mark.parametrize("profile", [-1, 2])
def test_a_profile_that_is_not_there(profile: int, model: Path, backend: OnnxRuntimeBackend) -> None:
    engine = backend.load(backend.build(request(model)).data)
    with pytest.raises(DeserializeError, match=f"no profile {profile}: the engine has 2"):
        engine.session(profile)


@pytest.mark.parametrize(
    ("fields", "capability"),
    [
        ({"recipe": recipe("tf32")}, "tf32"),
        ({"recipe": recipe("fp16-weak")}, "weak_typing"),
        ({"network": "a:b"}, "network_function"),
        ({"config": BuildConfig(plugins=("p.so",))}, "plugins"),
    ],
)
def test_what_it_cannot_do_is_unsupported(
    fields: dict[str, Any], capability: str, model: Path, backend: OnnxRuntimeBackend
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        backend.build(request(model, **fields))
    assert caught.value.capability == capability
    assert caught.value.evidence


def test_graphs_are_unsupported(model: Path, backend: OnnxRuntimeBackend) -> None:
    session = backend.load(backend.build(request(model)).data).session()
    with pytest.raises(UnsupportedError, match="cuda_graph"):
        session.run({"x": rows(2)}, graph=True)


def test_the_probe_answers_every_capability_with_evidence(backend: OnnxRuntimeBackend) -> None:
    probe = backend.probe()
    assert {capability.name for capability in probe.capabilities} == {*CAPABILITIES} - {"gpu"}
    assert all(capability.evidence for capability in probe.capabilities)
    assert probe.has("run")
    assert not probe.has("tf32")
    assert probe.version
    assert probe.environment["optimized"] is True


def test_closed_things_say_so(model: Path, backend: OnnxRuntimeBackend) -> None:
    engine = backend.load(backend.build(request(model)).data)
    session = engine.session()
    session.close()
    with pytest.raises(RunError, match="the session is closed"):
        session.run({"x": rows(2)})
    engine.close()
    with pytest.raises(DeserializeError, match="the engine is closed"):
        engine.session()


def test_fp16_models_run(tmp_path: Path, backend: OnnxRuntimeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.judge.precision import converted

    monkeypatch.setenv(EXPORT_VARIABLE, str(tmp_path / "exports"))
    export_folder.cache_clear()
    made = graph(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [weight("w", np.full((4, 4), 0.1, np.float32))],
    )
    half = converted(spec(tmp_path, made), recipe("fp16"))
    asked = request(half, recipe=recipe("fp16"), profiles=({},), contents=({},))
    got = backend.load(backend.build(asked).data).session().run({"x": np.ones((1, 4), np.float32)})["y"]
    export_folder.cache_clear()
    assert got.dtype == np.float32
    assert 0 < np.abs(got - 0.4).max() < 1e-3  # 0.1 is no float16


def test_products_of_large_codes_do_not_overflow(tmp_path: Path, backend: OnnxRuntimeBackend) -> None:
    """On every processor: two of them make more than 16 bits hold."""
    nodes = [
        node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "one", "zero"], ["codes"]),
        node("DequantizeLinear", ["w", "one", "zero"], ["weight"]),
        node("MatMul", ["codes", "weight"], ["y"]),
    ]
    constants = [weight("one", np.float32(1)), weight("zero", np.int8(0)), weight("w", np.full((32, 8), 127, np.int8))]
    made = graph(nodes, [value("x", ["n", 32])], [value("y", ["n", 8])], constants)
    asked = request(spec(tmp_path, made).source.path(), profiles=({},), contents=({},))
    got = backend.load(backend.build(asked).data).session().run({"x": np.full((2, 32), 127, np.float32)})["y"]
    assert (got == 32 * 127 * 127).all()


def test_the_reference_keeps_a_few_sessions(model: Path) -> None:
    run = reference_runner(sessions=1)
    np.testing.assert_array_equal(run(model, {"x": rows(2)})["y"], rows(2) * 2)
    stamp = model.stat().st_mtime_ns
    changed = onnx.load(model)  # another file under the same name
    changed.graph.initializer[0].CopyFrom(weight("w", np.eye(4, dtype=np.float32) * 3))
    model.write_bytes(changed.SerializeToString())
    os.utime(model, ns=(stamp + 10**9, stamp + 10**9))
    np.testing.assert_array_equal(run(model, {"x": rows(2)})["y"], rows(2) * 3)
    assert "optimizations off, 1 thread" in reference_name()


# ---------------------------------------------------------------- another environment


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_model_that_is_probed_with_is_what_onnx_writes(dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, ["n"]) for name in "xy")
    made = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", [x], [y])
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert doubling(dtype) == whole.SerializeToString()


class TestUnderAnotherInterpreter:
    """In a host, under a Python that has numpy and onnxruntime, and no onnx."""

    @pytest.fixture
    def hosted(self, tmp_path: Path) -> Iterator[HostedBackend]:
        python = interpreter(tmp_path / "other", hidden=("onnx",))
        backend = create("onnxruntime", HostSettings(python={"onnxruntime": str(python)}), apart=True)
        assert isinstance(backend, HostedBackend)
        with contextlib.closing(backend):
            yield backend

    def test_it_is_probed_built_and_run(self, hosted: HostedBackend, model: Path) -> None:
        probe = hosted.probe()
        assert probe.version == onnxruntime.__version__
        assert probe.has("build")
        assert probe.has("run")
        assert probe.has("fp16")
        assert probe.environment["host"]["executable"] == sys.executable
        engine = hosted.load(hosted.build(request(model)).data)
        x = np.ones((2, 4), np.float32)
        assert engine.session().run({"x": x})["y"].tolist() == (2 * x).tolist()
        assert 1 << 20 < hosted.peak_memory() < 1 << 32

    def test_what_takes_onnx_is_not_covered(self, hosted: HostedBackend, model: Path, tmp_path: Path) -> None:
        engine = hosted.load(hosted.build(request(model)).data)
        with pytest.raises(UnsupportedError, match=r"has no onnx .*pip install onnx"):
            engine.inspect()
        with pytest.raises(UnsupportedError, match="has no onnx"):
            engine.session().infer({"x": np.ones((2, 4), np.float32)})
        onnx.save_model(
            onnx.load(model), str(tmp_path / "b.onnx"), save_as_external_data=True, location="w", size_threshold=0
        )
        with pytest.raises(UnsupportedError, match="has no onnx"):
            hosted.build(request(tmp_path / "b.onnx"))

    def test_without_onnxruntime_it_is_absent(self, tmp_path: Path) -> None:
        python = interpreter(tmp_path / "bare", hidden=("onnx", "onnxruntime"))
        backend = create("onnxruntime", HostSettings(python={"onnxruntime": str(python)}), apart=True)
        with contextlib.closing(backend):
            found = backend.probe().find("run")
        assert found.state is State.ABSENT
        assert found.evidence.startswith(sys.executable)
        assert found.fix.endswith("-m pip install onnxruntime")
