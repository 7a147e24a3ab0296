"""Hooks of this plugin, for a conftest.py or a plugin to implement."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from harness.spec import ModelSpec


@pytest.hookspec
def pytest_trt_models(config: pytest.Config) -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Models of your own, beside the zoo's and those of ``--trt-models``.

    Called once a process, while tests are collected: describe models here and build them in their
    `Source`, so that collecting stays fast and the same in every process.
    """
