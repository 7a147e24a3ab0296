"""Weights become others and again what they were: all, one, by layer and role; and the engine lists them truly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import RefitError
from suites.refit.subject import Refits, same_bits, told, unlike
from suites.refit.subject import refits as refits
from suites.refit.which import rebuilt, refitted

if TYPE_CHECKING:
    from harness.judge.stored import Place, Stored
    from harness.pytest_plugin.types import Array, Arrays, Engines, Session

OTHER_INPUTS = (1, 2, 3, 4)  # seeds

refit = pytest.mark.trt(
    models=refitted, precisions=("fp32", "fp16"), needs="refit_named", over=("model", "precision", "backend")
)


@refit
def test_refit_every_weight(refits: Callable[..., Refits], trt_engines: Engines, trt_record: dict[str, Any]) -> None:
    """By name, all in one refit: what the oracle, and an engine built of the changed model, give; and back."""
    from harness.spec import EngineSpec

    subject = refits()
    names, session = subject.listed(), subject.session()
    start = subject.run(session)
    subject.judge(start, subject.model)
    changed = subject.changed(names)
    subject.bring(changed, names)
    trt_record["refit_seconds"] = subject.engine.timings["refit"]
    got = subject.run(session)
    reference = subject.judge(got, changed)
    if rebuilt(subject.model, subject.spec.precision.name):
        asked = EngineSpec(changed, subject.spec.precision, subject.spec.profiles, subject.spec.config)
        other = trt_engines(asked)
        spent = {**other.took, **other.timings}
        if {"parse", "build", "deserialize"} <= spent.keys():  # or another test has it loaded already
            trt_record["rebuild_seconds"] = sum(spent[stage] for stage in ("parse", "build", "deserialize"))
        want = other.session(subject.profile).run(subject.inputs)
        subject.relation.require_alike(got, want, reference, "an engine built of the changed model")
    subject.bring(subject.model, names)
    subject.require_start(subject.run(session), start)


@refit
def test_refit_one_weight(refits: Callable[..., Refits]) -> None:
    """The first, the middle and the last of the list, each alone with what the engine wants to have with it."""
    subject = refits()
    names, session = subject.listed(), subject.session()
    start = subject.run(session)
    for name in dict.fromkeys([names[0], names[len(names) // 2], names[-1]]):
        changed = subject.changed([name])
        subject.bring(changed, [name])
        subject.judge(subject.run(session), changed)
        subject.bring(subject.model, [name])
        subject.require_start(subject.run(session), start)


@refit
def test_refit_by_layer_and_role(refits: Callable[..., Refits]) -> None:
    """All that has a place goes there; what has only a name goes by that."""
    subject = refits()
    listed, session = subject.engine.weights(), subject.session()
    start = subject.run(session)
    named = subject.old.named
    places = {place: named[place] for place in listed.places if named.get(place) in subject.all}
    if not places:
        pytest.skip("the engine lists no layer and role that the model's file explains")
    others = [name for name in subject.all if name in listed.names and name not in places.values()]
    changed = subject.changed([*others, *places.values()])
    for model in (changed, subject.model):
        given, layers = subject.together(subject.stored(model), others, places)
        subject.engine.refit(given, layers=layers)
        got = subject.run(session)
        if model is changed:
            subject.judge(got, changed)
    subject.require_start(got, start)


@refit
def test_refit_lists(refits: Callable[..., Refits], trt_record: dict[str, Any]) -> None:
    """What is listed can be set, alone with its companions, and changes the outputs; what is not can't be set."""
    subject = refits()
    lists = Lists(subject, subject.session())
    lists.name_each_once()
    lists.have_all_that_can_be_set()
    lists.change_the_outputs()
    trt_record.update(lists.facts)
    assert not lists.problems, told(lists.problems)


