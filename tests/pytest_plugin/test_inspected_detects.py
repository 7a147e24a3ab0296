"""What the suite asks of an engine's inspector catches what it is there for, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import UnsupportedError
from harness.ledger.records import Record
from harness.report.layers import Layer, Layers
from suites.serialization import test_inspected as suite
from tests.pytest_plugin.parts import ROOT, complaints

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]

FILE = ROOT / "suites" / "serialization" / "test_inspected.py"
CAUGHT = [  # fault, test, words of the detector
    ("forgets_layer", "test_layers", "the inspector tells of 14 layers, the engine of 15"),
    ("forgets_layer", "test_origins", "nodes that no layer came from: MatMul_0"),
    ("forgets_origin", "test_origins", "nodes that no layer came from: MatMul_0"),
    ("forgets_tensor", "test_layers", "inputs and outputs that are told: ['x']"),
    ("mute_layer", "test_layers", "layers without a name or a kind, or with nameless tensors:"),
    ("gibberish", "test_layers", "can't be read"),
]


def run(project: pytest.Pytester, backend: str, model: str, *arguments: str) -> pytest.RunResult:
    # None of these faults takes its process along, so that no host has to be started for each of them.
    asked = ("--trt-in-process", f"--trt-backend={backend}", f"--trt-model={model}")
    # A rootdir of its own: this project's conftest.py does not hold there.
    return project.runpytest_inprocess(FILE, f"--rootdir={project.path}", "-c", "tox.ini", *asked, *arguments)


@pytest.mark.parametrize(("fault", "test", "words"), CAUGHT)
def test_a_fault_is_caught(project: pytest.Pytester, records: Records, fault: str, test: str, words: str) -> None:
    run(project, f"fake:{fault}", "mlp", "-k", test)
    (record,) = records()
    assert (record.verdict, record.cell.test) == ("failed", test)
    assert words in complaints(records())


def test_an_honest_backend_passes_everything(project: pytest.Pytester, records: Records) -> None:
    assert run(project, "fake,onnxruntime", "mlp,resnet,if_flag").ret == 0
    found = records()
    assert [record.verdict for record in found] == ["passed"] * 12
    facts = {(record.cell.model, record.cell.backend): record.facts for record in found if "layers" in record.facts}
    assert facts["resnet", "onnxruntime"]["fused"] == 21
    assert facts["resnet", "onnxruntime"]["reformats"] == 1
    assert facts["resnet", "fake"]["layers"] == 67
    assert all(record.facts["nodes_without_layer"] == [] for record in found if record.cell.test == "test_origins")


def test_an_engine_is_built_to_tell_all_whatever_was_asked(project: pytest.Pytester, records: Records) -> None:
    run(project, "fake", "mlp", "--trt-build-option", "profiling_verbosity=NONE")
    assert [record.verdict for record in records()] == ["passed"] * 2


@pytest.mark.parametrize(
    ("verbosity", "words"),
    [("LAYER_NAMES_ONLY", "no more than names is told"), ("NONE", "the inspector tells of no layer")],
)
def test_one_that_tells_less_all_the_same_is_caught(
    project: pytest.Pytester, records: Records, verbosity: str, words: str
) -> None:
    project.makepyfile(
        """
        import pytest
        from suites.serialization.test_inspected import pytestmark as pytestmark, test_layers as test_layers
        from suites.serialization.test_inspected import test_origins as test_origins

        @pytest.fixture
        def engine(trt_engine):
            return trt_engine
        """
    )
    asked = ("--trt-in-process", "--trt-backend=fake", "--trt-model=mlp")
    project.runpytest_inprocess(*asked, "--trt-build-option", f"profiling_verbosity={verbosity}")
    verdicts = {record.cell.test: record.verdict for record in records()}
    assert verdicts == {"test_layers": "failed", "test_origins": "not_covered"}
    assert words in complaints(records())


def test_origins_that_are_not_told_are_not_covered() -> None:
    """Where something is missing that a layer without origins may have come from."""
    told, untold = Layer("a", origins=("a",), traced=True), Layer("b", origins=("b",))
    suite.told_of(Layers((told, untold)), ["c"])
    with pytest.raises(UnsupportedError, match="no layer names any"):
        suite.told_of(Layers((untold,)), [])
    for name in ("{ForeignNode[a...b]}", "a + (Unnamed Layer* 7) [Shuffle]"):
        suite.told_of(Layers((told, Layer(name))), [])
        with pytest.raises(UnsupportedError, match="origins of c: some layers name none"):
            suite.told_of(Layers((told, Layer(name))), ["c"])
    suite.told_of(Layers((told, Layer("{ForeignNode[a...b]}", origins=("b",), traced=True))), ["c"])
