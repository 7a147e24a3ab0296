"""Examples against a check, until one fails and is brought to its smallest."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky, HypothesisException, UnsatisfiedAssumption
from hypothesis.strategies import SearchStrategy

from harness.errors import SpecError, UnsupportedError
from harness.spec.example import Example
from harness.spec.profile import Profile
from harness.strategies.effort import Effort, settings_of
from harness.strategies.minimize import minimize

Check = Callable[[Example], None]
Examples = SearchStrategy[Example]
PATIENCE = 120.0  # seconds of runs, after the first failure, in which a smaller one is looked for
_BLOB = re.compile(r"@reproduce_failure\(.*?\)")


@dataclass(frozen=True, eq=False)
class Failure:
    """The smallest example that fails, and what the check raised for it.

    ``blob`` is what makes Hypothesis draw it again (``@reproduce_failure(...)``; "" for examples that were
    not drawn, and under ``dev``). ``flaky`` says that it passed when it was asked again.
    """

    example: Example
    error: BaseException
    blob: str = ""
    flaky: bool = False

    def __str__(self) -> str:
        again = "; asked again, it passed" if self.flaky else ""
        return f"fails at {self.example}{again}: {type(self.error).__name__}: {self.error}"


@dataclass(frozen=True)
class Exploration:
    """What was tried: examples and the seconds spent in their checks and, apart, in drawing (Hypothesis's own)."""

    tried: int
    seconds: float
    drawing: float
    failure: Failure | None = None


def explore(
    strategy: Examples,
    check: Check,
    *,
    effort: Effort,
    seed: int | None = None,
    database: Path | None = None,
    first: Sequence[Example] = (),
    examples: int | None = None,
    profiles: Sequence[Profile] = (),
    relations: Iterable[str] = (),
    patience: float = PATIENCE,
) -> Exploration:
    """Call ``check`` with examples, those in ``first`` before any that is drawn; what it raises is a failure.

    The first failure is shrunk and given back, not raised; its error bears a note that names the
    example. With ``profiles`` (and ``relations``) what Hypothesis shrank, and what failed in ``first``, goes
    through `minimize` as well. ``seed`` overrides what ``effort`` says of randomness, ``examples``
    (a number) how many are drawn; ``database`` is a folder, of this check alone, that keeps failures for
    the next run (Hypothesis uses none under ``ci`` or with a ``seed``).
    What ``ci`` draws is settled, so that it is drawn once a process for the same ``strategy``, and Hypothesis
    calls ``check`` only when one of those examples fails, or when ``check`` speaks to Hypothesis itself.
    Nothing is built here: engines live outside. Passed straight through: UnsupportedError, a skip of
    the test, KeyboardInterrupt, and what Hypothesis says of a strategy that is wrong. SpecError for a wrong
    argument.
    """
    if not isinstance(strategy, SearchStrategy):
        raise SpecError(f"strategy: expected a strategy such as examples_of(model), got {strategy!r}")
    if not callable(check):
        raise SpecError(f"check: expected a function of an example, got {check!r}")
    chosen = settings_of(effort, database=database)
    if examples is not None:
        if type(examples) is not int or examples < 1:
            raise SpecError(f"examples: expected a number above 0, got {examples!r}")
        chosen = settings(chosen, max_examples=examples)
    started = time.perf_counter()
    asked = _Asked(check, patience)
    failure = _first(asked, first)
    if failure is None:
        settled = chosen.derandomize and seed is None
        failure = _replayed(asked, strategy, chosen) if settled else _drawn(asked, strategy, chosen, seed)
    if failure is not None and profiles and not failure.flaky:
        smallest = minimize(failure.example, asked.fails, profiles, relations=relations)
        if smallest != failure.example:  # the blob would repeat the larger one
            failure = Failure(smallest, asked.failed[smallest])
    if failure is not None:
        failure.error.add_note(f"smallest example: {failure.example}")
    return Exploration(asked.tried, asked.seconds, time.perf_counter() - started - asked.seconds, failure)


class _PassingThrough(BaseException):
    """Brings an exception past Hypothesis, which would take it for a failure."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Asked:
    """The check, counted and timed; it remembers what failed."""

    def __init__(self, check: Check, patience: float) -> None:
        self._check, self._patience = check, patience
        self.tried, self.seconds = 0, 0.0
        self.failed: dict[Example, BaseException] = {}
        self._deadline = float("inf")

    def __call__(self, example: Example) -> None:
        started = time.perf_counter()
        if started > self._deadline:  # shrinking ends with what is known: a hang of minutes is not asked for again
            if example in self.failed:
                raise self.failed[example]
            return
        self.tried += 1
        try:
            self._check(example)
        except HypothesisException:
            raise  # the check wants another example, or to be called by Hypothesis
        except BaseException as error:
            if not _is_failure(error):
                raise _PassingThrough(error) from None
            self.failed[example] = error
            self._deadline = min(self._deadline, time.perf_counter() + self._patience)
            raise
        finally:
            self.seconds += time.perf_counter() - started

    def fails(self, example: Example) -> bool:
        try:
            self(example)
        except (_PassingThrough, HypothesisException):
            return False
        except BaseException:
            return True
        return False


def _is_failure(error: BaseException) -> bool:
    """Not a skip, an interrupt or a missing capability. What `pytest.fail` raises is no Exception."""
    if isinstance(error, (UnsupportedError, SkipTest)):
        return False
    return isinstance(error, Exception) or type(error).__name__ == "Failed"


def _first(asked: _Asked, first: Sequence[Example]) -> Failure | None:
    for example in first:
        if not isinstance(example, Example):
            raise SpecError(f"first: expected examples, got {example!r}")
        with contextlib.suppress(UnsatisfiedAssumption):
            if (failure := _tried(asked, example)) is not None:
                return failure
    return None


def _tried(asked: _Asked, example: Example) -> Failure | None:
    try:
        asked(example)
    except _PassingThrough as through:
        raise through.error from None
    except HypothesisException:
        raise
    except BaseException as error:
        return Failure(example, error)
    return None


@functools.lru_cache(maxsize=256)
def _settled(strategy: Examples, count: int) -> tuple[Example, ...]:
    """What Hypothesis draws where nothing is left to chance, for any check that takes each example as it comes."""
    drawn: list[Example] = []
    _test(drawn.append, [], strategy, settings(settings_of("ci"), max_examples=count))()
    return tuple(drawn)


def _replayed(asked: _Asked, strategy: Examples, chosen: settings) -> Failure | None:
    """As `_drawn`, which meets the same examples in the same order: it is asked when there is something to shrink."""
    try:
        examples = _settled(strategy, chosen.max_examples)
        failure = next(filter(None, (_tried(asked, example) for example in examples)), None)
    except HypothesisException:  # the strategy's, which come again, or the check's
        return _drawn(asked, strategy, chosen, None)
    if failure is None:
        return None
    shrunk = _drawn(asked, strategy, chosen, None)
    return shrunk or replace(failure, flaky=not asked.fails(failure.example))


def _test(asked: Check, latest: list[Example], strategy: Examples, chosen: settings) -> Callable[[], None]:
    """A test of Hypothesis's, which leaves its last example in ``latest``.

    Under ``ci`` the source of ``run`` is the seed: a change of it changes all that is drawn there.
    """

    def run(example: Example) -> None:
        latest[:] = [example]
        asked(example)

    test: Callable[[], None] = chosen(given(strategy)(run))
    return test


def _drawn(asked: _Asked, strategy: Examples, chosen: settings, seed: int | None) -> Failure | None:
    latest: list[Example] = []

    test = _test(asked, latest, strategy, chosen)
    try:
        (test if seed is None else seeded(seed)(test))()
    except _PassingThrough as through:
        raise through.error from None
    except Flaky as error:
        if not asked.failed:
            raise
        example, seen = list(asked.failed.items())[-1]
        return Failure(example, seen, _blob(error), flaky=True)
    except BaseException as error:
        if not latest or asked.failed.get(latest[0]) is not error:
            raise  # not the check's: the strategy is at fault
        return Failure(latest[0], error, _blob(error))
    return None


def _blob(error: BaseException) -> str:
    """What Hypothesis's notes on ``error`` give to repeat it."""
    found = _BLOB.search("\n".join(getattr(error, "__notes__", ())))
    return found[0] if found else ""
