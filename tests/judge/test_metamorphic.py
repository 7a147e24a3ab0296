"""Relations between runs: what is made of inputs, and that each relation's breach is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import SpecError
from harness.judge import metamorphic
from harness.judge.compare import Failure, compare
from harness.judge.oracle import Oracle, Reference
from harness.judge.poison import poison
from harness.judge.provenance import Kind, Origin
from harness.judge.tolerance import magnitude, tolerance
from harness.runtime.backend.onnxruntime import reference_name, reference_runner
from harness.spec import Interface, ModelSpec, TensorSpec
from harness.spec.onnx_model import interface
from tests.judge.graphs import graph, node, spec, value, weight

FACE = Interface(
    (
        TensorSpec("x", "float32", ("batch", 4)),
        TensorSpec("t", "float32", (2, "batch")),
        TensorSpec("s", "float32", (3,)),
    ),
    (TensorSpec("y", "float32", ("batch", 2)), TensorSpec("sum", "float32", (3,))),
)
rng = np.random.default_rng(0)
INPUTS = {
    "x": rng.normal(size=(5, 4)).astype("f"),
    "t": rng.normal(size=(2, 5)).astype("f"),
    "s": rng.normal(size=3).astype("f"),
}
Y = rng.normal(size=(5, 2)).astype(np.float32)
SUM = rng.normal(size=3).astype(np.float32)
REFERENCE = Reference(
    "m", "o", {"y": Y, "sum": SUM}, {"y": Origin(Kind.FLOAT), "sum": Origin(Kind.FLOAT)}, weak={"y": "constant"}
)
ORDER = [3, 0, 4, 1, 2]


def test_duplicated_rows() -> None:
    made = metamorphic.duplicated(INPUTS, FACE, "batch")
    assert (made["x"] == INPUTS["x"][0]).all()
    assert (made["t"] == INPUTS["t"][:, :1]).all()
    assert made["s"] is INPUTS["s"]


def test_permuted_rows() -> None:
    made = metamorphic.permuted(INPUTS, FACE, "batch", ORDER)
    np.testing.assert_array_equal(made["x"], INPUTS["x"][ORDER])
    np.testing.assert_array_equal(made["t"], INPUTS["t"][:, ORDER])
    assert made["t"].flags.c_contiguous


def test_parts_of_a_batch() -> None:
    pieces = metamorphic.parts(INPUTS, FACE, "batch", 2)
    assert [piece["x"].shape[0] for piece in pieces] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([piece["t"] for piece in pieces], axis=1), INPUTS["t"])
    assert all(piece["s"] is INPUTS["s"] for piece in pieces)


def test_rows_that_should_be_equal() -> None:
    got = {"y": np.repeat(Y[:1], 5, axis=0), "sum": SUM}
    assert metamorphic.judge_duplicates(got, REFERENCE, FACE, "batch", "fp16").passed
    got["y"][3, 1] += 0.1
    comparison = metamorphic.judge_duplicates(got, REFERENCE, FACE, "batch", "fp16")
    (output,) = comparison.failures
    assert (output.failure, output.worst[0].index) == (Failure.MISMATCH, (3, 1))
    assert comparison.oracle == "row 0 of the same run, along batch"


def test_rows_that_should_be_permuted() -> None:
    straight = {"y": Y, "sum": SUM}
    got = {"y": Y[ORDER], "sum": SUM + 9}  # the sum has no rows to relate
    assert metamorphic.judge_permuted(got, straight, REFERENCE, FACE, "batch", ORDER, "fp16").passed
    assert not metamorphic.judge_permuted(straight, straight, REFERENCE, FACE, "batch", ORDER, "fp16").passed


def test_a_batch_that_should_be_its_parts() -> None:
    pieces = [{"y": Y[:2], "sum": SUM}, {"y": Y[2:4], "sum": SUM}, {"y": Y[4:], "sum": SUM}]
    assert metamorphic.judge_parts({"y": Y, "sum": SUM}, pieces, REFERENCE, FACE, "batch", "fp16").passed
    wrong = {"y": np.concatenate([Y[:2], Y[:2], Y[4:]]), "sum": SUM}
    comparison = metamorphic.judge_parts(wrong, pieces, REFERENCE, FACE, "batch", "fp16")
    assert comparison.failures[0].where == "axis 0 at 2, 3 of 5"


def test_an_output_that_is_lost_is_missed_here_too() -> None:
    assert not metamorphic.judge_duplicates({"sum": SUM, "z": Y}, REFERENCE, FACE, "batch", "fp16").passed


def test_unwritten_rows_are_no_equal_rows() -> None:
    """All of them hold the same, and it is the poison."""
    got = {"y": np.empty((5, 2), np.float32), "sum": SUM}
    poison(got["y"])
    comparison = metamorphic.judge_duplicates(got, REFERENCE, FACE, "batch", "fp16")
    assert comparison.failures[0].failure is Failure.UNWRITTEN


def test_two_engines_that_should_agree() -> None:
    want = {"y": Y, "sum": SUM}
    near = {"y": Y * np.float32(1.0001), "sum": SUM}
    assert metamorphic.judge_alike(near, want, REFERENCE, "fp16", "a rebuild").passed
    far = {"y": Y * np.float32(1.1), "sum": SUM}
    comparison = metamorphic.judge_alike(far, want, REFERENCE, "fp16", "a rebuild")
    assert comparison.failures[0].failure is Failure.MISMATCH
    assert comparison.oracle == "a rebuild"


@pytest.mark.parametrize(("times", "passes"), [(1.95, True), (2.05, False)])
def test_two_engines_may_be_apart_by_twice_what_one_may_be_off(times: float, passes: bool) -> None:
    """One is off this way, the other that way; two runs of rows in one plan have no such excuse."""
    truth = Reference("m", "o", {"y": np.ones((5, 2), np.float32)}, {"y": Origin(Kind.FLOAT)})
    bound = tolerance("fp16", "y", magnitude=magnitude(truth.outputs["y"]))
    apart = times * (bound.atol + bound.rtol)
    one, other = ({"y": truth.outputs["y"] + np.float32(side * apart / 2)} for side in (-1, 1))
    assert all(compare(got, truth, "fp16", weak="ignore").passed for got in (one, other)) is passes
    found = metamorphic.judge_alike(other, one, truth, "fp16", "a rebuild")
    assert found.passed is passes
    assert found.outputs[0].tolerance is not None
    assert found.outputs[0].tolerance.source.startswith("2 times (two engines, each of which may be off by it)")
    pieces = [{"y": one["y"][:2]}, {"y": one["y"][2:]}]
    assert not metamorphic.judge_parts(other, pieces, truth, FACE, "batch", "fp16").passed


def test_every_bit() -> None:
    want = {"y": Y, "n": np.arange(3)}
    assert metamorphic.same_bits({"y": Y.copy(), "n": np.arange(3)}, want, "m", "fp16", "plain enqueue").passed
    other = {"y": np.nextafter(Y, np.float32(99)), "n": np.arange(3)}
    comparison = metamorphic.same_bits(other, want, "m", "fp16", "plain enqueue")
    assert [(o.name, o.failure) for o in comparison.failures] == [("y", Failure.MISMATCH)]
    assert comparison.outputs[0].tolerance is not None
    assert comparison.outputs[0].tolerance.source.endswith("every bit")


def test_a_dimension_that_no_tensor_has_is_refused() -> None:
    with pytest.raises(SpecError, match=r"no tensor has the dimension 'seq': x \['batch', 4\]"):
        metamorphic.duplicated(INPUTS, FACE, "seq")


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    """Rows don't influence each other."""
    made = graph(
        [node("MatMul", ["x", "w"], ["a"]), node("Softmax", ["a"], ["y"], axis=-1)],
        [value("x", ["batch", 8])],
        [value("y", ["batch", 8])],
        [weight("w", np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32))],
    )
    return spec(tmp_path, made, batch="batch")


