"""Engines that a command is asked to tell of: built from a model, or loaded from a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cli.output import say, shown
from harness.cli.target import FP32, model_of, with_profile
from harness.report.engine_report import EngineReport
from harness.report.layers import DETAILED, read
from harness.runtime.backend.protocol import Progress
from harness.runtime.choice import Choice, choose, needs_of
from harness.runtime.workbench import Workbench
from harness.spec import EngineSpec, recipe


@dataclass(frozen=True)
class Asked:
    """One engine, as the command line names it."""

    target: str  # a model's name, or a file
    precision: str = FP32
    backend: str = "best"
    build_option: Mapping[str, str] | None = None
    profile: Sequence[str] = ()

    def spec(self, models: Sequence[Path] = ()) -> EngineSpec:
        """What to build, told in detail unless the build options say otherwise; or the plan to load.

        SpecError for a target that is none, a precision or option that there is not, and a profile that the
        model does not admit.
        """
        model = with_profile(model_of(self.target, models), self.profile)
        config = model.config.with_options(dict(self.build_option or {}))
        if config.profiling_verbosity is None:
            config = replace(config, profiling_verbosity=DETAILED)
        return EngineSpec.of(model, recipe(self.precision), config)


def chosen(bench: Workbench, asked: Asked, spec: EngineSpec) -> Choice:
    """The backend that loads the engine; said, with its reason. UnsupportedError when there is none."""
    choice = choose(bench.probe, asked.backend, ("deserialize", *spec.precision.needs, *needs_of(spec.model)))
    say(f"{choice.backend} loads {shown(_what(asked, spec))}{choice.why}")
    return choice


def _what(asked: Asked, spec: EngineSpec) -> str:
    """``bert at fp16``, and of a plan its file: what it was built at, it does not say."""
    return asked.target if spec.model.source.kind == "plan" else f"{spec.model.id} at {asked.precision}"


def report(
    bench: Workbench,
    asked: Asked,
    spec: EngineSpec,
    choice: Choice,
    *,
    rebuilt: bool = False,
    progress: Progress | None = None,
) -> tuple[EngineReport, dict[str, object]]:
    """What the engine tells of itself, and its inspector's own words."""
    with bench.pool.engine(spec, choice.backend, rebuilt=rebuilt, progress=progress) as handle:
        told = handle.inspect()
        plan = handle.plan_size if bench.probe(choice.backend).has("plan_file") else None
        title = f"{_what(asked, spec)} on {choice.backend}"
        return EngineReport(title, read(told), handle.info.facts, plan), told