@dataclass(eq=False)
class Lists:
    """Holds what an engine lists against what it does. ``problems`` has all that is wrong."""

    subject: Refits
    session: Session
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.listed = self.subject.engine.weights()
        self.start: Arrays = self.subject.run(self.session)
        self._names: list[str] = []  # what is not as it was at first
        self._places: list[Place] = []

    def name_each_once(self) -> None:
        for what, found in (("names", self.listed.names), ("places", self.listed.places)):
            twice = sorted({str(one) for one in found if found.count(one) > 1})
            if twice:
                self.problems.append(f"{what} that are listed more than once: {', '.join(twice)}")
        if self.listed.missing or self.listed.missing_places:
            missing = (*self.listed.missing, *self.listed.missing_places)
            self.problems.append(f"nothing was given yet, and these are missing: {missing}")

    def have_all_that_can_be_set(self) -> None:
        """A weight of the model's that is not listed is a constant by now, or the list has forgotten it."""
        left_out = [name for name in self.subject.all if name not in self.listed.names]
        for name in left_out:
            try:
                self.subject.engine.refit({name: unlike(self.subject.old.names[name])})
            except RefitError as error:
                if error.detail.get("unknown") != (name,):
                    self.problems.append(f"{name} is not listed, and refused as if it were there: {error.message}")
            else:
                self.problems.append(f"{name} is not listed, and can be set all the same")
                self._names = [name]
                self._set(self.subject.old)
        at_places = {self.subject.old.named.get(place) for place in self.listed.places}
        self.facts["listed"] = {"names": len(self.listed.names), "places": len(self.listed.places)}
        self.facts["by_place_alone"] = [name for name in left_out if name in at_places]
        self.facts["not_listed"] = [name for name in left_out if name not in at_places]

    def change_the_outputs(self) -> None:
        """One after the other, each alone; what was before it is set back in the same refit."""
        first = self.subject.old
        old = first.called(self._own_names())
        known = [name for name in self.listed.names if name in old.names]
        floats = [name for name in known if old.names[name].dtype.kind == "f"]
        self.facts["of_unknown_origin"] = [name for name in self.listed.names if name not in old.names]
        self.facts["not_floats"] = [name for name in known if name not in floats]
        self.facts["too_small_to_see"] = []
        for name in floats:
            value = unlike(old.names[name])
            if self._set(old.with_names({name: value}), f"weights {name!r}", names=[name]) and not self._differs():
                self._explain(name, value, theirs=name in first.names)
        for place in self._nameless():
            what = f"{place[1]} of layer {place[0]!r}"
            changed = old.with_places({place: unlike(first.places[place])})
            if self._set(changed, what, places=[place]) and not self._differs():
                self.problems.append(f"{what} is listed and was set: the outputs are as before")
        if self._set(old) and self._differs():
            self.problems.append("all is set back, and the outputs are not those of the start")

    def _explain(self, name: str, value: Array, *, theirs: bool) -> None:
        """``name`` was set, and the outputs are as before: that may be right, for these inputs or for any.

        What is not of the file, and so not ``theirs``, the oracle can't be asked about.
        """
        subject = self.subject
        if not theirs or subject.matters(name, value, subject.inputs):
            self.problems.append(f"weights {name!r} are listed and were set: the outputs are as before")
            return
        for seed in OTHER_INPUTS:  # such as take another branch
            inputs = subject.make_inputs(seed=seed)
            if subject.matters(name, value, inputs):
                want = subject.oracle(inputs, subject.with_value(name, value))
                if not subject.alike(self.session.run(inputs), want):
                    self.problems.append(
                        f"weights {name!r} are listed and were set: of inputs {seed} the old ones show"
                    )
                return
        self.facts["too_small_to_see"].append(name)

    def _nameless(self) -> list[Place]:
        """Places of which the engine lists no name that the file has, as of what the parser computed."""
        old, names = self.subject.old, self.listed.names
        return [place for place in self.listed.places if place in old.places and old.named.get(place) not in names]

    def _own_names(self) -> dict[Place, str]:
        """What the engine calls those, as far as it can be found out.

        8.6 calls what has no name after its place. Of weights that go together an engine asks for all the others:
        the name that is not asked for is of what was given.
        """
        old, asked, nameless = self.subject.old, {}, self._nameless()
        names = {(layer, role): f"{layer} {role}" for layer, role in nameless if f"{layer} {role}" in self.listed.names}
        for layer, role in nameless:
            found = self.subject.engine.weights({}, layers={layer: {role: old.places[layer, role]}})
            asked[layer, role] = {name for name in found.missing if name not in old.names}, set(found.missing_places)
        for place, (missing, places) in asked.items():
            group = set().union(missing, *(asked[other][0] for other in places if other in asked))
            if len(group - missing) == 1:
                names[place] = (group - missing).pop()
        return names

    def _differs(self) -> bool:
        return not same_bits(self.subject.run(self.session), self.start)

    def _set(
        self, to: Stored, what: str = "the first weights", names: Sequence[str] = (), places: Sequence[Place] = ()
    ) -> bool:
        """Bring these, and all that is not as it was at first, to what they are in ``to``. False when it is refused."""
        try:
            given, layers = self.subject.together(to, [*self._names, *names], [*self._places, *places])
            self.subject.engine.refit(given, layers=layers)
        except RefitError as error:
            self.problems.append(f"{what}: listed, and refused: {error}")
            return False
        self._names, self._places = list(names), list(places)
        return True