def test_the_relations_hold_for_a_real_model(model: ModelSpec) -> None:
    run = reference_runner()
    oracle, face, path = Oracle(run, reference_name()), interface(model.source.path()), model.source.path()
    inputs = {"x": np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)}
    twins = metamorphic.duplicated(inputs, face, "batch")
    turned = metamorphic.permuted(inputs, face, "batch", [5, 4, 3, 2, 1, 0])
    pieces = [run(path, part) for part in metamorphic.parts(inputs, face, "batch", 4)]
    order = [5, 4, 3, 2, 1, 0]
    straight = run(path, inputs)
    comparisons = [
        metamorphic.judge_duplicates(run(path, twins), oracle.reference(model, twins), face, "batch", "fp32"),
        metamorphic.judge_permuted(
            run(path, turned), straight, oracle.reference(model, turned), face, "batch", order, "fp32"
        ),
        metamorphic.judge_parts(straight, pieces, oracle.reference(model, inputs), face, "batch", "fp32"),
        metamorphic.same_bits(run(path, inputs), straight, model.id, "fp32", "the first run"),
    ]
    assert [comparison.passed for comparison in comparisons] == [True] * 4


MASKED = Interface(
    (
        TensorSpec("ids", "int64", ("batch", "seq")),
        TensorSpec("mask", "bool", ("batch", "seq")),
        TensorSpec("x", "float32", ("batch", 4)),
    ),
    (
        TensorSpec("hidden", "float32", ("batch", "seq", 2)),
        TensorSpec("pooled", "float32", ("batch",)),
        TensorSpec("past_out", "float32", ("past+seq",)),
    ),
)
WORDS = {
    "ids": np.array([[1, 2, 3], [4, 5, 6]]),
    "mask": np.array([[True, True, False], [True, True, True]]),
    "x": rng.normal(size=(2, 4)).astype("f"),
}


