"""New weights for an engine that is there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from harness.errors import RefitError, UnsupportedError
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.protocol import Array, HowToRefit, LayerWeights, Refittable, Weights
from harness.runtime.device import Buffer, CudaError, Stream
from harness.spec.names import listed


class Refit:
    """One refitter, for one attempt: what was set and not applied goes with it. A context manager.

    TensorRT copies nothing: what is set is read where it lies, and held here until all is over.
    """

    def __init__(self, dialect: Dialect, engine: Any, logger: Any, how: HowToRefit = "plain") -> None:
        self._dialect, self._logger, self._how = dialect, logger, how
        if lacking := dialect.lacks_refit(how):
            raise UnsupportedError(*lacking)
        with logger.listen() as heard:
            self._refitter = dialect.refitter(engine, logger)
            if self._refitter is None:
                raise RefitError(heard.says("no refitter could be made, and no reason was given"))
        self._held: list[Any] = []
        self._given: list[str] = []  # in words
        self._open = contextlib.ExitStack()
        self._stream: Stream | None = None if how == "plain" else self._open.enter_context(Stream())

    def __enter__(self) -> Refit:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._held.clear()

    def lists(self) -> Refittable:
        """All that there is, and what has to be given beside that which was set."""
        refitter = self._refitter
        return Refittable(
            tuple(refitter.get_all_weights()),
            _places(refitter.get_all()),
            tuple(refitter.get_missing_weights()),
            _places(refitter.get_missing()),
        )

    def set(self, weights: Weights, layers: LayerWeights) -> None:
        """RefitError for the first that is refused."""
        for name, array in weights.items():
            with self._refusals(f"weights {name!r}", array, unknown=tuple(weights)) as accepted:
                accepted(self._dialect.set_named_weights(self._refitter, name, *self._lent(array)))
        for layer, roles in layers.items():
            for role, array in roles.items():
                with self._refusals(f"weights of layer {layer!r} in the role {role!r}", array) as accepted:
                    accepted(self._dialect.set_weights(self._refitter, layer, role, self._hold(array)))

    def apply(self) -> None:
        """Replace all that was set. RefitError, and nothing is replaced, when something is missing."""
        with self._logger.listen() as heard:
            now = self.lists()
            if now.missing or now.missing_places:
                places = [f"{role} of {layer!r}" for layer, role in now.missing_places]
                raise RefitError(
                    f"these weights must be given, too: {', '.join(now.missing or places)}",
                    detail={"missing": now.missing, "missing_places": now.missing_places},
                )
            self._replace(heard)

    def apply_from(self, model: str) -> None:
        """Replace all by what the parser's refitter reads from the ONNX file ``model``."""
        with self._logger.listen() as heard:
            refused = self._dialect.refit_from_file(self._refitter, self._logger, model)
            if refused is not None:
                raise RefitError(f"{model}: {refused or heard.says('the parser refitted nothing, without a reason')}")
            self._given.append(f"the weights of {model}")
            self._replace(heard)

    def _replace(self, heard: Any) -> None:
        try:
            done = self._dialect.refit(self._refitter, self._stream.handle if self._stream else None)
            if self._stream is not None:
                self._stream.synchronize()
        except CudaError as error:
            raise RefitError(error.message, detail={**error.detail, "replace_host": True}) from error
        if not done:
            # 8.6 takes weights of the wrong size, refuses them as late as here, and does not say which.
            words = heard.says("the refit failed, and no reason was given")
            raise RefitError(f"{listed(self._given)}: {words}")

    @contextlib.contextmanager
    def _refusals(self, what: str, array: Array, unknown: Sequence[str] = ()) -> Any:
        """What is refused inside is a RefitError that names it; ``unknown``: names of which some may be."""
        what = f"{what}, {array.dtype}{list(array.shape)}"
        self._given.append(what)
        with self._logger.listen() as heard:

            def accepted(done: bool) -> None:
                if done and not heard.errors:
                    return
                listed = self._refitter.get_all_weights()
                missed = tuple(name for name in unknown if name not in listed)
                detail = {"unknown": missed} if missed else {}
                raise RefitError(f"{what}: {heard.says('refused without a reason')}", detail=detail)

            try:
                yield accepted
            except (
                TypeError,
                LookupError,
            ) as error:  # of an element type, or in a role, that this version does not have
                raise RefitError(f"{what}: {error}") from error

    def _hold(self, array: Array) -> Any:
        array = self._dialect.narrowed(array)
        self._held.append(array)
        return self._dialect.trt.Weights(array)

    def _lent(self, array: Array) -> tuple[Any, bool]:
        """The weights, and whether they lie on the device."""
        if self._how != "device" or self._stream is None:
            return self._hold(array), False
        array = self._dialect.narrowed(array)
        buffer = self._open.enter_context(Buffer())
        buffer.reserve(array.nbytes)
        self._stream.upload(array, buffer)
        self._stream.synchronize()
        return self._dialect.device_weights(array, buffer.address), True


def _places(told: tuple[list[str], list[Any]]) -> tuple[tuple[str, str], ...]:
    layers, roles = told
    return tuple((layer, role.name) for layer, role in zip(layers, roles, strict=True))
