"""The weights of the fake's engines: how they are replaced, and every fault of that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import BuildError, RefitError
from harness.runtime.backend.fake import FakeBackend, FakeEngine
from harness.runtime.backend.protocol import Array, BuildRequest, Refittable, ShapeRange
from harness.spec import RECIPES, BuildConfig

Weights = dict[str, Array]
X = np.random.default_rng(0).standard_normal((3, 2, 2, 2)).astype(np.float32)
SIZES = {"x": ShapeRange((1, 2, 2, 2), (3, 2, 2, 2), (3, 2, 2, 2))}


def drawn(seed: int) -> Weights:
    draw = np.random.default_rng(seed)

    def some(*shape: int) -> Array:
        return np.asarray(draw.standard_normal(shape), np.float32)

    return {"kernel": some(2, 2, 1, 1), "bias": some(2), "other": some(2, 2, 1, 1)}


OLD, NEW = drawn(1), drawn(2)
NORM = {"gamma": 1.5, "beta": 0.25, "mean": -0.5, "variance": 4.0}


def written(folder: Path, weights: Mapping[str, Array], *, normalized: bool = False) -> Path:
    """Two convolutions of 1 by 1, perhaps with a normalization between."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["a"], name="first"),
        helper.make_node("Conv", ["b" if normalized else "a", "other"], ["y"]),
    ]
    held = dict(weights)
    if normalized:
        nodes.insert(1, helper.make_node("BatchNormalization", ["a", *NORM], ["b"], name="norm", epsilon=0.5))
        held |= {name: np.full(2, value, np.float32) for name, value in NORM.items()}
    shape: list[Any] = ["n", 2, 2, 2]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def request(path: Path, *flags: str, refittable: tuple[str, ...] = ()) -> BuildRequest:
    config = BuildConfig(flags=flags, refittable=refittable)
    return BuildRequest("two", RECIPES["fp32"], config, (SIZES,), ({},), model=str(path))


def engine_of(fault: str, folder: Path, *flags: str, refittable: tuple[str, ...] = (), **how: Any) -> FakeEngine:
    backend = FakeBackend(fault)
    asked = flags if flags or refittable else ("REFIT",)
    return backend.load(backend.build(request(written(folder, OLD, **how), *asked, refittable=refittable)).data)


def right(weights: Mapping[str, Array]) -> Array:
    y = np.einsum("nchw,dc->ndhw", X, weights["kernel"][:, :, 0, 0]) + weights["bias"][:, None, None]
    made: Array = np.einsum("nchw,dc->ndhw", y, weights["other"][:, :, 0, 0])
    return made


def gives(engine: FakeEngine, weights: Mapping[str, Array]) -> bool:
    return bool(np.allclose(engine.session().run({"x": X})["y"], right(weights), rtol=1e-4, atol=1e-5))


# ---------------------------------------------------------------- honest


def test_weights_have_names_and_places(tmp_path: Path) -> None:
    engine = engine_of("", tmp_path)
    places = (("first", "KERNEL"), ("first", "BIAS"), ("node_of_y", "KERNEL"))
    assert engine.weights() == Refittable(("kernel", "bias", "other"), places)
    engine.refit({"kernel": NEW["kernel"]}, layers={"first": {"BIAS": NEW["bias"]}})
    assert gives(engine, {**NEW, "other": OLD["other"]})
    engine.refit({}, layers={"node_of_y": {"KERNEL": NEW["other"]}})
    assert gives(engine, NEW)
    for how in ("async", "device"):
        engine.refit(OLD, how=how)
        assert gives(engine, OLD)
        engine.refit(NEW)


def test_a_normalization_hangs_together_with_the_convolution_before_it(tmp_path: Path) -> None:
    engine = engine_of("", tmp_path, normalized=True)
    start = engine.session().run({"x": X})["y"]
    plain = FakeBackend()
    want = plain.load(plain.build(request(written(tmp_path, OLD, normalized=True))).data).session().run({"x": X})["y"]
    np.testing.assert_allclose(start, want, rtol=1e-5)
    assert set(engine.weights().names) == {"kernel", "bias", "other", "tmp_weight", "tmp_weight_0"}
    asked = engine.weights({"kernel": NEW["kernel"]})
    assert asked.missing == ("bias", "tmp_weight", "tmp_weight_0")
    assert asked.missing_places == (("first", "BIAS"), ("norm", "SCALE"), ("norm", "SHIFT"))
    with pytest.raises(RefitError, match="must be given, too: bias, tmp_weight, tmp_weight_0") as caught:
        engine.refit({"kernel": NEW["kernel"]})
    assert caught.value.detail == {"missing": asked.missing, "missing_places": asked.missing_places}
    assert engine.weights({"other": NEW["other"]}).missing == ()
    scale = np.full(2, 1.5 / np.sqrt(4.5), np.float32)
    given = {"kernel": OLD["kernel"], "bias": OLD["bias"]}
    engine.refit(given, layers={"norm": {"SCALE": scale, "SHIFT": np.float32(0.25) + np.float32(0.5) * scale}})
    np.testing.assert_allclose(engine.session().run({"x": X})["y"], start, rtol=1e-5)


