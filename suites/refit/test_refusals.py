"""What must be refused is, by name, and the engine goes on with the weights that it had."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import RefitError
from suites.refit.subject import Refits, same_bits, told, unlike
from suites.refit.subject import refits as refits
from suites.refit.which import refitted

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Array, Arrays, Engines, ModelSpec, Relation, Session

refusal = pytest.mark.trt(
    models=refitted, precisions="fp32", needs="refit_named", over=("model", "precision", "backend")
)
NOBODY = "no weights of this name"  # nor layer


@refusal
def test_refit_refused(refits: Callable[..., Refits], trt_record: dict[str, Any]) -> None:
    """Wrong in size, type, name, layer or role, alone or beside a right one; then a right refit is as ever."""
    import numpy as np

    subject = refits()
    session = subject.session()
    refusals = Refusals(subject, session)
    names = refusals.names
    name, old = names[0], subject.old.names[names[0]]
    right, layers = subject.together(
        subject.old, [name]
    )  # with all that has to be there, so that only one thing is wrong
    others = {name: unlike(subject.old.names[name]) for name in names[1:2]}
    beside, layers_beside = subject.together(subject.old.with_names(others), [name, *others])
    for what, array in (
        ("one element more", np.append(old.reshape(-1), old.reshape(-1)[:1])),
        ("one element less", old.reshape(-1)[1:].copy()),
        ("no element", old.reshape(-1)[:0].copy()),
        ("integers", old.astype(np.int32)),
    ):
        refusals.refused(what, name, right | {name: array}, layers)
        refusals.refused(f"{what}, beside other weights that fit", name, beside | {name: array}, layers_beside)
    refusals.refused("a name that there is not", NOBODY, {NOBODY: old})
    refusals.refused(
        "a name that there is not, beside right ones", NOBODY, right | {name: unlike(old), NOBODY: old}, layers
    )
    places = subject.engine.weights().places
    refusals.refused("a layer that there is not", NOBODY, layers={NOBODY: {"KERNEL": old}})
    if places:
        layer, roles = places[0][0], {role for other, role in places if other == places[0][0]}
        wrong = next(role for role in ("SHIFT", "KERNEL") if role not in roles)
        refusals.refused("a role that the layer has not", layer, layers={layer: {wrong: old}})
        refusals.refused("a role that there is not", layer, layers={layer: {"NOBODY": old}})
    refusals.without_companions()
    trt_record["refused"] = refusals.asked
    assert not refusals.problems, told(refusals.problems)
    changed = subject.changed(names)
    subject.bring(changed, names)
    subject.judge(subject.run(session), changed)


@refusal
def test_refit_of_another_float(refits: Callable[..., Refits], trt_record: dict[str, Any]) -> None:
    """float16 in the place of float32, of which nothing is lost: refused, or taken for the numbers that it holds."""
    import numpy as np

    from harness.judge.weights import revalued

    subject = refits()
    name, session = subject.listed()[-1], subject.session()
    start = subject.run(session)
    halves = unlike(subject.old.names[name]).astype(np.float16)
    changed = revalued(subject.model, {name: halves})
    given, layers = subject.together(subject.stored(changed), [name])
    try:
        subject.engine.refit(given | {name: halves}, layers=layers)
    except RefitError as error:
        if error.crash is not None:
            raise
        trt_record["float16"] = f"refused: {error.message}"
        subject.require_start(subject.run(session), start)
    else:
        trt_record["float16"] = "taken"
        subject.judge(subject.run(session), changed)


@refusal
def test_refit_of_nan(refits: Callable[..., Refits], trt_record: dict[str, Any]) -> None:
    """NaN shows in the outputs, or is refused; either way the first weights give the first outputs."""
    import numpy as np

    from harness.judge.weights import revalued

    subject = refits()
    session = subject.session()
    start = subject.run(session)
    for name in reversed(subject.listed()):
        old = subject.old.names[name]
        changed = revalued(subject.model, {name: np.full_like(old, np.nan)})
        shown = [output for output, array in subject.oracle(subject.inputs, changed).outputs.items() if spoilt(array)]
        if shown:
            break
    else:
        pytest.skip("no weight that is NaN makes an output of the oracle NaN")
    trt_record["weights"] = name
    try:
        subject.bring(changed, [name])
    except RefitError as error:
        if error.crash is not None:
            raise
        trt_record["nan"] = f"refused: {error.message}"
    else:
        trt_record["nan"] = "taken"
        got = subject.run(session)
        hidden = [output for output in shown if not spoilt(got[output])]
        assert not hidden, f"weights {name!r} are NaN, and {', '.join(hidden)} hold none: the oracle's do"
        subject.bring(subject.model, [name])
    subject.require_start(subject.run(session), start)


@refusal
def test_refit_from_memory_that_is_gone(refits: Callable[..., Refits]) -> None:
    """What was given may be overwritten and freed as soon as the refit is done."""
    import numpy as np

    subject = refits()
    names, session = subject.listed(), subject.session()
    changed = subject.changed(names)
    given, layers = subject.together(subject.stored(changed), names)
    lent = {name: array.copy() for name, array in given.items()}
    subject.engine.refit(lent, layers=layers)
    for array in lent.values():
        array.fill(np.nan)
    subject.judge(subject.run(session), changed)
    del lent, array
    gc.collect()
    subject.judge(subject.run(session), changed)


@refusal
def test_weights_are_fixed_without_refit(
    trt_model: ModelSpec, trt_engines: Engines, trt_profile: int, trt_inputs: Arrays, trt_relation: Relation
) -> None:
    """An engine that was not built for it lists nothing, takes nothing, and goes on."""
    from harness.judge.weights import initializers, weights

    names = weights(trt_model)
    if not names:
        pytest.skip("the model has no weights that a refit may change")
    engine = trt_engines(private=True)
    session = engine.session(trt_profile)
    start = session.run(trt_inputs)
    new = {names[0]: unlike(initializers(trt_model.source.path())[names[0]])}
    for ask in (engine.weights, engine.refit):
        with pytest.raises(RefitError, match="REFIT") as refused:
            ask(new)
        assert refused.value.crash is None, refused.value.message
        trt_relation.require_same_bits(session.run(trt_inputs), start, "the run before")


def spoilt(array: Array) -> bool:
    import numpy as np

    return array.dtype.kind == "f" and bool(np.isnan(array).any())


@dataclass(eq=False)
class Refusals:
    """Asks for what must be refused, and after each looks whether the outputs are as before."""

    subject: Refits
    session: Session
    problems: list[str] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.names = self.subject.listed()
        self.start = self.subject.run(self.session)

    def refused(
        self,
        what: str,
        named: str,
        weights: Mapping[str, Array] | None = None,
        layers: Mapping[str, Mapping[str, Array]] | None = None,
    ) -> None:
        """``named``: what the error has to name."""
        self.asked += 1
        try:
            self.subject.engine.refit(weights or {}, layers=layers)
        except RefitError as error:
            if error.crash is not None:  # nothing more can be asked of the engine
                pytest.fail(told([*self.problems, f"{what}: not refused: {error.crash}"]), pytrace=False)
            if named not in error.message:
                self.problems.append(f"{what}: refused, and {named!r} is not named: {error.message!r}")
        else:
            self.problems.append(f"{what}: it was taken")
        if not same_bits(self.subject.run(self.session), self.start):
            self.problems.append(f"{what}: the outputs are not as before")
            self.subject.bring(self.subject.model, self.names)  # or all that is asked from here on would say so

    def without_companions(self) -> None:
        """Weights that hang together with others, alone: refused, and the others named."""
        for name in self.names:
            new = {name: unlike(self.subject.old.names[name])}
            asked = self.subject.engine.weights(new)
            if asked.missing or asked.missing_places:
                other = asked.missing[0] if asked.missing else asked.missing_places[0][0]
                self.refused(f"{name} without {other}", other, new)
                return
