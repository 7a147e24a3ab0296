from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from harness.errors import SpecError
from harness.judge.inputs import SPECIALS, binding_of, make_inputs, read_arrays, special_inputs
from harness.spec import InputRule, Interface, ModelSpec, Profile, TensorSpec, recipe
from harness.spec.onnx_model import interface
from tests.judge.graphs import BOOL, INT32, INT64, graph, node, spec, value, weight


def plain(folder: Path, **fields: object) -> ModelSpec:
    """x float [batch, 8] and n int64 [batch], both unrelated to anything that gives them a meaning."""
    model = graph(
        [node("Neg", ["x"], ["y"]), node("Neg", ["n"], ["z"])],
        [value("x", ["batch", 8]), value("n", ["batch"], INT64)],
        [value("y", ["batch", 8]), value("z", ["batch"], INT64)],
    )
    return spec(folder, model, **fields)


def made(model: ModelSpec, seed: int = 0, **binding: int) -> dict[str, np.ndarray]:
    return make_inputs(model, interface(model.source.path()), binding, {}, seed)


def test_the_same_seed_gives_the_same_bytes_for_ever(tmp_path: Path) -> None:
    """The digest was taken once: a numpy whose streams change must not change our inputs."""
    inputs = made(plain(tmp_path), seed=7, batch=4)
    assert hashlib.sha256(inputs["x"].tobytes() + inputs["n"].tobytes()).hexdigest()[:16] == "3d29adcb3c3847bf"
    assert not np.array_equal(inputs["x"], made(plain(tmp_path), seed=8, batch=4)["x"])


def test_one_more_input_changes_no_other(tmp_path: Path) -> None:
    more = graph(
        [node("Neg", ["a"], ["b"]), node("Neg", ["x"], ["y"])],
        [value("a", [3]), value("x", ["batch", 8])],
        [value("b", [3]), value("y", ["batch", 8])],
    )
    x = made(plain(tmp_path), batch=2)["x"]
    np.testing.assert_array_equal(made(spec(tmp_path, more, name="more"), batch=2)["x"], x)


def test_normal_numbers_are_normal(tmp_path: Path) -> None:
    x = made(plain(tmp_path), batch=20_000)["x"].astype(np.float64)
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs((x**3).mean()) < 0.03
    assert 3.5 < np.abs(x).max() < 4.9


RULES = {
    "uniform": (InputRule("x", "uniform", -2, 5), lambda x: x.min() >= -2 and x.max() < 5 and x.max() > 4),
    "integers": (InputRule("x", "integers", 3, 6), lambda x: set(np.unique(x)) == {3, 4, 5, 6}),
    "fixed": (InputRule("x", "fixed", 2.5), lambda x: (x == 2.5).all()),
    "lengths": (InputRule("x", "lengths", symbol="batch"), lambda x: x.min() == 1 and x.max() == 100),
    "mask": (InputRule("x", "mask"), lambda x: (x[:, 0] == 1).all() and (np.diff(x) <= 0).all() and (x == 0).any()),
    "normal": (InputRule("x", "normal"), lambda x: abs(x.std() - 1) < 0.1),
}


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_is_followed(kind: str, tmp_path: Path) -> None:
    rule, holds = RULES[kind]
    assert holds(made(plain(tmp_path, inputs=(rule,)), batch=100)["x"])


def test_a_rule_counts_before_the_graph(tmp_path: Path) -> None:
    model = graph(
        [node("Gather", ["table", "ids"], ["y"])],
        [value("ids", [50], INT64)],
        [value("y", [50, 2])],
        [weight("table", np.ones((100, 2), np.float32))],
    )
    assert made(spec(tmp_path, model))["ids"].max() > 10
    assert made(spec(tmp_path, model, name="ruled", inputs=(InputRule("ids", "integers", 0, 3),)))["ids"].max() == 3


def test_types_without_a_rule(tmp_path: Path) -> None:
    kinds = {"b": BOOL, "i": INT32, "u": 2}
    model = graph(
        [node("Identity", [name], [f"{name}_out"]) for name in kinds],
        [value(name, [1000], kind) for name, kind in kinds.items()],
        [value(f"{name}_out", [1000], kind) for name, kind in kinds.items()],
    )
    inputs = made(spec(tmp_path, model))
    assert {name: str(array.dtype) for name, array in inputs.items()} == {"b": "bool", "i": "int32", "u": "uint8"}
    assert 400 < inputs["b"].sum() < 600
    assert inputs["i"].min() < -90
    assert inputs["i"].max() > 90
    assert inputs["u"].max() > 250


def reshaping(folder: Path, **fields: object) -> ModelSpec:
    model = graph(
        [node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["n", 4]), value("shape", [2], INT64)],
        [value("y", [None, None])],
    )
    return spec(folder, model, **fields)