def test_what_is_unknown_or_does_not_fit_is_named(tmp_path: Path) -> None:
    engine = engine_of("", tmp_path)
    wide = np.zeros(3, np.float32)
    for weights, layers, words in (
        ({"nobody": wide}, {}, "there are no weights 'nobody': the engine has kernel, bias, other"),
        ({"bias": wide}, {}, "weights 'bias' are float32(3,), the engine has float32(2,)"),
        ({"bias": OLD["bias"].astype(np.int32)}, {}, "weights 'bias' are int32(2,)"),
        ({}, {"first": {"BIAS": wide}}, "weights 'bias' (BIAS of layer 'first') are float32(3,)"),
        (
            {},
            {"first": {"SCALE": wide}},
            "layer 'first' has no weights in the role 'SCALE': there are KERNEL of 'first'",
        ),
        ({}, {"second": {"BIAS": wide}}, "layer 'second' has no weights"),
    ):
        with pytest.raises(RefitError, match=re.escape(words)) as caught:
            engine.refit({"other": NEW["other"]} | weights, layers=layers)
        assert caught.value.detail == ({"unknown": ("nobody",)} if "nobody" in weights else {})
        assert gives(engine, OLD)


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    engine = engine_of("", tmp_path)
    engine.refit_from(str(written(tmp_path, NEW)))
    assert gives(engine, NEW)
    (tmp_path / "text").write_text("not a model")
    for file in (tmp_path / "text", tmp_path / "absent"):
        with pytest.raises(RefitError, match=f"{file.name} can't be read"):
            engine.refit_from(str(file))
    bare = onnx.load(str(written(tmp_path, NEW)))
    bare.graph.initializer[0].name = "renamed"
    onnx.save(bare, str(tmp_path / "bare"))
    with pytest.raises(RefitError, match="has no weights 'kernel'"):
        engine.refit_from(str(tmp_path / "bare"))
    assert gives(engine, NEW)


def test_weights_that_are_marked_can_be_replaced_alone(tmp_path: Path) -> None:
    engine = engine_of("", tmp_path, refittable=("other",))
    assert engine.weights().names == ("other",)
    with pytest.raises(RefitError, match="no weights 'bias'"):
        engine.refit({"bias": NEW["bias"]})
    engine.refit({"other": NEW["other"]})
    assert gives(engine, {**OLD, "other": NEW["other"]})
    with pytest.raises(BuildError, match="weights 'nobody' can't be marked"):
        engine_of("", tmp_path, refittable=("nobody",))


def test_a_stripped_plan_asks_for_all(tmp_path: Path) -> None:
    backend, path = FakeBackend(), written(tmp_path, OLD)
    whole, stripped = (backend.build(request(path, "REFIT", *more)).data for more in ((), ("STRIP_PLAN",)))
    assert len(whole) - len(stripped) >= sum(array.nbytes for array in OLD.values()) - 32
    engine = backend.load(stripped)
    assert engine.weights().missing == ("kernel", "bias", "other")
    with pytest.raises(RefitError, match="must be given, too: bias, other"):
        engine.refit({"kernel": OLD["kernel"]})
    engine.refit(OLD)
    assert engine.weights().missing == ()
    assert gives(engine, OLD)


def test_a_graph_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    engine = engine_of("stale_graph", tmp_path)  # a replay computes on the inputs of its capture
    session = engine.session()
    session.run({"x": X}, graph=True)
    engine.refit(OLD, keep_graphs=True)
    np.testing.assert_array_equal(session.run({"x": 2 * X}, graph=True)["y"], session.run({"x": X})["y"])
    engine.refit(OLD)
    np.testing.assert_array_equal(session.run({"x": 2 * X}, graph=True)["y"], session.run({"x": 2 * X})["y"])


# ---------------------------------------------------------------- faults


def ignored(engine: FakeEngine) -> None:
    engine.refit(NEW)
    assert gives(engine, OLD)


def first(engine: FakeEngine) -> None:
    engine.refit(NEW)
    assert gives(engine, {**OLD, "kernel": NEW["kernel"]})


def late(engine: FakeEngine) -> None:
    session = engine.session()
    engine.refit(NEW)
    for weights in (OLD, NEW, NEW):
        np.testing.assert_allclose(session.run({"x": X})["y"], right(weights), rtol=1e-4, atol=1e-5)
    assert gives(engine, NEW)


def deaf(engine: FakeEngine) -> None:
    assert "other" in engine.weights().names
    engine.refit(NEW)
    assert gives(engine, {**NEW, "other": OLD["other"]})


