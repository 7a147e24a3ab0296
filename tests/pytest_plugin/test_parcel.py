"""Reports on their way to xdist's controller: nothing changes, and little is sent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harness.pytest_plugin.parcel import PARCEL, packed, unpack
from tests.pytest_plugin.parts import RUNS

pytest_plugins = ("pytester",)

REPORT = {
    "nodeid": "test_x.py::test_runs[mlp-é]",
    "location": ("test_x.py", 3, "test_runs"),
    "keywords": {"trt": 1},
    "outcome": "passed",
    "longrepr": None,
    "user_properties": [("trt_model", "mlp"), ("own", 1.5)],
    "duration": 0.25,
    "raw": b"\x00",
}


def test_what_is_packed_comes_back_type_by_type() -> None:
    sent = packed(dict(REPORT))
    assert sent.keys() == {PARCEL}
    sent["item_index"] = 3  # as xdist does
    unpack(sent)
    assert sent == {**REPORT, "item_index": 3}
    assert type(sent["location"]) is tuple


def test_a_value_that_is_not_pythons_own_is_left_to_xdist() -> None:
    data: dict[str, Any] = {**REPORT, "user_properties": [("own", object())]}
    assert packed(data) is data
    unpack(data)
    assert PARCEL not in data


@pytest.mark.parametrize("value", [np.float64(1.5), np.zeros(2), bytearray(b"a"), {1}])
def test_what_is_not_of_pythons_own_types_goes_as_it_is(value: object) -> None:
    """marshal would make bytes of most of these."""
    data = {"user_properties": [("x", [value])]}
    assert packed(data) is data


KEEPS = """
import json
import pytest

@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_report_from_serializable(config, data):
    sent = sorted(data)
    report = yield
    with open("sent.jsonl", "a") as file:
        print(json.dumps([sent, report.when, report.location, report.user_properties]), file=file)
    return report
"""


def test_a_worker_packs_its_reports_and_the_controller_has_them_whole(project: pytest.Pytester) -> None:
    project.makepyfile(RUNS)
    project.makeconftest(KEEPS)
    options = ("--trt-model=mlp", "--trt-precision=fp32", "--trt-point=opt", "--trt-backend=fake")
    project.runpytest_subprocess("-n1", *options).assert_outcomes(passed=1)
    found = [json.loads(line) for line in (project.path / "sent.jsonl").read_text().splitlines()]
    assert [when for _, when, _, _ in found] == ["setup", "call", "teardown"]
    for sent, _, location, _ in found:
        assert sent == sorted([PARCEL, "item_index", "testrun_uid", "worker_id"])
        assert location[2].startswith("test_runs[mlp")
    assert ["trt_model", "mlp"] in found[-1][3]
