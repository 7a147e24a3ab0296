"""Who does a piece of work: the first backend that can, and why none before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UnsupportedError
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.choice import Choice, choose, needs_of, not_applied, roles
from harness.spec import BuildConfig, ModelSpec, NetworkFunction, OnnxFile, PlanFile, Profile, Values

ABSENT = {"import": State.ABSENT}
NO_GPU = {"import": State.PRESENT, "build": State.PRESENT, "run": State.NEEDS_GPU, "fp16": State.PRESENT}
ALL = {"import": State.PRESENT, "build": State.PRESENT, "run": State.PRESENT, "fp16": State.PRESENT}
CPU = {"import": State.PRESENT, "build": State.PRESENT, "run": State.PRESENT}


class Machine:
    """Backends by their states, and who was probed."""

    def __init__(self, **states: dict[str, State]) -> None:
        self.states, self.probed = states, list[str]()

    def probe(self, name: str) -> Probe:
        self.probed.append(name)
        found = [Capability(n, state, f"{name} was tried", f"mend {name}") for n, state in self.states[name].items()]
        return Probe(name, "1", tuple(found))


def test_the_first_that_can() -> None:
    machine = Machine(tensorrt=ABSENT, tensorrt_rtx=NO_GPU, onnxruntime=CPU)
    choice = choose(machine.probe, "best", ["run"])
    assert choice.backend == "onnxruntime"
    assert [name for name, _ in choice.passed_over] == ["tensorrt", "tensorrt_rtx"]
    for part in ("onnxruntime can run", "tensorrt run: absent", "tensorrt_rtx run: needs-gpu", "was tried"):
        assert part in choice.reason
    assert choice.why == choice.reason.removeprefix("onnxruntime can run")
    assert choose(machine.probe, "onnxruntime", ["run"]).why == ""
    assert choose(machine.probe, "best", ["build"]).backend == "tensorrt_rtx"


def test_no_more_is_probed_than_needed() -> None:
    machine = Machine(tensorrt=ALL)
    assert choose(machine.probe, "best", ["run", "fp16"]) == Choice("tensorrt", ("run", "fp16"))
    assert machine.probed == ["tensorrt"]


def test_nobody_can() -> None:
    machine = Machine(tensorrt=ABSENT, tensorrt_rtx=NO_GPU, onnxruntime=CPU)
    with pytest.raises(UnsupportedError, match=r"can run, fp16: tensorrt run: .*; tensorrt_rtx run: .*onnx") as e:
        choose(machine.probe, "best", ["run", "fp16"])
    assert e.value.fix == "mend tensorrt"


def test_one_asked_for_is_the_only_one_tried() -> None:
    machine = Machine(tensorrt=ABSENT, onnxruntime=CPU)
    with pytest.raises(UnsupportedError, match=r"^tensorrt run: absent: tensorrt was tried"):
        choose(machine.probe, "tensorrt", ["run"])
    assert machine.probed == ["tensorrt"]


class TestRoles:
    def test_a_gpu_does_all(self) -> None:
        found = roles(Machine(tensorrt=ALL).probe, "best", ["fp16"])
        assert (found.builder, str(found)) == (None, "tensorrt builds and runs")

    def test_without_a_gpu_rtx_builds_and_onnxruntime_runs(self) -> None:
        found = roles(Machine(tensorrt=ABSENT, tensorrt_rtx=NO_GPU, onnxruntime=CPU).probe, "best", [])
        assert str(found) == "tensorrt_rtx builds, onnxruntime runs"
        assert len(found.reasons) == 2

    def test_without_any_tensorrt(self) -> None:
        found = roles(Machine(tensorrt=ABSENT, tensorrt_rtx=ABSENT, onnxruntime=CPU).probe, "best", [])
        assert str(found) == "onnxruntime builds and runs"

    def test_building_alone(self) -> None:
        found = roles(Machine(tensorrt_rtx=NO_GPU).probe, "tensorrt_rtx", ["fp16"])
        assert str(found) == "tensorrt_rtx builds, nothing runs"
        assert isinstance(found.runner, UnsupportedError)

    def test_nothing_at_all(self) -> None:
        found = roles(Machine(tensorrt=ABSENT).probe, "tensorrt", [])
        assert (found.builder, str(found)) == (None, "nothing runs on 'tensorrt'")
        nowhere = Machine(tensorrt=ABSENT, tensorrt_rtx=ABSENT, onnxruntime=ABSENT)
        assert str(roles(nowhere.probe, "best", [])) == "nothing here runs it"

    def test_onnxruntime_alone_needs_no_builder(self) -> None:
        assert roles(Machine(onnxruntime=CPU).probe, "onnxruntime", []).builder is None


def test_what_a_model_needs() -> None:
    model = ModelSpec("m", OnnxFile(Path("m.onnx")))
    assert needs_of(model) == ()
    assert needs_of(replace(model, source=PlanFile(Path("p")))) == ("plan_file", "deserialize")
    assert needs_of(replace(model, source=NetworkFunction("a:b"))) == ("network_function",)
    assert needs_of(replace(model, profiles=(Profile(), Profile()))) == ("profiles",)
    shaped = Profile.of(values={"s": Values((1,), (2,), (3,))})
    assert needs_of(replace(model, profiles=(shaped,))) == ("shape_tensors",)


def test_options_that_steer_a_builder_do_not_apply_where_there_is_none() -> None:
    steered = BuildConfig(workspace=1 << 20, tactic_sources=(), flags=("FP16",), plugins=("/a.so",))
    assert not_applied("onnxruntime", steered) == {"options_not_applied": ["workspace", "flags", "tactic_sources"]}
    assert not_applied("onnxruntime", BuildConfig()) == {}
    assert not_applied("tensorrt", steered) == {}
