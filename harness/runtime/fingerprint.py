"""What made a plan, in one digest, and where a record was made, in one mapping."""

from __future__ import annotations

from typing import Any

from harness.runtime.capability import Probe
from harness.spec.canonical import digest

PLAN_FORMAT = 1  # raise it when the harness itself builds other plans from equal requests

# Of `Probe.environment`, what a plan may depend on; a backend leaves out what does not apply to it.
FACTS = (
    "library_version",  # "8.6.0": of the library under the bindings, which have the backend's version
    "gpu",  # the product's name
    "compute_capability",  # "9.0"
    "cuda_driver",  # 12020: the CUDA version of the driver, which is one for all drivers of a branch
)


def fingerprint(probe: Probe) -> str:
    """SHA-256 over backend, its versions, GPU product, compute capability, driver class and `PLAN_FORMAT`.

    The class of a driver is the CUDA version it brings: 535.161.08 and 535.54.03 count as one. What else
    the environment holds (memory, UUID, numpy) does not count.
    """
    facts = probe.environment
    return digest(
        {
            "backend": probe.backend,
            "version": probe.version,
            "plan_format": PLAN_FORMAT,
            **{name: facts.get(name) or None for name in FACTS},
        }
    )


def environment(probe: Probe) -> dict[str, Any]:
    """What a record says of where it was made: the probe's facts with backend, version and fingerprint."""
    return {
        **probe.environment,
        "backend": probe.backend,
        "version": probe.version,
        "fingerprint": fingerprint(probe),
    }
