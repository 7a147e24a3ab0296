"""A plan is code: one from elsewhere is loaded only when the user names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.pool import EnginePool
from harness.runtime.trust import Trust
from harness.spec import EngineSpec, ModelSpec, PlanFile, recipe


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.plan").write_bytes(b"code")
    return folder / "a.plan"


def test_nothing_is_trusted_unless_it_is_named(plan: Path) -> None:
    with pytest.raises(SpecError, match=rf"{plan}: a plan is code.*--trt-trust FILE_OR_FOLDER in pytest, --trust"):
        Trust().require(plan)
    assert not Trust.of([plan.with_name("b.plan"), plan.parent / "other"]).covers(plan)


def test_a_name_covers_a_file_or_all_that_lies_in_a_folder(plan: Path) -> None:
    for named in (plan, plan.parent, plan.parent.parent):
        Trust.of([named]).require(plan)


def test_where_links_lead_counts(plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was named does not vouch for what a link in it leads to."""
    named = tmp_path / "named"
    named.mkdir()
    (named / "a.plan").symlink_to(plan)
    assert not Trust.of([named]).covers(named / "a.plan")
    assert Trust.of([named / "a.plan"]).covers(plan), "but whoever names the link names the plan"
    assert not Trust.of([named]).covers(named / ".." / "models" / "deep" / "a.plan")
    monkeypatch.chdir(tmp_path)
    assert Trust.of([Path("models")]).covers(plan)


def test_no_backend_is_given_a_plan_that_is_not_trusted(plan: Path) -> None:
    backend = FakeBackend()
    loaded: list[object] = []
    backend.load = lambda *given: loaded.append(given)  # type: ignore[method-assign,assignment,return-value]
    probe = backend.probe()
    spec = EngineSpec.of(ModelSpec("a", PlanFile(plan)), recipe("fp32"))
    with EnginePool(lambda _: backend, lambda _: probe, None, 1) as pool:
        for ask in (pool.engine, pool.plan):
            with pytest.raises(SpecError, match="a plan is code"):
                ask(spec, "fake")
    assert loaded == []
    with EnginePool(lambda _: backend, lambda _: probe, None, 1, trust=Trust.of([plan])) as pool:
        assert pool.plan(spec, "fake").data.tobytes() == b"code"
