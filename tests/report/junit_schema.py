"""JUnit's schema: as pytest writes it, and as strictly as others have it."""

from __future__ import annotations

from pathlib import Path

from lxml import etree

FILE = Path(__file__).parents[1] / "data" / "schemas" / "junit.xsd"
XS = "{http://www.w3.org/2001/XMLSchema}"


def schema(*, strict: bool) -> etree.XMLSchema:
    """``strict``: without what only pytest writes, properties of a test case."""
    tree = etree.parse(FILE)
    if strict:
        (case,) = tree.findall(f"{XS}complexType[@name='Case']/{XS}choice")
        (properties,) = case.findall(f"{XS}element[@name='properties']")
        case.remove(properties)
    return etree.XMLSchema(tree)
