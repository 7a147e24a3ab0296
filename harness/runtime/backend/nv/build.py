"""From a network to a plan."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from harness.errors import BuildError, SpecError, UnsupportedError
from harness.runtime.backend.nv import timings
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.nv.parse import call, parse
from harness.runtime.backend.protocol import Array, BuildRequest, Plan, Progress, Shape, asked_name
from harness.spec.precision import Recipe


def build(dialect: Dialect, builder: Any, request: BuildRequest, logger: Any, progress: Progress | None = None) -> Plan:
    """Parse and build. ParseError, BuildError; UnsupportedError for what this version lacks.

    The seconds of "parse" are those until the network stands, those of "build" all the others: options,
    the builder itself, the copy of the plan, and letting go of network and config.
    """
    if request.recipe.typing == "weak" and not dialect.weak_typing:
        raise UnsupportedError("weak typing", f"{dialect.trt.__name__} {dialect.version} types every network strongly")
    started = time.perf_counter()
    with logger.listen() as heard:
        plan, known, parsed = _parse_and_build(dialect, builder, request, logger, progress)
    seconds = {"parse": parsed - started, "build": time.perf_counter() - parsed}
    # Its key knows the plugin libraries by content, and not what they load in turn.
    keep = not request.config.plugins
    return Plan(np.frombuffer(plan, np.uint8), seconds, heard.log, keep, timing_cache=known)


def _parse_and_build(
    dialect: Dialect, builder: Any, request: BuildRequest, logger: Any, progress: Progress | None
) -> tuple[bytes, Array | None, float]:
    """The plan, what its timing cache has become, and when the network stood."""
    typed = request.recipe.typing == "strong" and dialect.strong_typing
    # Weights can be streamed in strongly typed networks alone; where both mean the same it may be one.
    streams = "WEIGHT_STREAMING" in request.config.flags and request.recipe.typing == "any"
    strong = typed or (streams and dialect.strong_typing)
    tell = progress or (lambda _phase, _step, _steps: None)
    tell("parse", 0, 1)
    with logger.listen() as heard:
        network = _made(builder.create_network(dialect.network_flags(strongly_typed=strong)), "network", heard)
    plan = None
    if request.network:
        plan = call(network, request, logger)
    else:
        parse(dialect, network, request.model, logger)
    parsed = time.perf_counter()
    tell("build", 0, 1)
    if plan is not None:
        return plan, None, parsed
    config = _configure(dialect, builder, request, typed, logger)
    if request.config.refittable:
        with logger.listen():
            dialect.mark_refittable(network, request.config.refittable)
    if quantizes(dialect, network) and dialect.weak_typing and not strong:
        config.set_flag(dialect.member("BuilderFlag", "INT8"))
    _add_profiles(builder, network, config, request, logger)
    cache = timings.attach(dialect, config, request, logger)
    if progress is not None and dialect.progress_monitor:
        config.progress_monitor = dialect.monitor(progress)
    with logger.listen() as heard:
        memory = _serialized(dialect, builder, network, config, stream=request.stream)
        if memory is None:
            raise BuildError(heard.says("the builder returned no plan and named no reason"))
    return bytes(memory), None if cache is None else timings.serialized(cache), parsed


def _serialized(dialect: Dialect, builder: Any, network: Any, config: Any, *, stream: bool) -> Any:
    """The plan, at once or in the pieces that a stream writer is given; None when there is none."""
    if not stream:
        return builder.build_serialized_network(network, config)
    if not dialect.writes_streams:
        raise UnsupportedError("stream_writer", f"{dialect.trt.__name__} {dialect.version} writes no streams")
    pieces: list[bytes] = []
    done = builder.build_serialized_network_to_stream(network, config, dialect.stream_writer(pieces))
    return b"".join(pieces) if done else None


def _made(thing: Any, what: str, heard: Any) -> Any:
    if thing is None:
        raise BuildError(heard.says(f"no {what} could be made, and no reason was given"))
    return thing


def _configure(dialect: Dialect, builder: Any, request: BuildRequest, strong: bool, logger: Any) -> Any:
    trt, asked = dialect.trt, request.config
    # Setters log an error where they should raise, so all of them are listened to.
    with logger.listen() as heard:
        config = _made(builder.create_builder_config(), "builder config", heard)
        dialect.share_profiles(config)
        for name in flags_for(dialect, request.recipe, strong=strong):
            config.set_flag(dialect.member("BuilderFlag", name))
        if "TF32" not in request.recipe.flags:
            config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and good for errors of 4e-3
        for name in (*asked.flags, *(("REFIT_INDIVIDUAL",) if asked.refittable else ())):
            config.set_flag(dialect.member("BuilderFlag", name))
        if asked.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, asked.workspace)
        if asked.optimization_level is not None:
            dialect.set_option(config, "builder_optimization_level", asked.optimization_level)
        if asked.tactic_sources is not None:
            bits = sum(1 << int(dialect.member("TacticSource", name)) for name in asked.tactic_sources)
            if not config.set_tactic_sources(bits):
                names = ", ".join(asked.tactic_sources) or "none at all"
                raise BuildError(heard.says(f"tactic sources: {names}: refused, and no reason was given"))
        if asked.aux_streams is not None:
            dialect.set_option(config, "max_aux_streams", asked.aux_streams)
        if asked.hardware_compatibility is not None:
            level = dialect.member("HardwareCompatibilityLevel", asked.hardware_compatibility)
            dialect.set_option(config, "hardware_compatibility_level", level)
        if asked.profiling_verbosity is not None:
            config.profiling_verbosity = dialect.member("ProfilingVerbosity", asked.profiling_verbosity)
        if asked.targets:
            dialect.set_target(config, asked.targets)
        if heard.errors:
            raise BuildError(f"an option was refused: {heard.errors[0]}")
    return config


def flags_for(dialect: Dialect, recipe: Recipe, *, strong: bool) -> tuple[str, ...]:
    """The recipe's builder flags, less those that its types say already in a strongly typed network."""
    if strong or (recipe.typing == "strong" and not dialect.weak_typing):
        return ()
    return recipe.flags


