"""A run in the store of measurements: where ``--trt-store`` names one, it goes there when it ends."""

from __future__ import annotations

import contextlib
import shlex
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.errors import SpecError, StoreError
from harness.ledger import commit, ended
from harness.pytest_plugin import quarantines

if TYPE_CHECKING:
    from harness.pytest_plugin.run import Run


def understood(url: str | None) -> None:
    """SpecError where ``url`` is no address of a store: that is known before anything is measured."""
    if url is None:
        return
    from harness.ledger.store import address

    try:
        address(url)
    except StoreError as error:
        raise SpecError(f"--trt-store: {error}") from None


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
    if url is None or "://" not in url:
        return text
    from harness.ledger.store import address

    return text.replace(url, address(url).render_as_string(hide_password=True))


def store(run: Run) -> bool:
    """Whether all that ``run`` recorded is stored, if it is to be; what is to be said of that is in ``run.stored``."""
    url = run.settings.store
    if url is None:
        return True
    from harness.ledger.ingest import ingest
    from harness.ledger.store import address, store_in

    try:
        with store_in(run.home, url) as opened:
            told = ingest(opened, run.folder)
    except StoreError as error:
        named = address(url).render_as_string(hide_password=True) if "://" in url else url
        again = shlex.join(["trt-harness", "store", "ingest", str(run.folder), "--store", named])
        run.stored += [f"not stored: {error}", f"nothing is lost: the records are in {run.folder}: {again}"]
        return False
    run.stored += [f"stored: {told.records} records, {told.new} new rows, in {opened.name}", *told.problems]
    return True
