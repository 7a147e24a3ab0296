"""``doctor``: what is installed, what it can do, what is missing and what brings it."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from harness.cli import options
from harness.cli.exits import NOTHING, PASSED
from harness.cli.options import PLANS
from harness.cli.output import console, leave, print_table

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
    from harness.runtime.capability import State
    from harness.runtime.choice import choose
    from harness.runtime.workbench import Workbench
    from harness.settings import BACKENDS, BEST

    settings = options.settings(backend=backend, python=python, probe_timeout=probe_timeout, in_process=in_process)
    names = [name for asked in settings.backend for name in (BACKENDS if asked == BEST else (asked,))]
    with Workbench(settings, PLANS) as bench:
        probes = [bench.probe(name) for name in dict.fromkeys(names)]
        runs = [probe.backend for probe in probes if probe.has("run")]
        builds = [probe.backend for probe in probes if probe.has("build")]
        found = {"run": choose(bench.probe, BEST, ["run"])} if set(BACKENDS) <= set(names) and runs else {}
    host = {
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "processors": _processors(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    fixes = dict.fromkeys(capability.fix for probe in probes for capability in probe.capabilities if capability.fix)
    if not json:
        _show(host, probes)
        missing = [
            (probe.backend, c.name, c.state.value, c.fix or "nothing: this version does not have it")
            for probe in probes
            for c in probe.capabilities
            if c.state is not State.PRESENT
        ]
        if missing:
            print_table(("backend", "missing", "state", "what brings it"), missing, "Missing")
        rows = [("run models", ", ".join(runs) or "none"), ("build engines", ", ".join(builds) or "none")]
        print_table(("can", "backends"), rows)
        for choice in found.values():
            console().print(f"Best: {choice.reason}", soft_wrap=True)
    document = {"host": host, "backends": probes, "fixes": list(fixes), "runs": runs, "builds": builds}
    leave(PASSED if runs else NOTHING, document, as_json=json)


def _show(host: dict[str, Any], probes: list[Any]) -> None:
    packages = ", ".join(f"{name} {version}" for name, version in host["packages"].items())
    print_table(("this machine", ""), [(name, str(host[name])) for name in ("python", "platform", "processors")])
    console().print(f"Packages: {packages}")
    for probe in probes:
        facts = [f"{name} {value}" for name, value in probe.environment.items() if value and isinstance(value, str)]
        rows = [(c.name, c.state.value, c.evidence) for c in probe.capabilities]
        print_table(("capability", "state", "evidence"), rows, f"{probe.backend} {probe.version}  {', '.join(facts)}")


def _processors() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
