"""JUnit's XML: a suite a cell, a case a metric, and the values as properties of the suite.

There the strict schemas want them, which refuse the properties that pytest gives to a test case.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from harness.measure.quantity import SECONDS
from harness.report.measurement import Measurement, newest, properties

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0, however it is written


def export(measured: Sequence[Measurement]) -> bytes:
    """Of several sessions the last. A measurement has neither failed nor passed: rulings stand in pytest's own file."""
    cells: dict[str, list[Measurement]] = {}
    for one in newest(measured):
        cells.setdefault(one.key, []).append(one)
    root = ElementTree.Element("testsuites", name="trt-harness")
    for members in cells.values():
        _suite(root, members)
    ElementTree.indent(root)
    found: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def _suite(root: ElementTree.Element, members: Sequence[Measurement]) -> None:
    first = members[0]
    began = datetime.datetime.fromtimestamp(first.at, datetime.UTC).replace(tzinfo=None)
    counts = {"tests": str(len(members)), "failures": "0", "errors": "0", "skipped": "0"}
    suite = _element(root, "testsuite", {"name": first.cell, **counts, "timestamp": began.isoformat()})
    held = _element(suite, "properties")
    known = {**{f"trt_{name}": value for name, value in first.labels.items()}, "trt_key": first.key}
    known |= {"trt_session": first.session, "trt_commit": first.commit}
    for name, value in [*known.items(), *properties(members)]:
        if value:
            _element(held, "property", {"name": name, "value": value})
    for one in members:
        time = {"time": f"{one.value:.6f}"} if one.unit == SECONDS else {}
        _element(suite, "testcase", {"classname": first.cell, "name": one.metric, **time})


def _element(parent: ElementTree.Element, tag: str, fields: Mapping[str, str] | None = None) -> ElementTree.Element:
    legal = {name: ILLEGAL.sub(lambda sign: f"#x{ord(sign[0]):02X}", value) for name, value in (fields or {}).items()}
    return ElementTree.SubElement(parent, tag, legal)
