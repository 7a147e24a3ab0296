"""What an engine says of itself."""

from __future__ import annotations

import json
from typing import Any

from harness.errors import DeserializeError
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.protocol import EngineInfo, IOTensor


def describe(dialect: Dialect, engine: Any, seconds: float) -> EngineInfo:
    """Inputs, outputs, profiles and facts of a deserialized engine."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    tensors = tuple(tensor(dialect, engine, name) for name in names)
    facts = dialect.facts(engine)
    facts["profile_shapes"] = [
        {t.name: told for t in tensors if t.mode == "input" and (told := profile_of(dialect, engine, t, index))}
        for index in range(engine.num_optimization_profiles)
    ]
    memory = dialect.profile_memory(engine)
    if memory is not None:
        facts["device_memory_by_profile"] = memory
    return EngineInfo(tensors, engine.num_optimization_profiles, facts, {"deserialize": seconds})


def tensor(dialect: Dialect, engine: Any, name: str) -> IOTensor:
    """One input or output."""
    trt = dialect.trt
    return IOTensor(
        name,
        "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output",
        dialect.dtype(engine.get_tensor_dtype(name)),
        tuple(engine.get_tensor_shape(name)),
        dialect.on_host(engine, name),
        dialect.format(engine, name),
    )


def profile_of(dialect: Dialect, engine: Any, tensor: IOTensor, profile: int) -> list[list[int]] | None:
    """Smallest, optimal and largest shape of an input, or contents where those decide shapes and are told."""
    if tensor.shape_tensor:
        return dialect.profile_values(engine, tensor.name, profile)
    return [list(shape) for shape in engine.get_tensor_profile_shape(tensor.name, profile)]


def layers(dialect: Dialect, engine: Any, context: Any, logger: Any) -> dict[str, Any]:
    """What the inspector tells of ``engine``; of ``context``, where there is one, sizes and formats, too."""
    with logger.listen() as heard:
        inspector = dialect.inspector(engine)
        if inspector is None:
            raise DeserializeError(heard.says("no inspector could be made, and no reason was given"))
        if context is not None:
            inspector.execution_context = context
        text = inspector.get_engine_information(dialect.trt.LayerInformationFormat.JSON)
        try:
            told = json.loads(text, strict=False)  # what separates origins is a control character, escaped or not
        except ValueError as error:
            raise DeserializeError(heard.says(f"what the inspector tells can't be read: {error}")) from error
        if not isinstance(told, dict):
            raise DeserializeError(heard.says(f"what the inspector tells is a {type(told).__name__}, not an object"))
    return told
