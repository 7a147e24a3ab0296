"""The one logger of this process, and what it heard during a call."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.errors import HarnessError, StageError
from harness.runtime.messages import Messages

# Without a driver many calls end with this beside their own error; 35 is cudaErrorInsufficientDriver.
NO_DRIVER_ECHO = ("catchCudaError", "cudaError 35")
FORWARD = logging.getLogger("harness.runtime.nv")
UNTOLD = 1000  # errors kept for whoever asks for those that no call told of
# VERBOSE is left out: a build has tens of thousands of them.
LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
}


@dataclass(eq=False)  # told apart by identity: two that heard the same are still two
class Heard:
    """Messages received while listening; ``errors`` has the words of the worst among them."""

    messages: Messages = field(default_factory=Messages)
    errors: list[str] = field(default_factory=list)
    claim: Callable[[], None] = lambda: None  # takes the errors heard so far out of those that nobody told of

    @property
    def log(self) -> tuple[str, ...]:
        return self.messages.lines

    def says(self, fallback: str) -> str:
        """The first error in the library's own words, which is told then; ``fallback`` when it gave none."""
        self.claim()
        return self.errors[0] if self.errors else fallback


def make_logger(trt: Any) -> Any:
    """A logger of ``trt``'s own base class with a method ``listen``.

    TensorRT keeps the first logger it is given for the whole process, so there is one, and a call
    is told from its neighbours by listening around it. Who listens first listens to a whole call:
    a `StageError` that leaves it takes along all that was heard, behind what its log has already.
    Errors that no exception takes along and no words are made of are kept in ``untold``.
    The logger never raises: it is called from C++.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.ears: list[Heard] = []
            self.untold: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            level = LEVELS.get(severity.name)
            if level is None or all(words in msg for words in NO_DRIVER_ECHO):
                return
            # What is forwarded as it comes survives this process, should the call end it.
            FORWARD.log(level, "%s", msg)
            if level == logging.ERROR and len(self.untold) < UNTOLD:
                self.untold.append(msg)
            for heard in self.ears:
                heard.messages.add(level, f"[{severity.name}] {msg}")
                if level == logging.ERROR:
                    heard.errors.append(msg)

        @contextlib.contextmanager
        def listen(self) -> Iterator[Heard]:
            before = len(self.untold)

            def claim() -> None:
                del self.untold[before:]

            heard = Heard(claim=claim)
            self.ears.append(heard)
            try:
                yield heard
            except HarnessError as error:
                heard.claim()
                if isinstance(error, StageError) and self.ears[0] is heard:
                    error.log = (*error.log, *heard.log)
                raise
            finally:
                self.ears.remove(heard)

        def take(self) -> tuple[str, ...]:
            """The errors that nobody told of, each given out once."""
            taken = tuple(self.untold)
            self.untold.clear()
            return taken

    return Logger()
