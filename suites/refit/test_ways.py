"""The other ways to refit, each where the version has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import RefitError
from suites.refit.subject import Refits, unlike
from suites.refit.subject import refits as refits
from suites.refit.which import refitted

if TYPE_CHECKING:
    from harness.runtime.backend.protocol import HowToRefit

AXES = ("model", "precision", "backend")
SEEN = 1 << 15  # bytes of weights from which on a plan without them must be smaller by half of that, at least


@pytest.mark.trt(models=refitted, precisions="fp32", needs=("refit_named", "refit_async"), over=AXES)
def test_refit_by_stream(refits: Callable[..., Refits]) -> None:
    there_and_back(refits(), "async")


@pytest.mark.trt(models=refitted, precisions="fp32", needs=("refit_named", "refit_device"), over=AXES)
def test_refit_from_device_memory(refits: Callable[..., Refits]) -> None:
    there_and_back(refits(), "device")


def there_and_back(subject: Refits, how: HowToRefit) -> None:
    names, session = subject.listed(), subject.session()
    start = subject.run(session)
    changed = subject.changed(names)
    subject.bring(changed, names, how=how)
    subject.judge(subject.run(session), changed)
    subject.bring(subject.model, names, how=how)
    subject.require_start(subject.run(session), start)


@pytest.mark.trt(models=refitted, precisions=("fp32", "fp16"), needs=("refit_named", "parser_refit"), over=AXES)
def test_refit_from_a_file(refits: Callable[..., Refits], tmp_path: Path) -> None:
    """Through the ONNX parser's refitter, which takes all; a file that is none is refused."""
    subject = refits()
    names, session = subject.listed(), subject.session()
    start = subject.run(session)
    changed = subject.changed(names)
    subject.engine.refit_from(str(subject.file(changed)))
    subject.judge(subject.run(session), changed)
    subject.engine.refit_from(str(subject.file(subject.model)))
    subject.require_start(subject.run(session), start)
    text = tmp_path / "text.onnx"
    text.write_text("not an ONNX file")
    for file in (text, tmp_path / "absent.onnx"):
        with pytest.raises(RefitError, match=file.name) as refused:
            subject.engine.refit_from(str(file))
        assert refused.value.crash is None, refused.value.message
        subject.require_start(subject.run(session), start)


@pytest.mark.trt(models=refitted, precisions="fp32", needs=("refit_named", "refit_individual"), over=AXES)
def test_refit_of_marked_weights(refits: Callable[..., Refits]) -> None:
    """The first and the last can be replaced, and are listed; the others can't be, and are not."""
    everything = refits().listed()
    marked = tuple(dict.fromkeys((everything[0], everything[-1])))
    subject = refits("REFIT_INDIVIDUAL", refittable=marked)
    session = subject.session()
    start = subject.run(session)
    listed = subject.engine.weights().names
    others = [name for name in everything if name not in marked]
    assert set(marked) <= set(listed), f"marked: {', '.join(marked)}; listed: {', '.join(listed)}"
    assert not set(others) & set(listed), f"not marked, and listed: {', '.join(set(others) & set(listed))}"
    for name in others[:1]:
        with pytest.raises(RefitError, match=name):
            subject.engine.refit({name: unlike(subject.old.names[name])})
        subject.require_start(subject.run(session), start)
    changed = subject.changed(marked)
    subject.bring(changed, marked)
    subject.judge(subject.run(session), changed)
    subject.bring(subject.model, marked)
    subject.require_start(subject.run(session), start)


@pytest.mark.trt(
    models=refitted,
    precisions="fp32",
    variants=("REFIT", "REFIT_IDENTICAL"),
    needs=("refit_named", "strip_plan"),
    over=AXES,
)
def test_refit_of_a_stripped_plan(trt_variant: str, refits: Callable[..., Refits], trt_record: dict[str, Any]) -> None:
    """It is smaller, asks for every weight, and with the first ones gives what the whole engine gives."""
    whole = refits()
    names = whole.listed()
    want = whole.run(whole.session())
    subject = refits(trt_variant, "STRIP_PLAN")
    listed = subject.engine.weights()
    nbytes = sum(subject.old.names[name].nbytes for name in names)
    trt_record["plan_bytes"] = {"whole": whole.engine.plan_size, "stripped": subject.engine.plan_size}
    if nbytes >= SEEN:
        saved = whole.engine.plan_size - subject.engine.plan_size
        assert saved > nbytes / 2, f"the plan is {saved} bytes smaller without {nbytes} bytes of weights"
    absent = set(names) & set(listed.names) - set(listed.missing)
    assert not absent, f"the plan holds no weights, and these are not missing: {', '.join(sorted(absent))}"
    subject.bring(subject.model, [name for name in names if name in listed.names])
    session = subject.session()
    start = subject.run(session)
    subject.relation.require_alike(start, want, subject.judge(start, subject.model), "the engine with its weights")
    if trt_variant == "REFIT":
        changed = subject.changed(names)
        subject.bring(changed, names)
        subject.judge(subject.run(session), changed)
        subject.bring(subject.model, names)
        subject.require_start(subject.run(session), start)
