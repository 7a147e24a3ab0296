"""A backend in an engine host, with the shape of any other backend."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UnsupportedError
from harness.runtime.backend.protocol import (
    Array,
    BuildRequest,
    EngineInfo,
    HowToRefit,
    LayerWeights,
    Plan,
    Progress,
    Refittable,
    Residue,
    Shape,
    Streaming,
    Weights,
)
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.client import HostClient, HostDied
from harness.runtime.footprint import Footprint
from harness.runtime.probing import Found, probe
from harness.runtime.sampling import Repeated, Samples, Sampling, observed


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Seconds until a host that gives no answer counts as hung."""

    build: float
    run: float  # of loading, and of making a session, too
    probe: float  # of one step


class HostedBackend:
    """The backend called ``name``, in its own process; every error of a stage may have ``crash`` set."""

    def __init__(self, name: str, client: HostClient, timeouts: Timeouts) -> None:
        self.name, self.client, self.timeouts = name, client, timeouts

    def label(self, text: str) -> None:
        """Say what the next requests are for, for the client's breadcrumb."""
        self.client.label = text

    def probe(self) -> Probe:
        """What the backend can do; a step that kills or hangs the host is a finding, with that as evidence."""
        ask = functools.partial(self.client.request, stage="probe", timeout=self.timeouts.probe)
        try:
            steps = ask("probe_steps", {}, summary="probe")
        except HostDied as death:
            evidence = f"{death.crash}: {death.log[-1] if death.log else 'no output'}"
            fix = f"check that {self.client.python} has numpy and {self.name}"
            return Probe(self.name, "", (Capability("import", State.ABSENT, evidence, fix),))
        except UnsupportedError as error:  # what it is made of can't be imported
            return Probe(self.name, "", (Capability("import", State.ABSENT, error.evidence, error.fix),))

        def take(step: str) -> Found:
            found: Found = ask("probe_step", {"step": step}, summary=f"probe of {step}")
            return found

        found = probe(self.name, steps, take)
        host = {name: fact for name, fact in self.client.facts.items() if name != "pid"}
        return dataclasses.replace(found, environment={**found.environment, "host": host})

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        """As `Backend.build`. The host was perhaps started in another folder, so paths are sent in full.

        ``seconds`` has "transfer", too: what the request took beyond the host's own stages, that is a builder
        made and configured, and the plan brought here.
        """
        sent = dataclasses.replace(
            request, model=_absolute(request.model), network_folder=_absolute(request.network_folder)
        )
        started, generation = time.perf_counter(), self.client.generation
        plan: Plan = self.client.request(
            "build",
            {"request": sent},
            stage="build",
            timeout=self.timeouts.build,
            summary=f"build of {request.name} ({request.recipe.name})",
            progress=progress,
        )
        if self.client.generation != generation:  # most of it went into starting a host
            return plan
        rest = time.perf_counter() - started - sum(plan.seconds.values())
        return dataclasses.replace(plan, seconds={**plan.seconds, "transfer": rest})

    def load(
        self, plan: Array | Path, plugins: tuple[str, ...] = (), *, host_code: bool = False, stream: bool = False
    ) -> HostedEngine:
        asked = {
            "plan": plan.absolute() if isinstance(plan, Path) else plan,
            "plugins": plugins,
            "host_code": host_code,
            "stream": stream,
        }
        number, info = self.client.request(
            "load", asked, stage="deserialize", timeout=self.timeouts.run, summary="load"
        )
        return HostedEngine(self.client, self.timeouts, self.client.generation, number, info)

    def merged(self, timing_caches: Sequence[Array]) -> Array:
        merged: Array = self.client.request(
            "merged",
            {"timing_caches": tuple(timing_caches)},
            stage="build",
            timeout=self.timeouts.run,
            summary="merge of timing caches",
        )
        return merged

    def call(self, target: str, arguments: Mapping[str, Any], *, folder: str = "", timeout: float | None = None) -> Any:
        """What ``package.module:function`` returns for keyword ``arguments``, in the host.

        ``folder`` goes first on the host's import path. Arguments and result are what
        `harness.runtime.wire` can carry. AssertionError and this project's errors arrive as they
        were raised; any other is a HarnessError with the host's traceback.
        """
        return self.client.request(
            "invoke",
            {"target": target, "arguments": dict(arguments), "folder": folder},
            stage="run",
            timeout=self.timeouts.run if timeout is None else timeout,
            summary=target,
        )

    def taken_memory(self) -> int:
        return int(
            self.client.request("taken_memory", {}, stage="memory", timeout=self.timeouts.run, summary="taken memory")
        )

    def residue(self) -> Residue:
        """As `Backend.residue`; nothing where no host runs, for all that it made went with it."""
        if not self.client.alive(self.client.generation):
            return Residue()
        found: Residue = self.client.request(
            "residue", {}, stage="residue", timeout=self.timeouts.run, summary="residue"
        )
        return found

    def peak_memory(self) -> int:
        """The most bytes of the host's memory that its process held at a time, since it was started."""
        return int(
            self.client.request("peak_memory", {}, stage="memory", timeout=self.timeouts.run, summary="peak memory")
        )

    def footprint(self) -> Footprint:
        """What the host's process holds now, once its garbage is collected."""
        found: Footprint = self.client.request(
            "footprint", {}, stage="memory", timeout=self.timeouts.run, summary="footprint"
        )
        return found

    def close(self) -> None:
        self.client.close()


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


