"""From an ONNX file, or a callable, to a TensorRT network."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from harness.errors import ParseError
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.protocol import BuildRequest


def parse(dialect: Dialect, network: Any, path: str, logger: Any) -> None:
    """Read the file at ``path`` into ``network``, external data from beside it.

    ParseError carries code, node, operator and reason of the first error the parser reports in its
    ``detail``, all of them in its ``log``.
    """
    with logger.listen() as heard:
        parser = dialect.trt.OnnxParser(network, logger)
        if parser is None:
            raise ParseError(heard.says("no parser could be made, and no reason was given"))
        # 8.6 would otherwise turn InstanceNormalization into a plugin that needs cuDNN.
        if dialect.parser_flags_work:
            parser.set_flag(dialect.member("OnnxParserFlag", "NATIVE_INSTANCENORM"))
        parsed = parser.parse_from_file(path)
        errors = [dialect.parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
    if errors:
        first = errors[0]
        if "operator" not in first:  # 8.6 names it in its log alone
            named = re.search(rf"While parsing node number {first['node']} \[(\w+)", "\n".join(heard.log))
            first["operator"] = named[1] if named else ""
        at = f"node {first['node']}" + (f" ({first['operator']})" if first.get("operator") else "")
        log = tuple(f"{e['code']} at node {e['node']} {e.get('operator', '')}: {e['reason']}" for e in errors)
        raise ParseError(f"{first['code']} at {at}: {first['reason']}", log=log, detail=first)
    if not parsed:
        raise ParseError(heard.says("the parser said False and named no error"))
    # Empty and some broken files are "parsed" into nothing without a word.
    if network.num_outputs == 0:
        raise ParseError("the parser said True, but the network has no outputs: not an ONNX model?")


def call(network: Any, request: BuildRequest, logger: Any) -> bytes | None:
    """Let the user's callable fill ``network``; the plan it returns instead, or None."""
    module, _, function = request.network.partition(":")
    if request.network_folder and request.network_folder not in sys.path:
        sys.path.insert(0, request.network_folder)
    try:
        target = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ParseError(f"{request.network}: {error}: give it as package.module:function") from error
    try:
        result = target(network, logger)
    except Exception as error:  # whatever the user's function raises
        raise ParseError(f"{request.network} raised {type(error).__name__}: {error}") from error
    if result is None and network.num_outputs == 0:
        raise ParseError(f"{request.network} marked no output and returned no plan")
    return None if result is None else bytes(result)
