"""Every test of suites/refit catches the misbehaviour it is there for, and none where there is none."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.errors import RefitError, RunError
from harness.ledger.records import Record
from harness.runtime.backend.fake import FakeEngine, FakeSession
from tests.pytest_plugin.parts import ROOT, complaints

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]

REFIT = ROOT / "suites" / "refit"
START = "the run before any refit"

CAUGHT = [  # fault, model, test, and words of the detector
    ("refit_ignored", "mlp", "test_refit_every_weight", "values differ"),
    ("refit_first", "mlp", "test_refit_every_weight", "values differ"),
    ("refit_late", "mlp", "test_refit_every_weight", "values differ"),
    ("refit_drifts", "mlp", "test_refit_every_weight", START),
    ("other_rebuild", "mlp", "test_refit_every_weight", "an engine built of the changed model"),
    ("refit_deaf", "mlp", "test_refit_one_weight", "values differ"),
    ("refit_drifts", "mlp", "test_refit_one_weight", START),
    ("roles_swapped", "mlp", "test_refit_by_layer_and_role", "values differ"),
    ("roles_swapped", "norm_batch", "test_refit_by_layer_and_role", "values differ"),
    ("refit_ignored", "mlp", "test_refit_by_layer_and_role", "values differ"),
    ("refit_drifts", "mlp", "test_refit_by_layer_and_role", START),
    ("refit_deaf", "mlp", "test_refit_lists", "weights 'head.bias' are listed and were set: the outputs are as before"),
    ("refit_deaf", "norm_batch", "test_refit_lists", "SHIFT of layer 'BatchNormalization_0' is listed and was set"),
    (
        "refit_deaf",
        "norm_batch",
        "test_refit_lists",
        "weights 'tmp_weight_0' are listed and were set: the outputs are as",
    ),
    ("list_forgets", "mlp", "test_refit_lists", "head.bias is not listed, and can be set all the same"),
    (
        "missing_forgets",
        "norm_batch",
        "test_refit_lists",
        "listed, and refused: refit: these weights must be given, too",
    ),
    ("refit_drifts", "mlp", "test_refit_lists", "all is set back, and the outputs are not those of the start"),
    ("refits_anything", "mlp", "test_refit_refused", "one element more: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "one element less, beside other weights that fit: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "no element: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "integers: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "a name that there is not: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "a name that there is not, beside right ones: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "a layer that there is not: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "a role that the layer has not: it was taken"),
    ("refits_anything", "mlp", "test_refit_refused", "a role that there is not: it was taken"),
    ("refusal_kept", "mlp", "test_refit_refused", "beside other weights that fit: the outputs are not as before"),
    ("refusal_mute", "mlp", "test_refit_refused", "one element more: refused, and 'stem.weight' is not named"),
    (
        "refusal_mute",
        "resnet",
        "test_refit_refused",
        "conv1.weight without tmp_weight: refused, and 'tmp_weight' is not",
    ),
    ("refits_anything", "mlp", "test_refit_of_another_float", "values differ"),
    ("nan_kept", "mlp", "test_refit_of_nan", START),
    ("refit_ignored", "mlp", "test_refit_of_nan", "are NaN, and logits hold none"),
    ("borrowed_weights", "mlp", "test_refit_from_memory_that_is_gone", "not finite"),
    ("refits_anything", "mlp", "test_weights_are_fixed_without_refit", "DID NOT RAISE"),
    ("stale_refit", "mlp", "test_refit_under_open_sessions", "values differ"),
    ("refit_ignored", "mlp", "test_refit_under_open_sessions", "values differ"),
    ("refit_drifts", "mlp", "test_refit_under_open_sessions", START),
    (
        "stale_kept_graph",
        "mlp",
        "test_refit_under_a_graph",
        "was captured before the refit, and replays the old weights",
    ),
    ("refit_drifts", "mlp", "test_refit_under_a_graph", START),
    ("async_late", "mlp", "test_refit_by_stream", "values differ"),
    ("refit_drifts", "mlp", "test_refit_from_device_memory", START),
    ("refit_ignored", "mlp", "test_refit_from_device_memory", "values differ"),
    ("parser_forgets", "mlp", "test_refit_from_a_file", "values differ"),
    ("refit_drifts", "mlp", "test_refit_from_a_file", START),
    ("marks_all", "mlp", "test_refit_of_marked_weights", "not marked, and listed"),
    ("list_forgets", "mlp", "test_refit_of_marked_weights", "marked: stem.weight, head.weight; listed: stem.weight"),
    ("refit_first", "mlp", "test_refit_of_marked_weights", "values differ"),
    ("refit_drifts", "mlp", "test_refit_of_marked_weights", START),
    ("strips_nothing", "mlp", "test_refit_of_a_stripped_plan", "bytes smaller without"),
    ("refit_first", "mlp", "test_refit_of_a_stripped_plan", "values differ"),
    ("imprecise", "mlp", "test_refit_costs", "values differ"),
    ("other_rebuild", "mlp", "test_refit_costs", "the engine without REFIT"),
]


@pytest.fixture(autouse=True)
def _no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRT_HARNESS_FAKE", "")


def run(project: pytest.Pytester, suite: object, fault: str, model: str, *arguments: str) -> pytest.RunResult:
    # None of these faults takes its process along, so that no host has to be started for each of them.
    asked = ("--trt-in-process", f"--trt-backend=fake{':' * bool(fault)}{fault}", f"--trt-model={model}")
    place = (f"--rootdir={project.path}", "-c", "tox.ini")  # this project's conftest.py does not hold there
    return project.runpytest_inprocess(suite, *place, *asked, "--trt-precision=fp32", *arguments)


def of(test: str) -> str:
    (file,) = (file for file in REFIT.glob("test_*.py") if f"def {test}(" in file.read_text())
    return f"{file}::{test}"


@pytest.mark.parametrize(("fault", "model", "test", "words"), CAUGHT)
def test_a_fault_is_caught(
    project: pytest.Pytester, records: Records, fault: str, model: str, test: str, words: str
) -> None:
    result = run(project, of(test), fault, model)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed = [record for record in records() if record.verdict == "failed"]
    assert {record.cell.test for record in failed} == {test}
    assert words in complaints(records())


# What no fault of the fake's is needed for: one method of it that is another.


def again(method: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda self, *given, **named: change(method(self, *given, **named))


def refusing(method: Callable[..., Any], change: Callable[[RefitError], RefitError]) -> Callable[..., Any]:
    def changed(self: Any, *given: Any, **named: Any) -> Any:
        try:
            return method(self, *given, **named)
        except RefitError as error:
            raise change(error) from None

    return changed


def forgetful(self: FakeEngine, *given: Any, **named: Any) -> Any:
    """A refit reaches open sessions, and the next one that is opened is back at the first weights."""
    first = self.evaluator
    REFITS[0](self, *given, **named)
    self.evaluator = first


REFITS = [FakeEngine.refit]
REFIT_FROM, RUN, WEIGHTS = FakeEngine.refit_from, FakeSession.run, FakeEngine.weights


def unless_refused(refused: Callable[..., None]) -> Callable[..., None]:
    """A refit, and ``refused(engine, weights, error)`` in the place of its refusal."""

    def refit(self: FakeEngine, weights: Any, **named: Any) -> None:
        try:
            REFITS[0](self, weights, **named)
        except RefitError as error:
            refused(self, weights, error)

    return refit


def sulking(self: FakeEngine, weights: Any, **named: Any) -> None:
    """Once a refit was refused none has any effect."""
    before = {of: of.evaluator for of in (self, *self.sessions)}
    unless_refused(upset)(self, weights, **named)
    if vars(self).get("sulks"):
        for of, evaluator in before.items():
            of.evaluator = evaluator


def upset(self: FakeEngine, _: Any, error: RefitError) -> None:
    vars(self)["sulks"] = True
    raise error


def spoiling(self: FakeEngine, _: Any, error: RefitError) -> None:
    """A refusal that leaves every output wrong."""
    self.off = True
    raise error


def kept_as_floats(self: FakeEngine, weights: Any, error: RefitError) -> None:
    """Refused, and taken all the same."""
    REFITS[0](self, {name: array.astype(np.float32) for name, array in weights.items()})
    raise error


def once(self: FakeEngine, weights: Any, **named: Any) -> None:
    """Only the first refit of an engine has any effect."""
    if not vars(self).get("refitted"):
        REFITS[0](self, weights, **named)
        vars(self)["refitted"] = True


def spoilt_by_the_parser(self: FakeEngine, model: str) -> None:
    try:
        REFIT_FROM(self, model)
    except RefitError:
        self.off = True
        raise


def off(which: Callable[[bool, bool], bool], factor: float) -> Callable[..., Any]:
    """Runs of which the outputs are wrong by a ``factor``: ``which(graph, whether one refit was, and no more)``."""

    def run(self: FakeSession, inputs: Any, *, graph: bool = False, omit: str = "") -> Any:
        outputs = RUN(self, inputs, graph=graph, omit=omit)
        if which(graph, refits_of(self) == 1):
            return {name: (array * np.float32(factor)).astype(array.dtype) for name, array in outputs.items()}
        return outputs

    return run


def refits_of(session: FakeSession) -> int:
    """How often the engine was refitted, of a session that has run after each."""
    seen = SEEN.setdefault(session._engine, [])
    if session.evaluator not in seen:
        seen.append(session.evaluator)
    return len(seen) - 1


SEEN: weakref.WeakKeyDictionary[FakeEngine, list[Any]] = weakref.WeakKeyDictionary()  # what engines computed with


@pytest.mark.parametrize(
    ("method", "other", "test", "words"),
    [
        (
            "weights",
            again(FakeEngine.weights, lambda found: replace(found, names=(*found.names, found.names[0]))),
            "test_refit_lists",
            "names that are listed more than once: stem.weight",
        ),
        (
            "weights",
            again(FakeEngine.weights, lambda found: replace(found, places=found.places * 2)),
            "test_refit_lists",
            "places that are listed more than once: ('head.bias', 'CONSTANT')",
        ),
        (
            "weights",
            lambda self, given=None, *, layers=None: (
                FAKE_WEIGHTS(self, given, layers=layers)
                if given or layers
                else replace(FAKE_WEIGHTS(self), missing=("stem.weight",))
            ),
            "test_refit_lists",
            "nothing was given yet, and these are missing: ('stem.weight',)",
        ),
        (
            "weights",
            again(FakeEngine.weights, lambda found: replace(found, missing=("who?",))),
            "test_refit_one_weight",
            "the engine asks for weights that are not in the model's file: ['who?']",
        ),
        (
            "weights",
            lambda self, given=None, *, layers=None: (
                WEIGHTS(self, given, layers=layers)
                if given or layers
                else replace(WEIGHTS(self), missing_places=(("stem", "KERNEL"),))
            ),
            "test_refit_lists",
            "nothing was given yet, and these are missing: (('stem', 'KERNEL'),)",
        ),
        ("refit", forgetful, "test_refit_under_open_sessions", "the session that had run before the refit"),
        ("refit", sulking, "test_refit_refused", "values differ"),
        ("refit", unless_refused(kept_as_floats), "test_refit_of_another_float", START),
        ("refit", unless_refused(spoiling), "test_weights_are_fixed_without_refit", "from the run before"),
        ("refit", unless_refused(lambda *_: None), "test_refit_of_marked_weights", "DID NOT RAISE"),
        ("refit", once, "test_refit_of_a_stripped_plan", "values differ"),
        ("refit_from", spoilt_by_the_parser, "test_refit_from_a_file", START),
        ("run", off(lambda graph, _: graph, 1 + 2**-20), "test_refit_under_a_graph", START),
        ("run", off(lambda graph, changed: graph and changed, 2), "test_refit_under_a_graph", "values differ"),
        ("run", off(lambda graph, changed: changed and not graph, 2), "test_refit_under_a_graph", "values differ"),
        (
            "refit_from",
            refusing(FakeEngine.refit_from, lambda _: RefitError("no")),
            "test_refit_from_a_file",
            "Regex pattern did not match",
        ),
    ],
)
def test_another_method_is_caught(
    project: pytest.Pytester,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    other: Any,
    test: str,
    words: str,
) -> None:
    monkeypatch.setattr(FakeSession if method == "run" else FakeEngine, method, other)
    result = run(project, of(test), "", "mlp")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert words in complaints(records())


FAKE_WEIGHTS = FakeEngine.weights


def dying(method: Callable[..., Any]) -> Callable[..., Any]:
    """Where it would refuse, its process dies."""
    return refusing(method, lambda error: RefitError(f"{error.message} (dead)", crash="signal 11 (SIGSEGV)"))


@pytest.mark.parametrize(
    ("fault", "method", "test", "words"),
    [
        ("", "refit", "test_refit_refused", "one element more: not refused: signal 11 (SIGSEGV)"),
        ("", "refit", "test_refit_of_another_float", "(dead)"),
        ("nan_kept", "refit", "test_refit_of_nan", "(dead)"),
        ("", "refit", "test_weights_are_fixed_without_refit", "(dead)"),
        ("", "refit_from", "test_refit_from_a_file", "(dead)"),
    ],
)
def test_a_crash_is_no_refusal(
    project: pytest.Pytester,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    method: str,
    test: str,
    words: str,
) -> None:
    monkeypatch.setattr(FakeEngine, method, dying(getattr(FakeEngine, method)))
    assert run(project, of(test), fault, "mlp").ret == pytest.ExitCode.TESTS_FAILED
    assert words in complaints(records())


def test_weights_that_are_not_listed_have_to_be_unknown(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    refit = FakeEngine.refit

    def busy(self: FakeEngine, weights: Any, **named: Any) -> None:
        if "head.bias" in weights:
            raise RefitError("not today")
        refit(self, weights, **named)

    monkeypatch.setattr(FakeEngine, "refit", busy)
    result = run(project, of("test_refit_lists"), "list_forgets", "mlp")
    assert "head.bias is not listed, and refused as if it were there: not today" in result.stdout.str()


def test_a_stripped_plan_that_misses_nothing_is_caught(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    weights = FakeEngine.weights
    monkeypatch.setattr(FakeEngine, "weights", again(weights, lambda found: replace(found, missing=())))
    result = run(project, of("test_refit_of_a_stripped_plan"), "", "mlp")
    assert "the plan holds no weights, and these are not missing: head.bias" in result.stdout.str()


def test_a_weight_that_does_not_matter_is_no_failure(project: pytest.Pytester, records: Records):
    """The oracle is asked, and does not see it either."""
    project.makepyfile(
        idle="""
        import numpy as np, onnx
        from onnx import helper, numpy_helper, TensorProto
        from harness.spec import ModelSpec, OnnxFile, Profile
        from pathlib import Path

        def pytest_trt_models(config):
            w = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32), "w")
            idle = numpy_helper.from_array(np.linspace(1, 2, 4, dtype=np.float32), "idle")
            zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
            nodes = [
                helper.make_node("MatMul", ["x", "w"], ["a"]),
                helper.make_node("Mul", ["idle", "zero"], ["b"]),
                helper.make_node("Add", ["a", "b"], ["y"]),
            ]
            value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])
            graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], [w, idle, zero])
            path = Path(config.rootpath, "idle.onnx")
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
            return [ModelSpec("idle", OnnxFile(path), profiles=(Profile.of({"n": 2}),))]
        """
    )
    project.syspathinsert()
    result = run(project, of("test_refit_lists"), "", "idle", "-p", "idle")
    assert result.ret == 0
    (record,) = records()
    assert record.facts["too_small_to_see"] == ["idle"]


BRANCH = """
import onnx
from pathlib import Path
from harness.spec import ModelSpec, OnnxFile, Profile