def quantizes(dialect: Dialect, network: Any) -> bool:
    """Whether the network has Q/DQ layers: a weakly typed one is built only where INT8 is allowed."""
    kinds = [dialect.member("LayerType", name) for name in ("QUANTIZE", "DEQUANTIZE")]
    return any(network.get_layer(index).type in kinds for index in range(network.num_layers))


def _add_profiles(builder: Any, network: Any, config: Any, request: BuildRequest, logger: Any) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    shaping = [tensor for tensor in inputs if tensor.is_shape_tensor]
    if not dynamic and not shaping:
        return
    for index, (shapes, contents) in enumerate(zip(request.profiles, request.contents, strict=True)):
        with logger.listen() as heard:
            profile = builder.create_optimization_profile()
            for tensor in dynamic:
                sizes = _asked(shapes, tensor.name, request, f"profile {index} gives no shapes for")
                declared = tuple(tensor.shape)
                profile.set_shape(
                    tensor.name, *(_filled(shape, declared) for shape in (sizes.min, sizes.opt, sizes.max))
                )
            for tensor in shaping:
                values = _asked(contents, tensor.name, request, f"profile {index} gives no values for the shape tensor")
                profile.set_shape_input(tensor.name, values.min, values.opt, values.max)
            if config.add_optimization_profile(profile) < 0 or heard.errors:
                raise BuildError(heard.says(f"profile {index} was refused, and no reason was given"))


def _asked(ranges: Any, name: str, request: BuildRequest, problem: str) -> Any:
    asked = asked_name(name, ranges)
    if asked not in ranges:
        raise SpecError(f"{request.name}: {problem} input {name!r}")
    return ranges[asked]


def _filled(asked: Shape, declared: Shape) -> Shape:
    """``asked``, with the network's own sizes where it asks for none: -1, or nothing from some axis on.

    So a callable's network, of which nobody has read a file, takes a profile of some of its axes.
    """
    if len(asked) > len(declared):
        return asked  # not the network's own: TensorRT refuses it in its own words
    rest = declared[len(asked) :]
    return tuple(own if size < 0 else size for size, own in zip(asked, declared, strict=False)) + rest