def test_a_shape_tensor_holds_its_contents(tmp_path: Path) -> None:
    model = reshaping(tmp_path)
    inputs = make_inputs(model, interface(model.source.path()), {"n": 3}, {"shape": (2, 6)}, 0)
    assert inputs["shape"].tolist() == [2, 6]
    assert inputs["shape"].dtype == np.int64


def test_a_shape_tensor_without_contents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"'shape' decide shapes: give them in the profile"):
        made(reshaping(tmp_path), n=3)


def test_contents_of_the_wrong_number_are_refused(tmp_path: Path) -> None:
    model = reshaping(tmp_path)
    with pytest.raises(SpecError, match="has 2 elements, but the profile gives 3 values"):
        make_inputs(model, interface(model.source.path()), {"n": 3}, {"shape": (2, 3, 2)}, 0)


def test_a_rule_for_no_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a rule or values for q, which is no input; inputs: x, n"):
        made(plain(tmp_path, inputs=(InputRule("q", "normal"),)), batch=1)


def test_data_comes_from_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((2, 8), 3, np.float32), n=np.array([1, 2]))
    model = plain(tmp_path, data=tmp_path / "d.npz")
    assert (made(model, batch=2)["x"] == 3).all()
    with pytest.raises(SpecError, match=r"'x' is \[2, 8\], this point takes \[4, 8\]"):
        made(model, batch=4)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((1, 8), np.float32)}, "lacks 'n'"),
        ({"x": np.zeros((1, 8), np.float32), "n": np.zeros(1, np.int64), "q": np.zeros(1)}, "holds 'q'"),
        ({"x": np.zeros((1, 8)), "n": np.zeros(1, np.int64)}, "'x' is float64, the model takes float32"),
    ],
)
def test_data_that_does_not_fit_is_refused(arrays: dict[str, np.ndarray], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(SpecError, match=says):
        made(plain(tmp_path, data=tmp_path / "d.npz"), batch=1)


def test_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(SpecError, match=r"not an \.npz of plain arrays"):
        read_arrays(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"garbage" * 20])
def test_what_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(SpecError, match=r"not an \.npz of plain arrays"):
        read_arrays(tmp_path / "d.npz")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(SpecError, match="one array without a name"):
        read_arrays(tmp_path / "d.npy")


KV = Interface(
    (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "past+seq"))),
    (),
)


def test_sizes_of_symbols_follow_from_arrays() -> None:
    arrays = {"ids": np.zeros((2, 3), np.int64), "mask": np.zeros((2, 8), np.int64)}
    assert binding_of(KV, arrays) == {"batch": 2, "seq": 3, "past": 5}


def test_sizes_that_contradict_are_refused() -> None:
    with pytest.raises(SpecError, match="batch is 4 here and 2 before"):
        binding_of(KV, {"ids": np.zeros((2, 3), np.int64), "mask": np.zeros((4, 8), np.int64)})


def test_special_values_spare_what_is_no_data(tmp_path: Path) -> None:
    model = plain(tmp_path, inputs=(InputRule("x", "normal"),), profiles=(Profile.of({"batch": 4}),))
    inputs = made(model, batch=4)
    seen = {}
    for special in SPECIALS:
        changed = special_inputs(model, interface(model.source.path()), inputs, special, recipe("fp16"))
        np.testing.assert_array_equal(changed["n"], inputs["n"])
        seen[special] = changed["x"]
    assert not seen["zeros"].any()
    assert (seen["ones"] == 1).all()
    assert np.allclose(np.abs(seen["largest"]), 65504**0.25)  # of the recipe's format, not the input's
    assert 0 < np.abs(seen["denormal"]).max() < 2.0**-14
    assert np.isinf(seen["inf"]).sum() == np.isnan(seen["nan"]).sum() == 5
    assert {np.inf, -np.inf} <= set(seen["inf"].reshape(-1))


@pytest.mark.parametrize(("name", "largest"), [("fp32", 2.0**32), ("tf32", 2.0**32), ("fp16", 16), ("fp16-weak", 16)])
def test_the_largest_values_leave_room_in_the_recipes_format(name: str, largest: float, tmp_path: Path) -> None:
    model = plain(tmp_path)
    changed = special_inputs(model, interface(model.source.path()), made(model, batch=4), "largest", recipe(name))
    assert np.abs(changed["x"]).max() == pytest.approx(largest, rel=1e-3)


def test_special_values_spare_masks(tmp_path: Path) -> None:
    model = plain(tmp_path, inputs=(InputRule("x", "mask"),))
    inputs = made(model, batch=4)
    changed = special_inputs(model, interface(model.source.path()), inputs, "nan", recipe("fp32"))
    np.testing.assert_array_equal(changed["x"], inputs["x"])
