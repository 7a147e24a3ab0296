"""A run in the store of measurements: where ``--trt-store`` names one, it goes there when it ends."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from harness.errors import NoStoreError, SpecError, StoreError
from harness.ledger import commit, ended
from harness.pytest_plugin import quarantines

if TYPE_CHECKING:
    from harness.ledger.store import Store
    from harness.pytest_plugin.run import Run

T = TypeVar("T")
PATIENCE = 5.0  # seconds that a store is waited for by who can do without


def understood(url: str | None) -> None:
    """SpecError where ``url`` is no address of a store: that is known before anything is measured."""
    if url is None:
        return
    from harness.ledger.store import address

    try:
        address(url)
    except StoreError as error:
        raise SpecError(f"--trt-store: {error}") from None


def asked(run: Run, what: str, work: Callable[[Store], T]) -> T | None:
    """What ``work`` finds in the store that is named; None without one.

    One that can't be read fails nothing here: that ``what`` is not known is said when the run ends. So it is waited for
    no longer than `PATIENCE`, and asked no more, by no worker that is started then.
    """
    if run.settings.store is None:
        return None
    from harness.ledger.store import store_in

    try:
        if not run.refused:
            with store_in(run.home, run.settings.store, create=False, patience=PATIENCE) as opened:
                return work(opened)
    except NoStoreError:  # before the first run that is stored
        return None
    except StoreError as error:
        run.refused = str(error)
    run.unread[what] = f"{what} is not known: {run.refused}"
    return None


def begin(run: Run) -> None:
    """Note the commit that is tested: when the run ends, another may be checked out."""
    if run.settings.store is not None:
        run.make_folder()
        commit.note(run.folder, run.config.rootpath)


def end(run: Run, code: int) -> None:
    """Note how it ended, with its exit code but for what storing it may come to."""
    from collections import Counter

    if not run.folder.is_dir():
        return
    now, args = time.time(), run.config.invocation_params.args
    made = ended.Ended(
        run.id,
        _without_password(shlex.join(["pytest", *map(str, args)]), run.settings.store),
        now - (time.monotonic() - run.began),
        now,
        code,
        Counter(record.verdict for record in run.recorded.records),
        quarantines.met(run),
        [asdict(one) for one in run.unmet],
    )
    with contextlib.suppress(OSError):  # as where the disk is full, which is said of what matters more
        ended.note(run.folder, made)


def _without_password(text: str, url: str | None) -> str:
    from harness.ledger.store import shown

    return text if url is None else text.replace(url, shown(url))


def store(run: Run) -> bool:
    """Whether all that ``run`` recorded is stored, if it is to be; what is to be said of that is in ``run.stored``."""
    url = run.settings.store
    if url is None:
        return True
    from harness.ledger.ingest import ingest
    from harness.ledger.store import shown, store_in

    try:
        with store_in(run.home, url) as opened:
            told = ingest(opened, run.folder)
    except StoreError as error:
        again = shlex.join(["trt-harness", "store", "ingest", str(run.folder), "--store", shown(url)])
        run.stored += [f"not stored: {error}", f"nothing is lost: the records are in {run.folder}: {again}"]
        return False
    run.stored += [f"stored: {told.records} records, {told.new} new rows, in {opened.name}", *told.problems]
    return True
