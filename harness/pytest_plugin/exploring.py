"""Trying examples inside the profiles of a cell's model, and what is said of the one that fails."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import SpecError, UnsupportedError
from harness.pytest_plugin.interrupted import Interrupted
from harness.pytest_plugin.outcome import repeat
from harness.pytest_plugin.story import Story
from harness.spec import Example, ModelSpec, Profile, admit
from harness.spec.space import Space

if TYPE_CHECKING:
    from harness.pytest_plugin.story import Judged
    from harness.runtime.backend.protocol import Array, Shape
    from harness.runtime.pool import PooledSession
    from harness.strategies import Exploration

    Arrays = Mapping[str, Array]
    Check = Callable[[Example], None]

PATIENCE = 60.0  # seconds in which a smaller failure is looked for: each try may start a host, or time out
BEFORE = 8  # runs before the failing one that a reproduction holds: no check of ours makes as many on one context


@dataclass(eq=False)
class Step:
    """One run of a session while an example is tried."""

    session: Watched
    inputs: Arrays
    outputs: Arrays | None = None


@dataclass(frozen=True, eq=False)
class Failed:
    """What there was when a check failed."""

    example: Example
    trail: tuple[Step, ...]
    judged: Judged | None
    notes: tuple[str, ...]  # of the error: Hypothesis adds its own


class Watched:
    """A session that remembers what it was asked since the example under way began."""

    def __init__(self, session: PooledSession, trail: list[Step]) -> None:
        self._session, self._trail = session, trail

    def run(self, inputs: Arrays, *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        """As `harness.runtime.backend.protocol.Session.run`."""
        step = Step(self, inputs)
        self._trail.append(step)
        step.outputs = outputs = self._session.run(inputs, graph=graph, omit=omit)
        return outputs

    def infer(self, inputs: Arrays) -> dict[str, Shape]:
        return self._session.infer(inputs)

    def switch(self, profile: int) -> None:
        self._session.switch(profile)

    def move(self, tensor: str) -> None:
        self._session.move(tensor)

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self._session.limit(tensor, nbytes)

    def close(self) -> None:
        self._session.close()

    @property
    def alive(self) -> bool:
        """False once it was closed, or died with its host."""
        return self._session.alive


class Explore:
    """What `trt_explore` gives."""

    def __init__(self, story: Story, spaces: Sequence[Space], inputs_at: Callable[[Example], Arrays]) -> None:
        self._story, self._spaces, self._inputs_at = story, spaces, inputs_at
        self._model: ModelSpec = story.case.model
        self._failed: Failed | None = None  # the last time

    def __call__(self, check: Check, *, relations: Sequence[str] = ()) -> Exploration:
        """Call ``check`` with examples from all over the profiles, as many as ``--trt-effort`` says.

        ``check`` makes inputs (``trt_inputs_at(example)``), runs them and requires what must hold. Before
        any drawn example come those of ``examples.toml``, and the one that an earlier run did not survive.
        When it fails, the error is that of the smallest example that fails, with notes of what that is,
        how it is repeated, and the folder that shows it without this project. ``relations`` such as
        ``"kv >= q"`` or ``"past + seq <= 32"`` hold between the sizes, beside those of the model.
        """
        with self._story.spending("drawing"):  # Hypothesis takes a while to import
            from harness.strategies import Exploration, explore

        run, related = self._story.run, (*self._model.relations, *relations)
        if run.settings.example is not None:
            self.at(check, run.settings.example)
            return Exploration(1, 0.0, 0.0)
        place = Interrupted(run.kept / "interrupted" / f"{self._name}.json")
        first = [*(example for example in place.read() if self._has(example)), *self._promoted()]
        effort = run.settings.effort_here
        with self._story.exploring_now():
            done = explore(
                run.examples_of(self._model, related),
                lambda example: self._try(check, example, place),
                effort=effort,
                database=run.kept / "failed" / self._name if effort == "nightly" else None,
                first=first,
                profiles=self._profiles,
                relations=related,
                patience=PATIENCE,
            )
            self._story.tried(done.tried)
            self._story.spend({"drawing": done.drawing})
            if done.failure is None:
                place.close(keep=False)
                return done
            example, error = done.failure.example, done.failure.error
            died = getattr(error, "crash", None) is not None
            if died:
                place.note(example)
            place.close(keep=died)
            told = self._told(check, example, error, f"of {done.tried} tried", done.failure.blob)
        raise told

    def at(self, check: Check, example: Example) -> None:
        """Call ``check`` with this one example, or that of ``--trt-example``; a failure is made as small as it goes."""
        asked = self._story.run.settings.example
        example = self._spelled(asked or example)
        if not self._has(example):
            raise self._outside("--trt-example" if asked else self._story.case.cell.id, example)
        self._story.tried(1)
        with self._story.exploring_now():
            error = self._error(check, example)
            if error is None:
                return
            smallest = example
            if asked is None:
                smallest, error = self._minimized(check, example, error)
            told = self._told(check, smallest, error, "" if smallest == example else f"smaller than {example}", "")
        raise told

    # Within --------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        """The cell, as a file may be called."""
        return re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{self._story.case.cell.test}-{self._story.case.cell.params}")

    @property
    def _profiles(self) -> list[Profile]:
        """The model's profiles, by the symbols that stand in it."""
        return [space.profile for space in self._spaces]

    def _promoted(self) -> list[Example]:
        found = []
        for entry in self._story.run.promoted_of(self._story.file):
            if entry.holds_for(self._model.id, self._story.case.cell.test):
                example = self._spelled(entry.example)
                if not self._has(example):
                    raise self._outside(entry.place, example)
                found.append(example)
        return found

    def _spelled(self, example: Example) -> Example:
        """By the symbols that stand in the model; profiles may go by tensor and axis."""
        interface = self._story.fixture("trt_interface")
        binding = admit(self._model.id, Profile.of(example.binding), interface).binding("opt")
        return replace(example, sizes=tuple(sorted(binding.items())))

    def _has(self, example: Example) -> bool:
        if not 0 <= example.profile < len(self._spaces):
            return False
        space = self._spaces[example.profile]
        return space.admits(space.sizes_of(example))

    def _outside(self, place: str, example: Example) -> SpecError:
        """The profiles may have changed since it failed."""
        known = " | ".join(str(space.profile) for space in self._spaces)
        also = f" with {', '.join(self._model.relations)}" if self._model.relations else ""
        return SpecError(f"{place}: {example} is outside of {self._model.id}, whose profiles are {known}{also}")

    def _try(self, check: Check, example: Example, place: Interrupted | None = None) -> None:
        story = self._story
        story.example, story.judged = example, None
        story.trail.clear()
        if place is not None:
            place.note(example)
        try:
            check(example)
        except (Exception, pytest.fail.Exception) as error:
            notes = tuple(getattr(error, "__notes__", ()))
            self._failed = Failed(example, tuple(story.trail), story.judged, notes)
            if place is not None and getattr(error, "crash", None) is None:
                place.note(None)
            raise

    def _error(self, check: Check, example: Example) -> BaseException | None:
        """How ``check`` fails; None when it passes. What is not covered, and what a test skips, is no failure."""
        try:
            self._try(check, example)
        except UnsupportedError:
            raise
        except (Exception, pytest.fail.Exception) as error:
            return error
        return None

    def _minimized(self, check: Check, example: Example, error: BaseException) -> tuple[Example, BaseException]:
        """The smallest example near ``example`` that fails in the same way, as far as the time reaches."""
        from harness.strategies import minimize

        end, found = time.monotonic() + PATIENCE, {example: error}

        def fails(smaller: Example) -> bool:
            if time.monotonic() > end:
                return False
            got = self._error(check, smaller)
            if got is None or type(got) is not type(error):
                return False
            found[smaller] = got
            return True

        smallest = minimize(example, fails, self._profiles, relations=self._model.relations)
        return smallest, found[smallest]

    def _told(self, check: Check, example: Example, error: BaseException, among: str, blob: str) -> BaseException:
        """``error`` with all that a reader needs: the example, its folder, how to repeat it."""
        if self._failed is None or self._failed.example != example:
            self._error(check, example)  # others were tried after it
        story = self._story
        story.example = example
        lines = [
            f"  smallest     {example}" + (f" ({among})" if among else ""),
            f"  key          {example.key}, seed {example.seed}",
        ]
        story.facts["example"] = example.json()
        if self._failed is not None and self._failed.example == example:
            folder = self._write(self._failed, str(error))
            story.facts["folder"] = str(folder)
            lines.append(f"  folder       {os.path.relpath(folder)} (python show.py)")
        else:
            lines.append("  note         it passed when it was tried again: it fails at times, or after others")
        if blob:
            lines.append(f"  blob         {blob}")
        command = repeat(story.run.config, story.node, example)
        if command not in str(error):
            lines.append(f"  repeat       {command}")
        error.__notes__ = [*(self._failed.notes if self._failed else ()), "\n".join(lines)]
        return error

    def _write(self, failed: Failed, message: str) -> Path:
        """The folder of the failure, written; of the session that it is about, all runs since the check began."""
        from harness.report.reproduction import Reproduction
        from harness.runtime.request import resolve

        story, judged = self._story, failed.judged
        about = next((s for s in reversed(failed.trail) if judged and s.outputs is judged.got), None)
        last = about or (failed.trail[-1] if failed.trail else None)
        steps = [step for step in failed.trail if last and step.session is last.session]
        runs = [step.inputs for step in steps[: steps.index(last) + 1]] if last else [self._inputs_at(failed.example)]
        tolerances = {
            output.name: (output.tolerance.atol, output.tolerance.rtol)
            for output in (judged.comparison.outputs if judged else ())
            if output.tolerance is not None
        }
        expected = judged.expected if judged and about else None
        return Reproduction(
            request=resolve(story.run.spec_of(story.case)),
            backend=story.backend,
            example=failed.example,
            message=message,
            runs=runs[-BEFORE - 1 :],
            expected=expected,
            found=about.outputs if about else None,
            tolerances=tolerances,
        ).write(story.run.folder / "failures" / self._name / failed.example.key)
