"""``doctor``: what is installed, what it can do, what is missing and what brings it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from harness.cli import options
from harness.cli.exits import NOTHING, PASSED
from harness.cli.output import console, leave, print_table

if TYPE_CHECKING:
    from harness.runtime.capability import Probe

PACKAGES = ("trt-harness", "numpy", "onnx", "onnxruntime", "ml_dtypes", "pytest", "pytest-xdist", "hypothesis")


def doctor(
    backend: options.Backends = None,
    python: options.Pythons = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Show what is installed, what each backend can do here, and the command that brings what is missing.

    Exits with 3 when no backend can run a model.
    """
    from harness.runtime.choice import roles
    from harness.runtime.workbench import Workbench
    from harness.settings import BACKENDS, BEST, RUNTIMES

    settings = options.settings(backend=backend, python=python, probe_timeout=probe_timeout, in_process=in_process)
    names = dict.fromkeys(name for asked in settings.backend for name in (BACKENDS if asked == BEST else (asked,)))
    if set(BACKENDS) <= set(names):
        names |= dict.fromkeys(RUNTIMES)
    with Workbench(settings) as bench:
        probes = [bench.probe(name) for name in names]
        best = str(roles(bench.probe, BEST, ())) if set(BACKENDS) <= set(names) else ""
    document = {
        "host": {
            "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
            "platform": platform.platform(),
            "processors": _processors(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
        },
        "backends": probes,
        "runs": [probe.backend for probe in probes if probe.has("run")],
        "builds": [probe.backend for probe in probes if probe.has("build")],
        "best": best,
        "fixes": list(dict.fromkeys(c.fix for probe in probes for c in probe.capabilities if c.fix)),
    }
    if not json:
        _show(document, probes)
    leave(PASSED if document["runs"] else NOTHING, document, as_json=json)


def _show(document: dict[str, Any], probes: list[Probe]) -> None:
    host = document["host"]
    packages = ", ".join(f"{name} {version}" for name, version in host["packages"].items())
    print_table(("this machine", ""), [(name, str(host[name])) for name in ("python", "platform", "processors")])
    console().print(f"Packages: {packages}", soft_wrap=True)
    for probe in probes:
        facts = [f"{name} {value}" for name, value in probe.environment.items() if value and isinstance(value, str)]
        # What a backend logged before it failed is some twenty lines a capability: --json has them.
        rows = [(c.name, c.state.value, c.evidence.partition("\n")[0]) for c in probe.capabilities]
        print_table(("capability", "state", "evidence"), rows, f"{probe.backend} {probe.version}  {', '.join(facts)}")
    missing = list(_missing(probes))
    if missing:
        print_table(("backend", "state", "missing", "what brings it"), missing, "Missing")
    shown = {"run models": document["runs"], "build engines": document["builds"], "best here": [document["best"]]}
    print_table(("", "backends"), [(name, ", ".join(found)) for name, found in shown.items() if any(found)])


def _missing(probes: list[Probe]) -> Iterator[tuple[str, str, str, str]]:
    """A row for all that one command or device would bring to one backend."""
    for probe in probes:
        groups: dict[tuple[str, str], list[str]] = {}
        for capability in probe.capabilities:
            if capability.state.value != "present":
                groups.setdefault((capability.state.value, capability.fix), []).append(capability.name)
        for (state, fix), names in groups.items():
            yield probe.backend, state, ", ".join(names), fix or "another version or backend"


def _processors() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
