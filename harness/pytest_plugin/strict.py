"""Known failures are a debt with a date: what is wrong with the entries themselves fails the run, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.ledger.expectations import PARTS
from harness.pytest_plugin.run import Run
from harness.runtime.capability import State
from harness.settings import Settings


def problems(run: Run, config: pytest.Config, *, deselected: bool) -> list[str]:
    """What is wrong with the entries that hold for the cells of this process.

    Nothing follows from a cell that is not there when cells were ``deselected`` one by one.
    """
    for file in {file for _, file in run.cells}:
        run.expectations_of(file)
    said = [str(problem) for expectations in run.expectations.values() for problem in expectations.problems]
    if deselected or run.settings.shard or some(config):
        return said
    environments = {
        name: run.environments[name]
        for name, probe in run.probes.items()
        if probe.installation is None or probe.installation.state is State.PRESENT
    }
    for folder, expectations in run.expectations.items():
        narrowed = _narrowed(run.settings, config, folder)
        said += map(str, expectations.unmatched([cell for cell, _ in run.cells], environments, narrowed))
    return said


def some(config: pytest.Config) -> bool:
    """Whether tests were asked for one by one."""
    return any("::" in argument for argument in config.args)


def _narrowed(settings: Settings, config: pytest.Config, folder: Path) -> list[str]:
    """The parts of a cell that this run chose from. Sizes are always chosen from, and they are part of the model."""
    narrowed = ["model"]
    defaults = Settings()
    if settings.precision != defaults.precision:
        narrowed.append("precision")
    if settings.point != defaults.point:
        narrowed.append("point")
    collected = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    if not any(folder.parent.resolve().is_relative_to(path) for path in collected):
        return list(PARTS)  # which precisions and points there are, the tests say that were left out
    return narrowed