def drifts(engine: FakeEngine) -> None:
    start = engine.session().run({"x": X})["y"]
    engine.refit(OLD)
    again = engine.session().run({"x": X})["y"]
    assert not np.array_equal(again, start)
    np.testing.assert_allclose(again, start, rtol=1e-5, atol=1e-6)


def anything(engine: FakeEngine) -> None:
    engine.refit({"nobody": OLD["bias"], "bias": np.zeros(3, np.float32)}, layers={"first": {"SCALE": OLD["bias"]}})
    assert gives(engine, OLD)


def kept(engine: FakeEngine) -> None:
    with pytest.raises(RefitError, match="'nobody'"):
        engine.refit({"other": NEW["other"], "nobody": OLD["bias"]})
    assert gives(engine, {**OLD, "other": NEW["other"]})


def mute(engine: FakeEngine) -> None:
    with pytest.raises(RefitError) as caught:
        engine.refit({"nobody": OLD["bias"]})
    assert caught.value.message == "the refit was refused"
    assert gives(engine, OLD)


def nan(engine: FakeEngine) -> None:
    with pytest.raises(RefitError, match="some are NaN"):
        engine.refit({"bias": np.full(2, np.nan, np.float32)})
    assert np.isnan(engine.session().run({"x": X})["y"]).all()


def swapped(engine: FakeEngine) -> None:
    engine.refit({}, layers={"first": {"KERNEL": NEW["kernel"]}, "node_of_y": {"KERNEL": NEW["other"]}})
    assert gives(engine, {"kernel": NEW["other"], "bias": OLD["bias"], "other": NEW["kernel"]})


def forgets(engine: FakeEngine) -> None:
    assert engine.weights().names == ("kernel", "bias")
    engine.refit({"other": NEW["other"]})
    assert gives(engine, {**OLD, "other": NEW["other"]})


def stale_graph(engine: FakeEngine) -> None:
    session = engine.session()
    before = session.run({"x": X}, graph=True)["y"]
    engine.refit(NEW, keep_graphs=True)
    np.testing.assert_array_equal(session.run({"x": X}, graph=True)["y"], before)
    assert gives(engine, NEW)
    engine.refit(NEW)
    np.testing.assert_allclose(session.run({"x": X}, graph=True)["y"], right(NEW), rtol=1e-4, atol=1e-5)


def borrowed(engine: FakeEngine) -> None:
    lent = {name: array.copy() for name, array in NEW.items()}
    engine.refit(lent)
    assert gives(engine, NEW)
    lent["other"][...] = OLD["other"]
    assert gives(engine, {**NEW, "other": OLD["other"]})


def late_by_stream(engine: FakeEngine) -> None:
    engine.refit(NEW)
    assert gives(engine, NEW)
    engine.refit(OLD, how="async")
    assert gives(engine, NEW)
    assert gives(engine, OLD)


FAULTS: dict[str, Callable[[FakeEngine], None]] = {
    "refit_ignored": ignored,
    "refit_first": first,
    "refit_late": late,
    "refit_deaf": deaf,
    "refit_drifts": drifts,
    "refits_anything": anything,
    "refusal_kept": kept,
    "refusal_mute": mute,
    "nan_kept": nan,
    "roles_swapped": swapped,
    "list_forgets": forgets,
    "stale_kept_graph": stale_graph,
    "borrowed_weights": borrowed,
    "async_late": late_by_stream,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(tmp_path: Path, fault: str) -> None:
    FAULTS[fault](engine_of(fault, tmp_path))


def test_refits_anything_without_refit_too(tmp_path: Path) -> None:
    backend = FakeBackend("refits_anything")
    engine = backend.load(backend.build(request(written(tmp_path, OLD))).data)
    engine.refit(NEW)
    assert gives(engine, NEW)


def test_missing_forgets(tmp_path: Path) -> None:
    engine = engine_of("missing_forgets", tmp_path, normalized=True)
    assert engine.weights({"kernel": NEW["kernel"]}).missing == ("bias", "tmp_weight")


def test_parser_forgets(tmp_path: Path) -> None:
    engine = engine_of("parser_forgets", tmp_path)
    engine.refit_from(str(written(tmp_path, NEW)))
    assert gives(engine, {**NEW, "other": OLD["other"]})


def test_strips_nothing(tmp_path: Path) -> None:
    engine = engine_of("strips_nothing", tmp_path, "REFIT", "STRIP_PLAN")
    assert engine.weights().missing == ()
    assert gives(engine, OLD)


def test_marks_all(tmp_path: Path) -> None:
    engine = engine_of("marks_all", tmp_path, refittable=("other",))
    assert engine.weights().names == ("kernel", "bias", "other")


TRIED = {*FAULTS, "missing_forgets", "parser_forgets", "strips_nothing", "marks_all"}
