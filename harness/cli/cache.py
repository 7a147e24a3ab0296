"""``cache``: plans and timing caches on disk, listed, verified, tidied, taken away."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.cli import options
from harness.cli.exits import FAILED, NOTHING, PASSED
from harness.cli.output import leave, print_table, say
from harness.errors import SpecError

if TYPE_CHECKING:
    from harness.runtime.inventory import Item, Removal
    from harness.settings import Settings

SHORT = 16  # digits of a key that tell it from others

app = typer.Typer(
    help="List plans and timing caches, verify them, tidy up, or take all away. A plan is code: a cache from "
    "elsewhere is as good as a program from there.",
    no_args_is_help=True,
)


@app.command("ls")
def ls(cache: options.Cache = None, json: options.Json = False) -> None:
    """List what is kept: what it is of, what made it, how large it is and when it was last used.

    Nothing is verified. Exits with 3 when nothing is kept.
    """
    from harness.runtime.inventory import items

    folder = _folder(options.settings(cache=cache))
    found = list(reversed(items(folder)))
    described = [_described(item) for item in found]
    if not json:
        columns = ("key", "what", "model", "precision", "made by", "size", "last used")
        print_table(columns, map(_row, described), str(folder))
        typer.echo(_total(found))
    leave(PASSED if found else NOTHING, {"folder": str(folder), "entries": described}, as_json=json)


@app.command("verify")
def verify(cache: options.Cache = None, json: options.Json = False) -> None:
    """Read every entry and say which can't be trusted, and why. Nothing is changed.

    Exits with 1 when there is one, and with 3 when nothing is kept.
    """
    from harness.runtime.inventory import items

    folder = _folder(options.settings(cache=cache))
    entries = [item for item in items(folder) if item.is_entry]
    wrong = {item.path.name: reason for item in entries if (reason := item.verify())}
    if not json:
        for name, reason in wrong.items():
            typer.echo(f"{name} {reason}")
        typer.echo(f"{folder}: {len(entries)} entries, {len(wrong)} of them can't be trusted")
    document = {"folder": str(folder), "entries": len(entries), "wrong": wrong}
    leave(FAILED if wrong else PASSED if entries else NOTHING, document, as_json=json)


@app.command("prune")
def prune(
    cache: options.Cache = None,
    cache_size: options.CacheSize = None,
    backend: options.Backends = None,
    python: options.Pythons = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Take away what is of no more use, then what was used longest ago until the rest fits into --cache-size.

    Of no more use is what was set aside, what killed processes left, what this version can't read, and
    what another version of a backend that is here, or the same for another GPU, has made.
    """
    from harness.runtime.fingerprint import fingerprint
    from harness.runtime.inventory import items, make_room, stale
    from harness.runtime.workbench import Workbench
    from harness.settings import BACKENDS, BEST

    settings = options.settings(
        cache=cache,
        cache_size=cache_size,
        backend=backend,
        python=python,
        probe_timeout=probe_timeout,
        in_process=in_process,
    )
    folder = _folder(settings)
    names = dict.fromkeys(name for asked in settings.backend for name in (BACKENDS if asked == BEST else (asked,)))
    with Workbench(settings) as bench:
        probes = [bench.probe(name) for name in names]
    here = {probe.backend: fingerprint(probe) for probe in probes if probe.has("import")}
    removed = [removal for removal in stale(items(folder), here) if removal.item.remove()]
    removed += make_room(folder, settings.cache_size)
    _told(folder, removed, json)


@app.command("clear")
def clear(cache: options.Cache = None, json: options.Json = False) -> None:
    """Take away all that is kept, but for what somebody is reading or building."""
    from harness.runtime.inventory import Removal, items

    folder = _folder(options.settings(cache=cache))
    removed = [Removal(item, "cleared") for item in items(folder) if item.remove()]
    _told(folder, removed, json)


def _folder(settings: Settings) -> Path:
    from harness.runtime.cache import default_folder

    folder = settings.cache or default_folder()
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder: name that of a cache with --cache DIR")
    return folder


def _told(folder: Path, removed: Sequence[Removal], json: bool) -> None:
    from harness.runtime.inventory import items

    left = items(folder)
    if not json:
        for removal in removed:
            say(f"{removal.item.path.name}: {removal.reason}")
        typer.echo(f"{folder}: {len(removed)} taken away; {_total(left)}")
    document = {
        "folder": str(folder),
        "removed": [{"file": removal.item.path.name, "reason": removal.reason} for removal in removed],
        "left": len(left),
        "bytes": sum(item.size for item in left),
    }
    leave(PASSED, document, as_json=json)


def _described(item: Item) -> dict[str, Any]:
    """What an item and its header say, or why the header says nothing."""
    from harness.runtime.envelope import EnvelopeError

    found: dict[str, Any] = {"key": item.key, "what": item.what, "size": item.size, "used": item.used}
    if item.is_entry:
        try:
            header = item.header()
        except EnvelopeError as error:
            return {**found, "problem": str(error)}
        found |= {"made": header.made, "producer": header.producer, "facts": header.facts}
    return found


def _row(described: dict[str, Any]) -> tuple[str, ...]:
    from harness.runtime.inventory import maker

    facts = described.get("facts", {})
    made_by = described.get("problem") or maker(described.get("producer", {}))
    used = datetime.datetime.fromtimestamp(described["used"]).strftime("%Y-%m-%d %H:%M")
    named = (str(facts.get(name, "")) for name in ("model", "precision"))
    return (described["key"][:SHORT], described["what"], *named, made_by, f"{described['size']:,}", used)


def _total(found: Iterable[Item]) -> str:
    sizes = [item.size for item in found]
    return f"{len(sizes)} files, {sum(sizes):,} bytes"
