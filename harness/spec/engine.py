"""The whole of what is asked of a backend, and its key."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.spec.build import BuildConfig
from harness.spec.canonical import digest, digest_files, plain
from harness.spec.model import ModelSpec
from harness.spec.precision import Recipe
from harness.spec.profile import Profile


@dataclass(frozen=True)
class EngineSpec:
    """One model at one precision, with its profiles and build options."""

    model: ModelSpec
    precision: Recipe
    profiles: tuple[Profile, ...]
    config: BuildConfig

    @classmethod
    def of(cls, model: ModelSpec, precision: Recipe, config: BuildConfig | None = None) -> EngineSpec:
        """The model's own profiles and options, unless ``config`` says otherwise."""
        return cls(model, precision, model.profiles, model.config if config is None else config)

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of what is asked: model bytes with external data, recipe, profiles, every option.

        Reads (and if need be builds) the model on the first access. What the model is called,
        where it lies and what its inputs hold do not count: they do not reach the builder. Plugin
        libraries count by their bytes, too.
        """
        return digest(
            {
                "model": {"kind": self.model.source.kind, "digest": self.model.source.digest()},
                "precision": self.precision,
                "profiles": self.profiles,
                "config": _config(self.config),
            }
        )

    def plan_key(self, fingerprint: str) -> str:
        """SHA-256 of the key and of the fingerprint of what builds it."""
        return digest({"key": self.key, "fingerprint": fingerprint})


def _config(config: BuildConfig) -> dict[str, Any]:
    """Build options as a builder takes them: plugin libraries by their bytes, sets of names in any order."""
    found: dict[str, Any] = plain(config) | {"plugins": [_library(path) for path in config.plugins]}
    for name in ("flags", "tactic_sources"):
        found[name] = None if found[name] is None else sorted(set(found[name]))
    return found


def _library(path: str) -> str:
    if not Path(path).is_file():
        raise SpecError(f"plugin library {path!r}: no such file")
    return digest_files([Path(path)])
