"""The oracle: what it runs, what it remembers, and when it says that it proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from harness.errors import SpecError, UnsupportedError
from harness.judge.compare import Failure, compare
from harness.judge.oracle import Oracle
from harness.judge.provenance import Kind
from harness.spec import ModelSpec, NetworkFunction, PlanFile, ToleranceOverride
from tests.judge.graphs import INT64, graph, node, spec, value, weight

pytestmark = pytest.mark.usefixtures("exports")

rng = np.random.default_rng(0)


def product(folder: Path, **fields: object) -> ModelSpec:
    model = graph(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [weight("w", rng.normal(size=(4, 4)).astype(np.float32))],
    )
    return spec(folder, model, **fields)


def given(n: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)}


def test_it_gives_what_the_model_gives(tmp_path: Path, oracle: Oracle) -> None:
    model = product(tmp_path, tolerances=(ToleranceOverride("fp16", 1, 1, "why"),), tags=("classifier",))
    inputs = given()
    reference = oracle.reference(model, inputs)
    weights = onnx.numpy_helper.to_array(onnx.load(model.source.path()).graph.initializer[0])
    np.testing.assert_allclose(reference.outputs["y"], inputs["x"] @ weights, rtol=1e-5, atol=1e-6)
    assert reference.model == "m"
    assert reference.origins["y"].kind is Kind.FLOAT
    assert reference.weak == {}
    assert reference.tolerances == model.tolerances
    assert reference.tags == ("classifier",)
    assert reference.oracle == oracle.description
    assert "optimizations off" in oracle.description


def test_the_same_question_is_asked_once(tmp_path: Path, oracle: Oracle) -> None:
    model = product(tmp_path)
    first = oracle.reference(model, given())
    assert oracle.reference(model, given()).outputs is first.outputs
    assert oracle.runs == 1
    oracle.reference(model, given(seed=1))
    oracle.reference(product(tmp_path, name="other"), given())  # other weights
    assert oracle.runs == 3


def test_what_a_model_declares_is_not_remembered_for_another(tmp_path: Path, oracle: Oracle) -> None:
    """Two specs of one file: its bytes are the same, what is said of it is not."""
    model = product(tmp_path)
    stricter = ModelSpec("strict", model.source, tolerances=(ToleranceOverride("*", 0, 0, "bits"),))
    oracle.reference(model, given())
    reference = oracle.reference(stricter, given())
    assert (reference.model, reference.tolerances, oracle.runs) == ("strict", stricter.tolerances, 1)


def test_it_forgets_when_memory_is_short(tmp_path: Path, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.judge.oracle.MEMORY", 100)  # bytes; an output is 48
    model = product(tmp_path)
    for seed in (0, 1, 2, 2, 0):
        oracle.reference(model, given(seed=seed))
    assert oracle.runs == 4


def emitting(folder: Path, contents: np.ndarray, **fields: object) -> ModelSpec:
    """``y = x * 0 + contents``: an input reaches it, and does nothing."""
    model = graph(
        [node("Mul", ["x", "zero"], ["nothing"]), node("Add", ["nothing", "c"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [weight("zero", np.float32(0)), weight("c", contents.astype(np.float32))],
    )
    return spec(folder, model, **fields)


WEAK = {
    "all its 12 elements are 0.001": np.full(4, 0.001),
    "nothing in it is larger than 2e-20": np.array([1e-20, 2e-20, 0, 0]),
    "3 of 12 elements are not finite": np.array([np.nan, 1, 2, 3]),
    "nothing in it is larger than 0": np.zeros(4),
}


@pytest.mark.parametrize("reason", WEAK)
def test_an_output_that_proves_little_is_said_so(reason: str, tmp_path: Path, oracle: Oracle) -> None:
    reference = oracle.reference(emitting(tmp_path, WEAK[reason]), given())
    assert reference.weak["y"].startswith(reason)
    assert compare(reference.outputs, reference, "fp32").failures[0].failure is Failure.WEAK_ORACLE


@pytest.mark.parametrize("tag", ["weak:y", "weak:*"])
def test_a_model_may_declare_that_an_output_is_weak(tag: str, tmp_path: Path, oracle: Oracle) -> None:
    reference = oracle.reference(emitting(tmp_path, np.zeros(4), tags=(tag,)), given())
    assert compare(reference.outputs, reference, "fp32").passed


def test_a_declaration_for_another_output_does_not_count(tmp_path: Path, oracle: Oracle) -> None:
    reference = oracle.reference(emitting(tmp_path, np.zeros(4), tags=("weak:z",)), given())
    assert not compare(reference.outputs, reference, "fp32").passed


def test_constants_and_integers_are_not_weak(tmp_path: Path, oracle: Oracle) -> None:
    model = graph(
        [node("Neg", ["c"], ["z"]), node("Add", ["n", "n"], ["m"]), node("Relu", ["x"], ["y"])],
        [value("x", [3, 4]), value("n", [2], INT64)],
        [value("y", [3, 4]), value("z", [2]), value("m", [2], INT64)],
        [weight("c", np.ones(2, np.float32))],
    )
    inputs = {**given(), "n": np.array([4, 4])}
    assert oracle.reference(spec(tmp_path, model), inputs).weak == {}


def test_nan_is_expected_where_the_inputs_have_it(tmp_path: Path, oracle: Oracle) -> None:
    inputs = given()
    inputs["x"][0, 0] = np.nan
    reference = oracle.reference(product(tmp_path), inputs)
    assert np.isnan(reference.outputs["y"]).any()
    assert reference.weak == {}


def test_a_selection_that_found_nothing_is_weak(tmp_path: Path, oracle: Oracle) -> None:
    model = graph(
        [node("Greater", ["x", "top"], ["b"]), node("NonZero", ["b"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", [2, None], INT64)],
        [weight("top", np.float32(99))],
    )
    assert "nothing was chosen" in oracle.reference(spec(tmp_path, model), given()).weak["y"]


def choosing(folder: Path) -> ModelSpec:
    model = graph(
        [node("Neg", ["x"], ["inside"]), node("TopK", ["inside", "k"], ["top", "y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 2], INT64)],
        [weight("k", np.array([2]))],
    )
    return spec(folder, model)


def test_what_was_selected_is_seen_although_it_is_no_output(tmp_path: Path, oracle: Oracle) -> None:
    inputs = given()
    reference = oracle.reference(choosing(tmp_path), inputs)
    assert list(reference.outputs) == ["y"]
    np.testing.assert_array_equal(reference.seen["inside"], -inputs["x"])
    assert compare(reference.outputs, reference, "fp16").passed
    wrong = {"y": 3 - reference.outputs["y"]}
    assert compare(wrong, reference, "fp16").failures[0].failure is Failure.SELECTION


def test_the_model_itself_is_left_as_it_is(tmp_path: Path, oracle: Oracle) -> None:
    model = choosing(tmp_path)
    before = model.source.path().read_bytes()
    oracle.reference(model, given())
    assert model.source.path().read_bytes() == before


@pytest.mark.parametrize("source", [PlanFile(Path("x.plan")), NetworkFunction("a:b")])
def test_without_onnx_there_is_no_oracle(source: object, oracle: Oracle) -> None:
    with pytest.raises(UnsupportedError, match=r"has no ONNX that another runtime could run .* golden outputs"):
        oracle.reference(ModelSpec("p", source), given())  # type: ignore[arg-type]


def test_a_model_that_the_runtime_refuses_has_no_oracle(tmp_path: Path, oracle: Oracle) -> None:
    """One with a plugin's operator: golden outputs can stand in."""
    inner = onnx.helper.make_graph(
        [node("Plugin", ["x"], ["y"], domain="mine")], "g", [value("x", [3, 4])], [value("y", [1])]
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    model = spec(tmp_path, onnx.helper.make_model(inner, opset_imports=opsets, ir_version=9))
    with pytest.raises(UnsupportedError, match=r"oracle for m: .* refuses the model: .*Plugin.*golden outputs"):
        oracle.reference(model, given())


def test_inputs_that_the_model_does_not_take_are_the_requests_fault(tmp_path: Path, oracle: Oracle) -> None:
    model = graph(
        [node("Gather", ["w", "i"], ["y"])], [value("i", [2], INT64)], [value("y", [2])], [weight("w", np.ones(3, "f"))]
    )
    with pytest.raises(SpecError, match=r"can't run the model on these inputs: .*out of data bounds.*input rules"):
        oracle.reference(spec(tmp_path, model), {"i": np.array([0, 7])})


def golden(folder: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> tuple[Path, Path]:
    np.savez(folder / "in.npz", **inputs)
    np.savez(folder / "out.npz", **outputs)
    return folder / "in.npz", folder / "out.npz"


def test_golden_outputs_are_the_reference(tmp_path: Path, oracle: Oracle) -> None:
    files = golden(tmp_path, given(), {"y": np.arange(12, dtype=np.float32).reshape(3, 4)})
    inputs, reference = oracle.golden(product(tmp_path, golden=files))
    np.testing.assert_array_equal(inputs["x"], given()["x"])
    assert reference.outputs["y"][2, 3] == 11
    assert reference.oracle == "golden outputs of out.npz"
    assert reference.origins["y"].kind is Kind.FLOAT


def test_golden_outputs_of_a_plan(tmp_path: Path, oracle: Oracle) -> None:
    files = golden(tmp_path, given(), {"y": np.arange(3), "z": np.arange(3, dtype=np.float32)})
    _, reference = oracle.golden(ModelSpec("p", PlanFile(tmp_path / "p.plan"), golden=files))
    assert {name: origin.kind for name, origin in reference.origins.items()} == {"y": Kind.EXACT, "z": Kind.FLOAT}


@pytest.mark.parametrize("outputs", [{"q": np.zeros(3)}, {}])
def test_golden_outputs_that_do_not_fit_are_refused(
    outputs: dict[str, np.ndarray], tmp_path: Path, oracle: Oracle
) -> None:
    files = golden(tmp_path, given(), outputs)
    with pytest.raises(SpecError, match=r"holds .*, the model gives .*: save each output by its name"):
        oracle.golden(product(tmp_path, golden=files))


def test_a_model_without_golden_outputs(tmp_path: Path, oracle: Oracle) -> None:
    with pytest.raises(SpecError, match="no golden outputs"):
        oracle.golden(product(tmp_path))
