"""Each kind of failure is found, and nothing else is; the message tells all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from harness.errors import ComparisonFailure
from harness.judge.compare import NARROWER, Comparison, Failure, compare
from harness.judge.oracle import Reference
from harness.judge.poison import poison
from harness.judge.provenance import Kind, Origin
from harness.judge.tolerance import Tolerance
from harness.spec import ToleranceOverride
from harness.spec.cell import Cell

WANT = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)


def reference(want: Mapping[str, np.ndarray] | np.ndarray = WANT, kind: Kind | None = None, **fields: Any) -> Reference:
    """With one output, ``y``, unless more are given; kinds go by type."""
    outputs = want if isinstance(want, Mapping) else {"y": want}
    origins = {
        name: Origin(kind or (Kind.FLOAT if array.dtype.kind == "f" else Kind.EXACT), depth=40)
        for name, array in outputs.items()
    }
    return Reference("net", "an oracle", outputs, fields.pop("origins", origins), **fields)


def judged(got: np.ndarray, want: np.ndarray = WANT, precision: str = "fp32", **options: Any) -> Comparison:
    return compare({"y": got}, reference(want), precision, **options)


def failure(comparison: Comparison) -> Failure | None:
    (output,) = comparison.outputs
    return output.failure


def test_equal_outputs_pass() -> None:
    comparison = judged(WANT.copy())
    assert comparison.passed
    figures = comparison.outputs[0].figures
    assert figures is not None
    assert (figures.max_abs, figures.max_ulp, figures.rmse, figures.snr) == (0, 0, 0, np.inf)
    assert figures.cosine == pytest.approx(1)


def test_outputs_within_the_tolerance_pass() -> None:
    assert judged(WANT * np.float32(1 + 1e-6)).passed
    assert judged(WANT + np.float32(1e-3), precision="fp16").passed


def test_a_missing_output_fails() -> None:
    comparison = compare({}, reference(), "fp32")
    assert failure(comparison) is Failure.MISSING


def test_an_extra_output_fails() -> None:
    comparison = compare({"y": WANT, "debug": WANT}, reference(), "fp32")
    assert [(o.name, o.failure) for o in comparison.failures] == [("debug", Failure.EXTRA)]


@pytest.mark.parametrize("shape", [(16, 8), (128,), (8, 16, 1), (7, 16)])
def test_a_reshaped_output_fails(shape: tuple[int, ...]) -> None:
    assert failure(judged(np.resize(WANT, shape))) is Failure.SHAPE


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_another_type_fails(dtype: str) -> None:
    comparison = judged(WANT.astype(dtype))
    assert failure(comparison) is Failure.TYPE
    assert comparison.outputs[0].detail == f"got {dtype}, expected float32"


def test_a_narrower_type_passes_where_the_backend_has_no_other() -> None:
    want = np.arange(8)
    comparison = judged(want.astype(np.int32), want, narrower=NARROWER["tensorrt"])
    assert comparison.passed
    assert comparison.outputs[0].note == "bound as int32 instead of int64"
    assert failure(judged(want.astype(np.int32), want, narrower=NARROWER["onnxruntime"])) is Failure.TYPE
    wide = WANT.astype(np.float64)
    assert judged(WANT, wide, narrower=NARROWER["tensorrt"]).passed


@pytest.mark.parametrize(("value", "dtype", "bound"), [(2**31, "int64", "int32"), (1e39, "float64", "float32")])
def test_a_value_that_does_not_fit_the_narrower_type_fails(value: float, dtype: str, bound: str) -> None:
    want = np.array([1, 2, value], dtype)
    with np.errstate(over="ignore"):
        comparison = judged(want.astype(bound), want, narrower=NARROWER["tensorrt"])
    assert failure(comparison) is Failure.DOES_NOT_FIT
    assert f"do not fit {bound}, which the engine binds for {dtype}" in comparison.outputs[0].detail


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "uint8", "bool"])
def test_unwritten_elements_fail(dtype: str) -> None:
    want = np.ones((4, 6), dtype)
    got = want.copy()
    poison(got[2])
    comparison = judged(got, want)
    assert failure(comparison) is Failure.UNWRITTEN
    assert comparison.outputs[0].wrong == 6
    assert comparison.outputs[0].where == "axis 0 at 2 of 4"


def test_an_integer_may_rightly_be_the_poison() -> None:
    want = np.full(4, 0xA5A5A5A5 - 2**32, np.int32)
    assert judged(want.copy(), want).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail_whatever_the_tolerance(value: float) -> None:
    got = WANT.copy()
    got[3, 5] = value
    wide = (ToleranceOverride("*", np.inf, np.inf, "anything goes"),)
    comparison = compare({"y": got}, reference(tolerances=wide), "fp32")
    assert failure(comparison) is Failure.NOT_FINITE
    assert comparison.outputs[0].worst[0].index == (3, 5)


@pytest.mark.parametrize(("want", "got"), [(np.nan, 1.0), (np.inf, 3e38), (np.inf, -np.inf), (np.nan, np.inf)])
def test_special_values_have_to_be_the_same(want: float, got: float) -> None:
    expected, actual = WANT.copy(), WANT.copy()
    expected[0, 0], actual[0, 0] = want, got
    assert failure(judged(expected.copy(), expected)) is None
    assert failure(judged(actual, expected)) is Failure.NOT_SPECIAL


def test_special_values_take_no_part_in_the_figures() -> None:
    want = WANT.copy()
    want[0, :4] = np.nan, np.inf, -np.inf, np.nan
    got = want + np.float32(1e-7)
    figures = judged(got, want).outputs[0].figures
    assert figures is not None
    assert 0 < figures.max_abs < 2e-7
    assert np.isfinite(figures.rmse)


def test_special_values_are_not_among_the_worst() -> None:
    want = np.array([np.nan, np.inf, 1.0], np.float32)
    assert [element.index for element in judged(want.copy(), want).outputs[0].worst] == [(2,)]


# What goes wrong in engines, and at which precision it has to show.
def rows_swapped(y: np.ndarray) -> np.ndarray:
    return y[[1, 0, *range(2, len(y))]]


def row_repeated(y: np.ndarray) -> np.ndarray:
    return np.concatenate([y[:1], y[:1], y[2:]])


def heads_swapped(y: np.ndarray) -> np.ndarray:
    return y.reshape(8, 4, 4)[:, [1, 0, 2, 3]].reshape(y.shape)


def one_element(y: np.ndarray) -> np.ndarray:
    wrong = y.copy()
    wrong[5, 9] += 0.05 * np.sign(wrong[5, 9])
    return wrong


def stale(y: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)


PLANTED = {
    "rows swapped": rows_swapped,
    "row repeated": row_repeated,
    "heads swapped": heads_swapped,
    "one element": one_element,
    "one percent": lambda y: y * np.float32(1.01),
    "zeros": np.zeros_like,
    "transposed": lambda y: np.ascontiguousarray(y.T).reshape(y.shape),
    "shifted": lambda y: np.roll(y, 1, axis=1),
    "stale": stale,
    "bias lost": lambda y: y - np.float32(0.1),
}


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "fp16-weak"])
@pytest.mark.parametrize("fault", PLANTED)
def test_planted_faults_are_found_at_every_precision(fault: str, precision: str) -> None:
    """At the depth of a transformer of two layers."""
    comparison = judged(PLANTED[fault](WANT), precision=precision)
    assert failure(comparison) is Failure.MISMATCH
    assert comparison.outputs[0].wrong > 0


def test_integers_are_exact() -> None:
    want = np.arange(24).reshape(4, 6)
    got = want.copy()
    got[1, 2] += 1
    comparison = judged(got, want, precision="fp16")
    assert failure(comparison) is Failure.MISMATCH
    assert comparison.outputs[0].worst[0].index == (1, 2)


def test_integers_beyond_what_a_double_counts_are_exact() -> None:
    want = np.array([2**53 + 1])
    assert failure(judged(want - 1, want)) is Failure.MISMATCH


def test_bits() -> None:
    every = Tolerance(0, 0, "graph replay")
    assert judged(WANT.copy(), bitwise=every).passed
    assert failure(judged(np.nextafter(WANT, np.float32(9)), bitwise=every)) is Failure.MISMATCH
    zeros = np.zeros(4, np.float32)
    assert failure(judged(-zeros, zeros, bitwise=every)) is Failure.MISMATCH
    nan = np.array([np.nan], np.float32)
    assert judged(nan.copy(), nan, bitwise=every).passed


def test_a_weak_oracle_never_passes_silently() -> None:
    weak = reference(weak={"y": "all its 128 elements are 1"})
    comparison = compare({"y": WANT}, weak, "fp32")
    assert failure(comparison) is Failure.WEAK_ORACLE
    assert comparison.outputs[0].detail == "all its 128 elements are 1"


def test_a_weak_oracle_is_noted_for_special_inputs() -> None:
    comparison = compare({"y": WANT}, reference(weak={"y": "constant"}), "fp32", weak="note")
    assert comparison.passed
    assert comparison.outputs[0].note == "weak oracle: constant"


def test_a_weakness_that_the_model_admits_passes_and_is_noted() -> None:
    comparison = compare({"y": WANT}, reference(admitted={"y": "constant"}), "fp32")
    assert comparison.passed
    assert comparison.outputs[0].note == "weak oracle: constant"
    assert not compare({"y": WANT + 1}, reference(admitted={"y": "constant"}), "fp32").passed


def test_a_real_failure_counts_before_a_weak_oracle() -> None:
    comparison = compare({"y": WANT + 1}, reference(weak={"y": "constant"}), "fp32")
    assert failure(comparison) is Failure.MISMATCH


def test_an_oracle_that_zeros_would_satisfy_is_weak() -> None:
    """A tolerance set by hand, wider than the output is large."""
    wide = (ToleranceOverride("*", 10.0, 0.0, "why not"),)
    comparison = compare({"y": WANT}, reference(tolerances=wide), "fp32")
    assert failure(comparison) is Failure.WEAK_ORACLE
    assert "zeros would pass" in comparison.outputs[0].detail


def test_special_inputs_have_some_slack() -> None:
    got = WANT + np.float32(3e-2)
    assert failure(judged(got, precision="fp16")) is Failure.MISMATCH
    assert judged(got, precision="fp16", weak="note").passed
    assert failure(judged(got, precision="fp16", weak="ignore")) is Failure.MISMATCH


@pytest.mark.parametrize(("precision", "least"), [("fp32", 2.0**-126), ("fp16", 2.0**-14)])
def test_subnormal_numbers_may_be_flushed_at_special_inputs(precision: str, least: float) -> None:
    want = np.full(8, least / 2, np.float32)
    assert judged(np.zeros(8, np.float32), want, precision=precision, weak="note").passed
    assert not judged(np.zeros(8, np.float32), want, precision=precision, weak="ignore").passed


def test_overrides_are_used_and_shown() -> None:
    by_hand = (ToleranceOverride("fp16", 0.5, 0.1, "a softmax of logits of 40", "y"),)
    comparison = compare({"y": WANT + 0.4}, reference(tolerances=by_hand), "fp16")
    assert comparison.passed
    bounds = comparison.outputs[0].tolerance
    assert bounds is not None
    assert bounds.source == "set by hand for y at fp16: a softmax of logits of 40"


def test_figures() -> None:
    want = np.array([1.0, -2.0, 0.0, 4.0], np.float32)
    got = np.array([1.5, -2.0, 1.0, 4.0], np.float32)
    figures = judged(got, want).outputs[0].figures
    assert figures is not None
    assert figures.max_abs == 1.0
    assert figures.mean_abs == 1.5 / 4
    assert figures.max_rel == 0.5
    assert figures.mean_rel == pytest.approx(0.5 / 3)
    assert figures.rmse == pytest.approx(np.sqrt(1.25 / 4))
    assert figures.cosine == pytest.approx((1.5 + 4 + 16) / np.sqrt((2.25 + 4 + 1 + 16) * 21))
    assert figures.snr == pytest.approx(10 * np.log10(21 / 1.25))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_ulps_count_representable_numbers(dtype: str) -> None:
    want = np.array([1.0, -1.0, 1e-3, 0.0, 2.0], dtype)
    got = want.copy()
    for _ in range(3):
        got = np.nextafter(got, np.array(100, dtype), dtype=dtype)
    figures = judged(got, want).outputs[0].figures
    assert figures is not None
    assert (figures.max_ulp, figures.mean_ulp) == (3, 3)


def test_ulps_across_zero() -> None:
    tiny = np.float32(1e-45)  # the smallest denormal
    figures = judged(np.array([tiny, 1], np.float32), np.array([-tiny, 1], np.float32)).outputs[0].figures
    assert figures is not None
    assert figures.max_ulp == 2


def test_figures_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    got = WANT * np.float32(1.01)
    whole = judged(got).outputs[0]
    monkeypatch.setattr("harness.judge.elements.CHUNK", 7)
    parts = judged(got).outputs[0]
    assert (whole.worst, whole.wrong, whole.where) == (parts.worst, parts.wrong, parts.where)
    assert whole.figures is not None
    assert parts.figures is not None
    assert whole.figures.rmse == pytest.approx(parts.figures.rmse)


def test_classifiers_report_how_often_the_best_agree() -> None:
    got = WANT.copy()
    got[0, [WANT[0].argmin(), WANT[0].argmax()]] = 9, -9
    figures = compare({"y": got}, reference(tags=("classifier",)), "fp32").outputs[0].figures
    assert figures is not None
    assert figures.top == {1: 7 / 8, 5: 7 / 8}


def test_the_worst_elements_come_first() -> None:
    got = WANT.copy()
    got[2, 3] += 0.5
    got[6, 1] += 2
    worst = judged(got).outputs[0].worst
    assert [element.index for element in worst[:2]] == [(6, 1), (2, 3)]
    assert worst[0].excess > worst[1].excess > 1


def test_the_comparison_names_its_worst_output() -> None:
    near, far = WANT * np.float32(1 + 2e-6), WANT * np.float32(1 + 4e-6)
    assert compare({"a": near, "b": far}, reference({"a": WANT, "b": WANT}), "fp32").worst.name == "b"
    assert compare({"a": WANT + 1, "b": far}, reference({"a": WANT, "b": WANT}), "fp32").worst.name == "a"


def test_scalars_and_empty_outputs() -> None:
    scalar = np.array(2.0, np.float32)
    assert judged(scalar.copy(), scalar).passed
    assert failure(judged(scalar + 1, scalar)) is Failure.MISMATCH
    empty = np.zeros((0, 3), np.float32)
    assert judged(empty.copy(), empty).passed


def test_a_comparison_is_plain_json() -> None:
    comparison = judged(WANT * np.float32(2))
    stored = json.loads(json.dumps(comparison.as_json(), allow_nan=False))
    assert stored["passed"] is False
    (output,) = stored["outputs"]
    assert output["failure"] == "values differ"
    assert output["tolerance"]["source"].startswith("fp32: ")
    assert json.loads(json.dumps(judged(WANT).as_json(), allow_nan=False))["outputs"][0]["figures"]["snr"] == "inf"


CELL = Cell("test_matches_oracle", "net", "fp16", point="opt", backend="tensorrt")


def test_passing_raises_nothing() -> None:
    judged(WANT).require(CELL, "pytest")


def test_the_message_tells_all_of_it() -> None:
    with pytest.raises(ComparisonFailure) as caught:
        judged(rows_swapped(WANT), precision="fp16").require(CELL, "pytest -k net-fp16-opt")
    told = str(caught.value).splitlines()
    assert told[0] == "net at fp16 at opt on tensorrt: values differ (1 of 1 outputs)"
    assert told[1].startswith("  output 'y': values differ: ")
    assert told[2] == "    got        float32 [8, 16], off in axis 0 at 0, 1 of 8"
    assert told[3] == "    expected   float32 [8, 16] from an oracle"
    assert told[4].startswith("    tolerance  |got - want| <= 0.00")
    assert "fp16: 3 x unit 0.000488 x sqrt(40 roundings) x magnitude" in told[4]
    assert told[5].startswith("    errors     abs max ")
    assert told[6].startswith("    worst      [")
    assert told[-1] == "  repeat       pytest -k net-fp16-opt"
    assert caught.value.comparison.failures[0].name == "y"
    assert isinstance(caught.value, AssertionError)


def test_the_place_may_be_said_in_words() -> None:
    with pytest.raises(ComparisonFailure, match=r"^my engine: values differ"):
        judged(WANT + 1).require("my engine", "python repeat.py")


def test_a_failure_after_a_choice_says_so() -> None:
    origins = {"y": Origin(Kind.FLOAT, follows=("TopK 'best'",))}
    comparison = compare({"y": WANT + 1}, reference(origins=origins), "fp16")
    assert comparison.outputs[0].detail.endswith("it rests on what TopK 'best' chose by comparing floats")


@pytest.mark.parametrize("wrong", [0.0, 1e-3, np.nan, np.inf])
def test_brief_says_what_is_said_at_length(wrong: float) -> None:
    """Figures are left out of what passes; a failure is told in full."""
    want = np.linspace(-3, 3, 4096, dtype=np.float32).reshape(8, 512)
    got = want * np.float32(1 + 2.0**-22)
    got[3, 7] += np.float32(wrong)
    reference = Reference("m", "o", {"y": want}, {"y": Origin(Kind.FLOAT)})
    brief, full = (compare({"y": got}, reference, "fp32", brief=brief) for brief in (True, False))
    assert brief.passed == full.passed == (wrong == 0)
    if brief.passed:
        assert brief.outputs[0].figures is None
        assert brief.outputs[0].tolerance == full.outputs[0].tolerance
        assert brief.outputs[0].excess == pytest.approx(full.outputs[0].excess)
    else:
        assert str(brief.as_json()) == str(full.as_json())


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e-9])
def test_brief_passes_nothing_that_is_judged_at_length(value: float) -> None:
    """What is not finite, constant, or smaller than its tolerance is no plain pass."""
    want = np.full((4, 4), value, np.float32)
    want[0, 0] = 1e-12
    override = (ToleranceOverride("fp32", 1e-6, 0.0, "wide"),)
    reference = Reference("m", "o", {"y": want}, {"y": Origin(Kind.FLOAT)}, tolerances=override)
    brief, full = (compare({"y": want.copy()}, reference, "fp32", brief=brief) for brief in (True, False))
    assert str(brief.as_json()) == str(full.as_json())
