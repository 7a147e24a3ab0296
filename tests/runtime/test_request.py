"""What a backend is handed for what is asked."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from harness.errors import SpecError
from harness.runtime.backend.protocol import ShapeRange
from harness.runtime.request import AS_DECLARED, resolve
from harness.spec import (
    BuildConfig,
    EngineSpec,
    ModelSpec,
    NetworkFunction,
    OnnxFile,
    PlanFile,
    Profile,
    Values,
    recipe,
)
from tests.runtime import models


def asked(model: ModelSpec, precision: str = "fp32", config: BuildConfig | None = None) -> EngineSpec:
    return EngineSpec.of(model, recipe(precision), config)


def test_every_input_has_its_shapes_and_sums_follow_their_symbols(tmp_path: Path) -> None:
    wide = Profile.of({"batch": (1, 2, 4), "past": (0, 8, 16), "seq": (1, 1, 3)})
    narrow = Profile.of({"batch": 1, "past": 8, "seq": 1})
    config = BuildConfig(optimization_level=1)
    request = resolve(asked(ModelSpec("cache", OnnxFile(models.concat(tmp_path)), (wide, narrow)), config=config))

    assert request.profiles == (
        {
            "past": ShapeRange((1, 0), (2, 8), (4, 16)),
            "new": ShapeRange((1, 1), (2, 1), (4, 3)),
            "mask": ShapeRange((1, 1), (2, 9), (4, 19)),
        },
        {
            "past": ShapeRange((1, 8), (1, 8), (1, 8)),
            "new": ShapeRange((1, 1), (1, 1), (1, 1)),
            "mask": ShapeRange((1, 9), (1, 9), (1, 9)),
        },
    )
    assert request.contents == ({}, {})
    assert (request.name, request.recipe, request.config) == ("cache", recipe("fp32"), config)
    assert Path(request.model) == tmp_path / "concat.onnx"


def test_dimensions_may_be_named_by_tensor_and_axis(tmp_path: Path) -> None:
    model = models.relu(tmp_path, profile=Profile.of({"x:0": (1, 3, 5), "x:1": 2}))
    assert resolve(asked(model)).profiles == ({"x": ShapeRange((1, 2), (3, 2), (5, 2))},)


def test_shape_tensors_have_a_shape_and_contents(tmp_path: Path) -> None:
    request = resolve(asked(models.reshape(tmp_path)))
    assert request.profiles[0]["shape"] == ShapeRange((2,), (2,), (2,))
    assert request.contents == ({"shape": ShapeRange((1, 1), (3, 4), (12, 12))},)


def test_the_model_is_converted_to_the_recipe(tmp_path: Path) -> None:
    original = models.relu(tmp_path)
    half = onnx.load(resolve(asked(original, "fp16")).model)
    weak = resolve(asked(original, "fp16-weak"))
    assert any(node.op_type == "Cast" for node in half.graph.node)
    assert Path(weak.model) == original.source.path()


def test_values_of_a_tensor_of_dynamic_length_must_fit_at_every_point(tmp_path: Path) -> None:
    path = tmp_path / "expand.onnx"
    models.save(
        path,
        [onnx.helper.make_node("Expand", ["x", "shape"], ["y"])],
        {"x": (onnx.TensorProto.FLOAT, [1]), "shape": (onnx.TensorProto.INT64, ["rank"])},
        "y",
    )
    profile = Profile.of({"rank": (1, 2, 2)}, {"shape": Values((1, 1), (2, 2), (4, 4))})
    with pytest.raises(SpecError, match=r"expand: shape values of 'shape': 2 given, where the profile makes it 1 long"):
        resolve(asked(ModelSpec("expand", OnnxFile(path), (profile,))))


def test_a_profile_that_the_model_does_not_admit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"'x', axis 1: exported with this dimension fixed to 2"):
        resolve(asked(models.relu(tmp_path, profile=Profile.of({"batch": 1, "x:1": (1, 2, 3)}))))


def test_a_network_of_a_callable_keeps_what_the_profile_does_not_name() -> None:
    source = NetworkFunction("networks:attention", Path("/somewhere"))
    profile = Profile.of({"x:0": (1, 2, 4), "x:2": 8, "y:0": 3}, {"n": Values((1,), (2,), (3,))})
    request = resolve(asked(ModelSpec("attention", source, (profile,))))
    any_size = AS_DECLARED
    assert request.profiles == (
        {
            "x": ShapeRange((1, any_size, 8), (2, any_size, 8), (4, any_size, 8)),
            "y": ShapeRange((3,), (3,), (3,)),
        },
    )
    assert request.contents == ({"n": ShapeRange((1,), (2,), (3,))},)
    assert (request.network, request.network_folder, request.model) == ("networks:attention", "/somewhere", "")


@pytest.mark.parametrize("key", ["batch", "x:-1", ":0"])
def test_a_network_of_a_callable_has_no_names_for_dimensions(key: str) -> None:
    model = ModelSpec("attention", NetworkFunction("networks:attention"), (Profile.of({key: (1, 2, 4)}),))
    with pytest.raises(SpecError, match=r"attention: dimension '.*write tensor:axis"):
        resolve(asked(model))


def test_a_range_for_a_network_of_a_callable_is_checked() -> None:
    model = ModelSpec("attention", NetworkFunction("networks:attention"), (Profile.of({"x:0": (4, 2, 1)}),))
    with pytest.raises(SpecError, match=r"'x:0': empty range: min 4 is above max 1"):
        resolve(asked(model))


def test_values_for_a_network_of_a_callable_are_checked() -> None:
    profile = Profile.of(values={"n": Values((1,), (2, 2), (3,))})
    with pytest.raises(SpecError, match="'n': min, opt and max differ in length"):
        resolve(asked(ModelSpec("attention", NetworkFunction("networks:attention"), (profile,))))


def test_a_plan_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="its source is a plan, which is loaded, not built"):
        resolve(asked(ModelSpec("old", PlanFile(tmp_path / "old.plan"))))
