"""What pytest writes of our cells for JUnit's readers, by their schema."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lxml import etree

from harness.ledger.records import Record
from tests.report.junit_schema import schema

pytest_plugins = ("pytester",)

TESTS = """
import pytest

alone = pytest.mark.trt(models="mlp", precisions="fp32", points="opt")

@alone
def test_runs(trt_perf):
    trt_perf(lambda quantity: True)

@alone
def test_fails(trt_session):
    raise AssertionError("\\x1b]]> & <b>")

@alone
def test_is_not_covered(trt_inputs):
    pytest.skip("no such hardware")
"""


@pytest.mark.parametrize(
    ("family", "refused"),
    [("xunit1", "attribute 'file' is not allowed"), ("xunit2", "'properties': This element is not")],
)
def test_no_family_of_pytests_own_suits_strict_readers(project: pytest.Pytester, family: str, refused: str) -> None:
    """As docs/exports.md has it: so there is a format of ours."""
    project.makeconftest("def pytest_runtest_setup(item): item.user_properties.append(('a', 1))")
    project.makepyfile("def test_it(): pass")
    project.runpytest_subprocess("-p", "no:xdist", "-o", f"junit_family={family}", "--junitxml=out.xml")
    found = schema(strict=True)
    assert not found.validate(etree.parse(project.path / "out.xml"))
    assert refused in found.error_log[0].message


def test_measured_values_are_properties(project: pytest.Pytester, records: Callable[[], list[Record]]) -> None:
    project.makepyfile(TESTS)
    quick = ("--trt-perf=screen", "--trt-perf-processes=2", "--trt-perf-seconds=0.1")
    project.runpytest_subprocess("--trt-backend=fake", "-p", "no:xdist", "--junitxml=out.xml", *quick)
    tree = etree.parse(project.path / "out.xml")
    (suite,) = tree.findall("testsuite")
    assert [suite.get(count) for count in ("tests", "failures", "errors", "skipped")] == ["3", "1", "0", "1"]
    schema(strict=False).assertValid(tree)
    measured = next(one for one in records() if one.cell.test == "test_runs").facts["perf"]["values"]
    (case,) = tree.xpath("//testcase[starts-with(@name, 'test_runs')]")
    found = {one.get("name"): one.get("value") for one in case.findall("properties/property")}
    assert float(found["trt_gpu_graph_seconds"]) == measured["gpu, graph"]["value"]
    assert float(found["trt_plan_size_bytes"]) == measured["plan size"]["value"]
    assert found["trt_model"] == "mlp"

    assert not schema(strict=True).validate(tree)
    for properties in tree.findall(".//testcase/properties"):
        properties.getparent().remove(properties)
    schema(strict=True).assertValid(tree)  # they alone are what strict readers refuse