@pytest.mark.parametrize(
    ("shapes", "masks", "found"),
    [
        ({"m": ("batch", "seq")}, ["m"], ("seq",)),
        ({"m": ("batch", "seq")}, [], ()),
        ({"m": ("batch", "past+seq"), "x": ("batch", "seq")}, ["m"], ()),  # a sum is no place of its own
        ({"m": ("batch", "seq"), "x": ("past+seq",)}, ["m"], ()),
        ({"m": ("batch", "seq", "seq")}, ["m"], ()),  # nor is one of two
        ({"m": ("batch", 8)}, ["m"], ()),
        ({"m": ("b", "s"), "n": ("b", "t")}, ["m", "n"], ("s", "t")),
    ],
)
def test_dimensions_that_a_mask_hides(shapes: dict[str, tuple[str, ...]], masks: list[str], found: tuple[str, ...]):
    face = Interface(tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items()), ())
    assert metamorphic.hidden_symbols(face, masks) == found


def test_padding() -> None:
    short = metamorphic.cut(WORDS, MASKED, "seq", 2)
    assert short["ids"].tolist() == [[1, 2], [4, 5]]
    longer = metamorphic.padded(short, MASKED, "seq", 5, ["mask"])
    assert longer["ids"].tolist() == [[1, 2, 1, 2, 1], [4, 5, 4, 5, 4]]
    assert longer["mask"].tolist() == [[True, True, False, False, False]] * 2
    assert longer["x"] is WORDS["x"]


@pytest.mark.parametrize("spoilt", ["", "hidden", "pooled"])
def test_padding_that_should_be_hidden(spoilt: str) -> None:
    plain = {
        "hidden": rng.normal(size=(2, 3, 2)).astype("f"),
        "pooled": rng.normal(size=2).astype("f"),
        "past_out": np.zeros(3, np.float32),
    }
    got = {
        "hidden": np.concatenate([plain["hidden"], np.full((2, 2, 2), 7, "f")], axis=1),  # of the padding: anything
        "pooled": plain["pooled"].copy(),
        "past_out": np.ones(5, np.float32),
    }
    if spoilt:
        got[spoilt].reshape(-1)[0] += 1
    reference = Reference("m", "o", plain, {name: Origin(Kind.FLOAT) for name in plain})
    made = metamorphic.judge_padded(got, plain, reference, MASKED, "seq", "fp32")
    assert [output.name for output in made.failures] == [spoilt] * bool(spoilt)
    assert [output.name for output in made.outputs] == ["hidden", "pooled"]


def test_padding_of_which_an_output_lacks_places() -> None:
    plain = {"hidden": rng.normal(size=(2, 3, 2)).astype("f")}
    reference = Reference("m", "o", plain, {"hidden": Origin(Kind.FLOAT)})
    made = metamorphic.judge_padded({"hidden": plain["hidden"][:, :2]}, plain, reference, MASKED, "seq", "fp32")
    assert [output.failure for output in made.outputs] == [Failure.SHAPE]
