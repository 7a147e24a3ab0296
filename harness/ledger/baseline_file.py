"""Policies, baselines and quarantines as one file in the user's repository, small enough to be reviewed.

::

    schema = 1

    [policy.latency]            # or memory, size, build, once
    tolerance = 0.01            # relative loss up to which a cell passes
    cap = 0.05                  # to which a cell's own noise may widen it
    drift = 0.03                # what a cell may lose since the pinned release
    gated = true                # whether a regression fails

    [[quarantine]]
    cell = "bert*"              # glob
    owner = "ada"
    reason = "two kernels take turns"
    until = 2026-12-31          # the last day that it holds

    [[baseline]]                # or [[release]], of what is pinned
    key = "5f..."
    cell = "bert-fp16-opt-tensorrt on NVIDIA H200"
    plans = ["a1..."]
    sessions = ["20260131-142501-9f3a", "20260201-142503-11ab"]
    reason = "release 3.2"
    actor = "ada"
    at = 2026-02-02T09:00:00+00:00
    model = "3d..."
    days = 2
    environment = { library = "8.6.1", driver = "580.159.04" }

    [baseline.metrics."gpu, graph"]
    unit = "s"
    values = [0.0001442, 0.0001443]
    spread = 0.0012
    tolerance = 0.01
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from harness.errors import SpecError
from harness.ledger.baselines import Baseline, Baselines, Known, Quarantine
from harness.ledger.policy import DEFAULTS, Policy
from harness.spec.names import suggestion

SCHEMA = 1
FILE = "trt-baselines.toml"  # in the root folder, unless a setting names another
DIGITS = 6  # of a value that is written: far finer than any change that could be shown


def read(path: Path) -> Baselines:
    """What ``path`` holds; where there is no file the default policies alone. SpecError names what is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Baselines(DEFAULTS)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not TOML: {error}") from None
    try:
        return _understood(document)
    except (SpecError, TypeError, KeyError, ValueError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SpecError(f"{path}: {said}") from None


def _understood(document: dict[str, Any]) -> Baselines:
    if document.pop("schema", None) != SCHEMA:
        raise SpecError(f"schema: expected {SCHEMA}")
    unknown = sorted(document.keys() - {"policy", "quarantine", "baseline", "release"})
    if unknown:
        raise SpecError(f"unknown key {unknown[0]!r}: known are policy, quarantine, baseline, release")
    policies = dict(DEFAULTS)
    for kind, table in document.get("policy", {}).items():
        if kind not in policies:
            raise SpecError(f"policy.{kind}: unknown: known are {', '.join(DEFAULTS)}")
        for name, value in table.items():
            if name != "gated" and not _is_number(value):
                raise SpecError(f"policy.{kind}: {name} = {value!r}: expected a number")
        _known_keys(f"policy.{kind}", table, Policy, required=False)
        policies[kind] = dataclasses.replace(policies[kind], **table)
    active = [of_table(table) for table in document.get("baseline", [])]
    releases = [of_table(table) for table in document.get("release", [])]
    for found in (active, releases):
        keys = [one.key for one in found]
        twice = next((one.cell for one in found if keys.count(one.key) > 1), None)
        if twice:
            raise SpecError(f"{twice}: there twice: a cell has one baseline, and is pinned once")
    for table in document.get("quarantine", []):
        _known_keys(f"quarantine of {table.get('cell', '?')}", table, Quarantine)
    quarantines = tuple(Quarantine(**table) for table in document.get("quarantine", []))
    for one in quarantines:
        if not (isinstance(one.cell, str) and one.cell.strip()):
            raise SpecError(f"quarantine of {one.cell!r}: expected the name of a cell or a pattern, in quotes")
        if not isinstance(one.owner, str) or not isinstance(one.reason, str):
            raise SpecError(f"quarantine of {one.cell}: expected owner and reason in quotes")
        if not (one.owner.strip() and one.reason.strip()) or type(one.until) is not datetime.date:
            raise SpecError(f"quarantine of {one.cell}: owner, reason and until, a date without quotes, are needed")
    return Baselines(policies, {one.key: one for one in active}, {one.key: one for one in releases}, quarantines)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]  # mypy narrows by `isinstance` alone, which a bool passes


def of_table(table: Mapping[str, Any]) -> Baseline:
    """The inverse of `as_table`. SpecError, KeyError or TypeError for anything else."""
    for name in ("key", "cell"):
        if not isinstance(table.get(name, ""), str):
            raise SpecError(f"{name} = {table[name]!r}: expected text, in quotes")
    title = f"baseline of {table.get('cell', '?')}"
    _known_keys(title, table, Baseline)
    for name, known in table["metrics"].items():
        _known_keys(f"{title}: {name}", known, Known)
    metrics = {
        name: Known(**{**known, "values": tuple(float(one) for one in known["values"])})
        for name, known in table["metrics"].items()
    }
    lists = {name: tuple(table[name]) for name in ("plans", "sessions")}
    return Baseline(**{**table, **lists, "metrics": metrics})


def _known_keys(where: str, table: Mapping[str, Any], kind: type, *, required: bool = True) -> None:
    """SpecError, from ``where``, for a key that ``kind`` does not have, or one without default that is missing."""
    known = dataclasses.fields(kind)
    unknown = sorted(table.keys() - {one.name for one in known})
    if unknown:
        names = [one.name for one in known]
        raise SpecError(
            f"{where}: unknown key {unknown[0]!r}: {suggestion(unknown[0], names)}known are {', '.join(names)}"
        )
    bare = (one for one in known if one.default is one.default_factory is dataclasses.MISSING)
    missing = [one.name for one in bare if one.name not in table]
    if missing and required:
        raise SpecError(f"{where}: no {missing[0]!r}")


def write(path: Path, baselines: Baselines) -> None:
    """Whole, or as it was. The same baselines give the same text, so that a change of one shows as that one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text_of(baselines), encoding="utf-8")
    temporary.replace(path)


def text_of(baselines: Baselines) -> str:
    """The file's text, cells in alphabetical order. Policies that are the default are left out."""
    document: dict[str, Any] = {"schema": SCHEMA}
    policies = {kind: policy for kind, policy in baselines.policies.items() if policy != DEFAULTS.get(kind)}
    if policies:
        document["policy"] = {kind: dataclasses.asdict(policy) for kind, policy in sorted(policies.items())}
    if baselines.quarantines:
        document["quarantine"] = [dataclasses.asdict(one) for one in baselines.quarantines]
    for name, found in (("baseline", baselines.active), ("release", baselines.releases)):
        if found:
            document[name] = [as_table(one) for one in sorted(found.values(), key=lambda one: (one.cell, one.key))]
    return tomli_w.dumps(document, multiline_strings=False)


def as_table(baseline: Baseline) -> dict[str, Any]:
    """As it is written; values to `DIGITS` digits."""
    table = {
        item.name: getattr(baseline, item.name)
        for item in dataclasses.fields(baseline)
        if getattr(baseline, item.name) not in ("", None, 0)
    }
    return {
        **table,
        "plans": list(baseline.plans),
        "sessions": list(baseline.sessions),
        "environment": dict(sorted(baseline.environment.items())),
        "metrics": {name: _known(known) for name, known in sorted(baseline.metrics.items())},
    }


def _known(known: Known) -> dict[str, Any]:
    return {
        "unit": known.unit,
        "values": [_rounded(value) for value in known.values],
        "spread": _rounded(known.spread),
        "tolerance": _rounded(known.tolerance),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
