"""How much is tried: Hypothesis's settings under this project's names, which replace none of a user's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from hypothesis import Phase, Verbosity, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from harness.errors import SpecError
from harness.spec.names import suggestion

Effort = Literal["dev", "ci", "nightly"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
EXAMPLES: dict[Effort, int] = {"dev": 10, "ci": 25, "nightly": 500}


def settings_of(effort: Effort, *, database: Path | None = None) -> settings:
    """``trt-dev``, ``trt-ci`` or ``trt-nightly``, with what failed before kept in the folder ``database``.

    dev is random and short; ci draws the same examples every time and prints what repeats a failure;
    nightly is random and long. ci keeps nothing, since what it draws is settled: by the strategy, and by the
    modules that are imported, since Hypothesis takes one number in twenty from the constants of those that
    it finds outside of site-packages. SpecError for another name.
    """
    if effort not in EFFORTS:
        raise SpecError(f"effort: {effort!r}: {suggestion(str(effort), EFFORTS)}choose from {', '.join(EFFORTS)}")
    profile = settings.get_profile(f"trt-{effort}")
    if database is None or profile.derandomize:
        return profile
    return settings(profile, database=DirectoryBasedExampleDatabase(database))


def _register(effort: Effort) -> None:
    """Every setting is given, so that none is inherited from the profile that a user has loaded."""
    settings.register_profile(
        f"trt-{effort}",
        max_examples=EXAMPLES[effort],
        derandomize=effort == "ci",
        print_blob=effort != "dev",
        database=None,
        verbosity=Verbosity.normal,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink),
        stateful_step_count=12,
        report_multiple_bugs=False,  # one example, the smallest: each further one would run the engine again
        suppress_health_check=(),  # drawing is a few numbers: a strategy that is slow or filters is at fault
        deadline=None,  # a run's time is the engine's, and the first at a shape may compile
        backend="hypothesis",
    )


for _effort in EFFORTS:
    _register(_effort)