def pytest_trt_models(config):
    return [model(config, "last_then", "b", "a"), model(config, "last_else", "a", "b")]

def model(config, name, *order):
    tensors = {"a": "float[4] a = {1, 2, 3, 4}", "b": "float[4] b = {2, 3, 5, 7}"}
    path = Path(config.rootpath, f"{name}.onnx")
    onnx.save(onnx.parser.parse_model('''
        <ir_version: 8, opset_import: ["": 17]>
        branch (float[n, 4] x, bool flag) => (float[n, 4] y) <''' + ", ".join(tensors[one] for one in order) + '''> {
            y = If (flag) <
                then_branch = yes () => (float[n, 4] z) { z = Mul (x, a) },
                else_branch = no () => (float[n, 4] z) { z = Mul (x, b) }
            >
        }'''), path)
    return ModelSpec(name, OnnxFile(path), profiles=(Profile.of({"n": 2}),))
"""


def test_a_weight_of_a_branch_is_seen_with_inputs_that_take_it(project: pytest.Pytester, records: Records):
    """With the first inputs one of the two weights of a branch does not count, whichever that is."""
    project.makepyfile(branch=BRANCH)
    project.syspathinsert()
    assert run(project, of("test_refit_lists"), "", "last_then,last_else", "-p", "branch").ret == 0
    assert [record.facts["too_small_to_see"] for record in records()] == [[], []]
    result = run(project, of("test_refit_lists"), "refit_deaf", "last_then,last_else", "-p", "branch")
    result.stdout.fnmatch_lines(["*are listed and were set: of inputs ? the old ones show*"])
    result.stdout.fnmatch_lines(["*are listed and were set: the outputs are as before*"])
    assert {record.verdict for record in records()} == {"failed"}


@pytest.mark.parametrize("fault", ["", "refit_deaf"])
def test_a_weight_that_the_engine_calls_after_its_place(
    project: pytest.Pytester, records: Records, monkeypatch: pytest.MonkeyPatch, fault: str
):
    """As 8.6 calls the bias of a convolution between Q/DQ. It comes last, where the fault leaves it as it was."""
    from harness.runtime.backend import fake

    def renamed(model: Any) -> Any:
        changed = parsed(model)
        (bias,) = (tensor for tensor in changed.graph.initializer if tensor.name == "conv1.bias")
        changed.graph.initializer.append(bias)
        changed.graph.initializer.remove(bias)
        changed.graph.initializer[-1].name = changed.graph.node[0].input[2] = "Conv_0 BIAS"
        return changed

    parsed = fake.parsed
    monkeypatch.setattr(fake, "parsed", renamed)
    tests = [of("test_refit_lists"), of("test_refit_by_layer_and_role")]
    results = [run(project, test, fault, "conv") for test in tests]
    assert [result.ret for result in results] == [bool(fault)] * 2
    (record,) = records()
    assert record.verdict == ("failed" if fault else "passed")
    told = results[0].stdout.str()
    assert ("weights 'Conv_0 BIAS' are listed and were set: the outputs are as before" in told) == bool(fault)
    if not fault:
        run(project, of("test_refit_lists"), "", "conv")
        (record,) = records()
        assert (record.facts["by_place_alone"], record.facts["not_listed"]) == (["conv1.bias"], [])
        assert record.facts["of_unknown_origin"] == []


def test_what_one_refusal_left_behind_is_not_told_of_the_next(project: pytest.Pytester):
    told = run(project, of("test_refit_refused"), "refusal_kept", "mlp").stdout.str()
    assert "a name that there is not, beside right ones: the outputs are not as before" in told
    assert "a layer that there is not: the outputs are not as before" not in told


def test_a_kept_graph_may_be_refused(project: pytest.Pytester, records: Records, monkeypatch: pytest.MonkeyPatch):
    run_ = FakeSession.run
    refit = FakeEngine.refit

    def kept(self: FakeEngine, *given: Any, keep_graphs: bool = False, **named: Any) -> None:
        refit(self, *given, keep_graphs=keep_graphs, **named)
        for session in self.sessions if keep_graphs else ():
            session.invalid = True  # type: ignore[attr-defined]

    def refused(self: Any, inputs: Any, *, graph: bool = False, omit: str = "") -> Any:
        if graph and vars(self).pop("invalid", False):
            raise RunError("this graph was captured before a refit")
        return run_(self, inputs, graph=graph, omit=omit)

    monkeypatch.setattr(FakeEngine, "refit", kept)
    monkeypatch.setattr(FakeSession, "run", refused)
    assert run(project, of("test_refit_under_a_graph"), "", "mlp").ret == 0
    told = {record.cell.variant: record.facts["replay"] for record in records()}
    assert told["dropped"] == "of the new weights"
    assert told["kept"].startswith("refused: this graph was captured before a refit")
    monkeypatch.setattr(FakeSession, "run", lambda *given, **named: dead(refused, *given, **named))
    assert run(project, of("test_refit_under_a_graph"), "", "mlp").ret == pytest.ExitCode.TESTS_FAILED
    assert {record.cell.variant: record.verdict for record in records()} == {"dropped": "passed", "kept": "failed"}
    assert "this graph was captured before a refit" in complaints(records())


def dead(run_: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        return run_(*given, **named)
    except RunError as error:
        raise RunError(str(error), crash="signal 11 (SIGSEGV)") from None


def test_a_graph_that_a_refit_drops_may_not_be_refused(
    project: pytest.Pytester, records: Records, monkeypatch: pytest.MonkeyPatch
):
    """Our sessions capture it again."""

    def refused(self: FakeSession, inputs: Any, *, graph: bool = False, omit: str = "") -> Any:
        if refits_of(self) == 1 and graph:
            raise RunError("no graph after a refit")
        return RUN(self, inputs, graph=graph, omit=omit)

    monkeypatch.setattr(FakeSession, "run", refused)
    run(project, of("test_refit_under_a_graph"), "", "mlp")
    assert {record.cell.variant: record.verdict for record in records()} == {"dropped": "failed", "kept": "passed"}
    assert "no graph after a refit" in complaints(records())


def test_an_honest_backend_passes_everything(project: pytest.Pytester, records: Records):
    result = run(project, REFIT, "", "mlp,conv,norm_batch,half", "--trt-precision=fp32,fp16")
    assert result.ret == 0
    found = records()
    assert {record.verdict for record in found} == {"passed"}
    assert {record.cell.test for record in found} == {test for *_, test, _ in CAUGHT}
    facts = {record.cell.test: record.facts for record in found if record.cell.model == "mlp"}
    assert {"refit_seconds", "rebuild_seconds"} <= facts["test_refit_every_weight"].keys()
    assert facts["test_refit_costs"]["host_side_slowdown"] > 0
    assert facts["test_refit_lists"]["listed"] == {"names": 10, "places": 10}


def test_a_model_without_weights_is_not_covered(project: pytest.Pytester, records: Records):
    """One of which nobody knows; those of the zoo make no cell."""
    project.makepyfile(
        weightless="""
        import dataclasses
        from harness.spec.catalog import load

        def pytest_trt_models(config):
            return [dataclasses.replace(load()["unary"], name="weightless")]
        """
    )
    project.syspathinsert()
    run(project, REFIT, "", "weightless,unary", "-p", "weightless")
    found = records()
    assert {(record.cell.model, record.verdict) for record in found} == {("weightless", "not_covered")}
    assert {record.message for record in found} == {"the model has no weights that a refit may change"}


def test_models_of_the_zoo_that_are_left_out_have_no_weights():
    from harness.judge.weights import weights
    from harness.spec.catalog import load
    from suites.numerics.which import explored
    from suites.refit.which import REBUILT_AT_FP16, WITHOUT

    zoo = {model.name: model for model in load(()) if model.size == "tiny" and explored(model)}
    assert {name for name, model in zoo.items() if not weights(model)} == WITHOUT
    assert zoo.keys() >= REBUILT_AT_FP16


def test_no_id_is_the_beginning_of_another(project: pytest.Pytester):
    import itertools

    listed = run(project, REFIT, "", "*", "--trt-backend=tensorrt,tensorrt_rtx,fake", "--collect-only", "-q").outlines
    ids = sorted(line for line in listed if "::" in line)
    assert len(ids) > 1000
    assert not [(one, other) for one, other in itertools.pairwise(ids) if other.startswith(one)]
