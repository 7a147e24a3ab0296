"""Which backend does a piece of work, and why that one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.errors import UnsupportedError
from harness.runtime.capability import Probe
from harness.settings import BACKENDS, BEST
from harness.spec.build import BuildConfig
from harness.spec.model import ModelSpec

ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Choice:
    """``backend`` does it; ``passed_over`` says of each better one why not."""

    backend: str
    needs: tuple[str, ...]
    passed_over: tuple[tuple[str, UnsupportedError], ...] = ()

    @property
    def reason(self) -> str:
        """One line: ``onnxruntime can run; before it in order: tensorrt run: absent: no module ...``."""
        able = f"{self.backend} can {', '.join(self.needs) or 'do it'}"
        return f"{able}; {self._others}" if self.passed_over else able

    @property
    def why(self) -> str:
        """What follows a sentence on what the backend does: nothing when no other was looked at before it."""
        return f"; {self._others}" if self.passed_over else ""

    @property
    def _others(self) -> str:
        others = "; ".join(f"{error.capability}: {error.evidence}" for _, error in self.passed_over)
        return f"before it in order: {others}"


def needs_of(model: ModelSpec) -> tuple[str, ...]:
    """The capabilities that a model asks of a backend by its nature, beyond those of its precision."""
    by_source = {"onnx": (), "plan": ("plan_file", "deserialize"), "network": ("network_function",)}
    return (
        *by_source[model.source.kind],
        *(("profiles",) if len(model.profiles) > 1 else ()),
        *(("shape_tensors",) if any(profile.values for profile in model.profiles) else ()),
    )


def not_applied(backend: str, config: BuildConfig) -> dict[str, list[str]]:
    """``{"options_not_applied": [...]}``: what a record says of build options that ``backend`` has no use for.

    Build options steer a builder, and onnxruntime has none: its cells ask and answer the same whatever
    they say, so that they are covered, and the record says which were left aside. A plugin library is no
    such option: without it the model is another, and the backend refuses.
    """
    if backend != ONNXRUNTIME:
        return {}
    plain = BuildConfig()
    names = [field.name for field in dataclasses.fields(config) if field.name != "plugins"]
    named = [name for name in names if getattr(config, name) != getattr(plain, name)]
    return {"options_not_applied": named} if named else {}


def choose(probe: Callable[[str], Probe], asked: str, needs: Iterable[str]) -> Choice:
    """The backend ``asked`` for; for "best" the first that has all of ``needs``, without probing the rest.

    UnsupportedError when it lacks one; for "best" it lists what every backend lacks, with the fix
    for the first of them.
    """
    wanted = tuple(dict.fromkeys(needs))
    passed_over: list[tuple[str, UnsupportedError]] = []
    for name in BACKENDS if asked == BEST else (asked,):
        try:
            probe(name).require(wanted)
        except UnsupportedError as error:
            passed_over.append((name, error))
        else:
            return Choice(name, wanted, tuple(passed_over))
    if asked != BEST:
        raise passed_over[0][1]
    evidence = "; ".join(f"{error.capability}: {error.evidence}" for _, error in passed_over)
    raise UnsupportedError(f"no backend can {', '.join(wanted)}", evidence, passed_over[0][1].fix)


@dataclass(frozen=True)
class Roles:
    """Who runs a model, and who only builds it because nobody here can run what it builds."""

    asked: str
    runner: Choice | UnsupportedError
    builder: Choice | None = None

    def __str__(self) -> str:
        """``tensorrt_rtx builds, onnxruntime runs``."""
        runner = self.runner.backend if isinstance(self.runner, Choice) else ""
        if self.builder is None:
            nobody = "nothing here runs it" if self.asked == BEST else f"nothing runs on {self.asked!r}"
            return f"{runner} builds and runs" if runner else nobody
        return f"{self.builder.backend} builds, {runner or 'nothing'} runs"

    @property
    def reasons(self) -> tuple[str, ...]:
        """What each better backend than the runner lacks; without a runner its error says it."""
        if isinstance(self.runner, UnsupportedError):
            return ()
        return tuple(f"{error.capability}: {error.evidence}" for _, error in self.runner.passed_over)


def roles(probe: Callable[[str], Probe], asked: str, needs: Iterable[str]) -> Roles:
    """Who does what for a model that needs ``needs``, on the backend ``asked`` for or the best there is.

    Where no TensorRT can run, one that builds ahead of time still shows that the model builds.
    """
    wanted = tuple(needs)
    runner: Choice | UnsupportedError
    try:
        runner = choose(probe, asked, ("run", *wanted))
    except UnsupportedError as error:
        runner = error
    tensorrts = [name for name in BACKENDS if name != ONNXRUNTIME] if asked == BEST else [asked]
    if isinstance(runner, Choice) and (asked != BEST or runner.backend in tensorrts):
        return Roles(asked, runner)
    for name in tensorrts:
        with contextlib.suppress(UnsupportedError):
            return Roles(asked, runner, choose(probe, name, ("build", *wanted)))
    return Roles(asked, runner)
