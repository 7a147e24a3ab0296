"""A hook that comes after all others of its kind, and so knows what each test is called by."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from harness.pytest_plugin import collection


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    result = yield
    collection.leave_out(metafunc)
    return result