class _Held:
    """Something that a host made and knows by number; gone when that host is."""

    kind = ""

    def __init__(self, client: HostClient, timeouts: Timeouts, generation: int, number: int) -> None:
        self._client, self._timeouts, self._generation, self._number = client, timeouts, generation, number
        self._closed = False

    def _ask(self, method: str, arguments: Mapping[str, Any], stage: str, summary: str, longer: float = 0.0) -> Any:
        """``longer``: seconds that it may take beyond what any call may."""
        return self._client.request(
            method,
            {self.kind: self._number, **arguments},
            stage=stage,
            timeout=self._timeouts.run + longer,
            summary=summary,
            generation=self._generation,
        )

    @property
    def alive(self) -> bool:
        """Whether the host that made this still runs, and this was not closed."""
        return not self._closed and self._client.alive(self._generation)

    def close(self) -> None:
        if self.alive:
            self._closed = True
            self._ask(f"close_{self.kind}", {}, "run", f"close of {self.kind} {self._number}")


class HostedEngine(_Held):
    kind = "engine"

    def __init__(self, client: HostClient, timeouts: Timeouts, generation: int, number: int, info: EngineInfo) -> None:
        super().__init__(client, timeouts, generation, number)
        self.info = info

    def session(self, profile: int = 0) -> HostedSession:
        number = self._ask("session", {"profile": profile}, "deserialize", f"session on profile {profile}")
        return HostedSession(self._client, self._timeouts, self._generation, number)

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        plan: Array = self._ask("serialize", {"flags": flags}, "deserialize", "serialize")
        return plan

    def stream(self, budget: int | None = None) -> Streaming:
        found: Streaming = self._ask("stream", {"budget": budget}, "deserialize", f"weight budget of {budget} bytes")
        return found

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        asked = {"given": _arrays(given or {}), "layers": _layers(layers)}
        found: Refittable = self._ask("weights", asked, "refit", "list of weights")
        return found

    def refit(
        self,
        weights: Weights,
        *,
        layers: LayerWeights | None = None,
        how: HowToRefit = "plain",
        keep_graphs: bool = False,
    ) -> None:
        asked = {"weights": _arrays(weights), "layers": _layers(layers), "how": how, "keep_graphs": keep_graphs}
        self._ask("refit", asked, "refit", f"refit of {' '.join([*weights, *(layers or ())])}")

    def refit_from(self, model: str) -> None:
        self._ask("refit_from", {"model": _absolute(model)}, "refit", f"refit from {model}")

    def inspect(self) -> dict[str, Any]:
        told: dict[str, Any] = self._ask("inspect", {}, "deserialize", "inspection")
        return told


class HostedSession(_Held):
    kind = "session"

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        """As `Session.run`; TypeError for an input of a type that no engine takes."""
        inputs = _arrays(inputs)
        asked = {"inputs": inputs, "graph": graph, "omit": omit}
        without = f" without {omit}" if omit else ""
        outputs: dict[str, Array] = self._ask("run", asked, "run", f"run of {_shapes(inputs)}{without}")
        return outputs

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:
        inputs = _arrays(inputs)
        shapes: dict[str, Shape] = self._ask("infer", {"inputs": inputs}, "run", f"inference of {_shapes(inputs)}")
        return shapes

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:
        """As `Session.measure`, in one request; ``wall`` is how long that took here."""
        inputs = _arrays(inputs)
        asked = {"inputs": inputs, "sampling": sampling}
        summary = f"measurement of {_shapes(inputs)}"
        return observed(lambda: self._ask("measure", asked, "run", summary, longer=sampling.longest))

    def repeat(self, inputs: Mapping[str, Array], seconds: float, *, graph: bool = False) -> Repeated:
        inputs = _arrays(inputs)
        asked = {"inputs": inputs, "seconds": seconds, "graph": graph}
        found: Repeated = self._ask("repeat", asked, "run", f"repetition of {_shapes(inputs)}", longer=seconds)
        return found

    def reshape(self, inputs: Mapping[str, Array], others: Mapping[str, Array], times: int) -> Array:
        inputs, others = _arrays(inputs), _arrays(others)
        summary = f"{_shapes(inputs)} after {_shapes(others)}"
        found: Array = self._ask("reshape", {"inputs": inputs, "others": others, "times": times}, "run", summary)
        return found

    def switch(self, profile: int) -> None:
        self._ask("switch", {"profile": profile}, "run", f"switch to profile {profile}")

    def move(self, tensor: str) -> None:
        self._ask("move", {"tensor": tensor}, "run", f"move of {tensor}")

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self._ask("limit", {"tensor": tensor, "nbytes": nbytes}, "run", f"limit of {tensor}")


def _arrays(given: Mapping[str, Array]) -> dict[str, Array]:
    """``given``, numpy's scalars as arrays without dimensions: on their way they would become Python's numbers."""
    return {name: np.asarray(array) for name, array in given.items()}


def _shapes(inputs: Mapping[str, Array]) -> str:
    return " ".join(f"{name}{list(array.shape)}" for name, array in inputs.items())


def _layers(layers: LayerWeights | None) -> LayerWeights:
    return {layer: _arrays(roles) for layer, roles in (layers or {}).items()}
