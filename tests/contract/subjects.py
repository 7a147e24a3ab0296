"""What the contract is checked against: doubles of four versions, and whatever real TensorRT is here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import StageError
from harness.runtime.backend.protocol import Backend, BuildRequest, Plan, ShapeRange
from harness.runtime.capability import Probe, State
from harness.spec.build import BuildConfig
from harness.spec.precision import recipe
from tests.doubles.install import Stage, installed

FLOAT, HALF, INT64, INT32, BOOL = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
)
Inputs = Mapping[str, tuple[int, list[int | str]]]
Ranges = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


class NotCovered(Exception):
    """The subject can't do what a check needs; the message has the evidence."""


@dataclass(frozen=True)
class Subject:
    """One thing under contract: a double of ``version``, or the installed ``backend``."""

    name: str
    backend: str
    version: str = ""
    gpu: bool = True

    def __str__(self) -> str:
        return self.name


DOUBLES = (
    Subject("double-8.6.1", "tensorrt", "8.6.1"),
    Subject("double-10.16.1", "tensorrt", "10.16.1"),
    Subject("double-11.4.0", "tensorrt", "11.4.0"),
    Subject("double-rtx_1.7.1", "tensorrt_rtx", "rtx_1.7.1"),
)
WITHOUT_GPU = {double: replace(double, name=f"{double.name}-without-gpu", gpu=False) for double in DOUBLES}
SUBJECTS = (
    *DOUBLES,
    WITHOUT_GPU[DOUBLES[-1]],  # RTX builds there, and the others don't
    Subject("real-tensorrt_rtx", "tensorrt_rtx"),
    Subject("real-tensorrt", "tensorrt"),
)


@dataclass
class Bench:
    """A subject set up: its backend, what it can do, and a folder for models."""

    subject: Subject
    backend: Backend
    probe: Probe
    folder: Path
    stage: Stage | None = None  # of a double
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def legacy(self) -> bool:
        """TensorRT 8.x, which does otherwise in places: what it does there is part of the contract, too."""
        return self.probe.version.startswith("8.")

    def dies(self, act: Callable[[], object]) -> None:
        """``act`` ends the process that TensorRT is in; a double says so."""
        if self.stage is not None:
            with pytest.raises(Crashed):
                act()
        else:
            with pytest.raises(StageError) as caught:
                act()
            assert caught.value.crash, caught.value

    def need(self, *capabilities: str) -> None:
        """NotCovered unless the subject has them. A double on its GPU may lack only what its version lacks."""
        for name in capabilities:
            found = self.probe.find(name)
            if found.state is State.PRESENT:
                continue
            assert not (self.stage and self.subject.gpu) or found.state is State.ABSENT, found
            raise NotCovered(f"{self.subject} {name}: {found.state.value}: {found.evidence}")

    def model(
        self,
        nodes: list[onnx.NodeProto],
        inputs: Inputs,
        outputs: Inputs,
        name: str = "model",
        weights: Sequence[onnx.TensorProto] = (),
    ) -> Path:
        """An ONNX file of ``nodes``, opset 17."""
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in outputs.items()],
            list(weights),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return self.file(f"{name}.onnx", model.SerializeToString())

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def relu(self) -> Path:
        """``y = Relu(x)``, x float32 [n, 2]."""
        node = helper.make_node("Relu", ["x"], ["y"], name="the relu")
        return self.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])}, "relu")

    def request(
        self,
        model: Path | str,
        *shapes: Ranges,
        contents: Ranges | None = None,
        precision: str = "fp32",
        config: BuildConfig | None = None,
        network: str = "",
        folder: str = "",
    ) -> BuildRequest:
        """One profile for each of ``shapes``, the same ``contents`` in all."""

        def ranges(given: Ranges) -> dict[str, ShapeRange]:
            return {name: ShapeRange(*sizes) for name, sizes in given.items()}

        profiles = shapes or ({},)
        return BuildRequest(
            "contract",
            recipe(precision),
            config or BuildConfig(tactic_sources=()),  # nothing here needs a library beside TensorRT
            tuple(ranges(one) for one in profiles),
            tuple(ranges(contents or {}) for _ in profiles),
            model=str(model),
            network=network,
            network_folder=folder,
        )

    def build(self, *args: Any, **kwargs: Any) -> Plan:
        return self.backend.build(self.request(*args, **kwargs))

    def engine(self, *args: Any, **kwargs: Any) -> Any:
        """An engine that is closed at the end of the check, after its sessions."""
        engine = self.backend.load(self.build(*args, **kwargs).data)
        self.stack.callback(engine.close)
        return engine

    def session(self, engine: Any, profile: int = 0) -> Any:
        session = engine.session(profile)
        self.stack.callback(session.close)
        return session


@contextlib.contextmanager
def bench_of_double(subject: Subject, found: Probe, folder: Path) -> Iterator[Bench]:
    """A double set up, and judged afterwards: nothing refused, nothing leaked, only `dialect` asked for names."""
    with installed(subject.version, gpu=subject.gpu) as stage:
        from harness.runtime.backend.nv.backend import NvBackend

        stage.trt.world.crash = crash
        backend = NvBackend(subject.backend)
        bench = Bench(subject, backend, found, folder, stage)
        with bench.stack:
            yield bench
        backend.close()
        assert not stage.refusals, f"names or arguments that this version does not take: {stage.refusals}"
        strays = {f"{lookup.member} in {lookup.file}:{lookup.line}" for lookup in stage.trt.missing}
        strays = {stray for stray in strays if "/nv/dialect.py:" not in stray}
        assert not strays, f"only the dialect may ask for a name that may be missing: {strays}"
        assert not stage.cuda.live(), f"left on the device: {stage.cuda.live()}"


class Crashed(BaseException):
    """The real one would have taken this process with it."""


def crash(signal: int) -> None:
    raise Crashed(f"signal {signal}")


def probe_double(subject: Subject) -> Probe:
    """What the backend finds out about a double."""
    with installed(subject.version, gpu=subject.gpu) as stage:
        from harness.runtime.backend.nv.backend import NvBackend

        stage.trt.world.crash = crash
        backend = NvBackend(subject.backend)
        found = backend.probe()
        backend.close()
        return found
