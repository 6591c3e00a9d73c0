"""`mailraft backup`: hot, incremental, encrypted backups of a cell, and a new cluster out of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cli.backup_feed import feed_option, find_feed
from cli.groups import Group
from cli.layout import CLUSTER_FILE
from cli.options import json_option, size_bytes, token_options
from cli.output import CommandError, console, counted, iso_time, print_json, print_table, say, size_text
from cli.restore import cluster_key_option, key_file_option, run, target_options
from cli.restore_source import open_backup, read_key
from cli.token_client import is_address

if TYPE_CHECKING:
    from eventlog.backup import Grown
    from eventlog.backup_set import BackupSet

DAY_MS = 24 * 3600 * 1000

backup_argument = click.argument("folder", metavar="BACKUP", type=click.Path(path_type=Path))


@click.group(cls=Group)
def backup() -> None:
    """Make, prove, list and restore backups; drop what is old or was erased.

    A backup is a folder. Its keys are in a file elsewhere, made by `mailraft backup key FILE`.
    """


@backup.command()
@click.argument("file", type=click.Path(path_type=Path))
def key(file: Path) -> None:
    """Add a new key to FILE, which is made if it is not there; new segments are encrypted under it."""
    from eventlog.segment_keys import add_key

    with _told():
        made = add_key(file, time.strftime("%Y-%m-%d", time.gmtime()))
    say(f"{file}: the newest key is {made}; keep a copy of the file where the backups are not")


@backup.command()
@backup_argument
@feed_option
@key_file_option
@click.option(
    "--unencrypted", is_flag=True, help="Begin a backup that anybody can read, and without the cluster's key."
)
@click.option("--full", is_flag=True, help="Begin again at position 1; what is there stays until it is pruned.")
@click.option("--keep-days", type=click.IntRange(1), metavar="N", help="Prune afterwards, as `backup prune` does.")
@click.option(
    "--segment-size",
    default="64 MiB",
    show_default=True,
    metavar="SIZE",
    callback=lambda _ctx, _parameter, text: size_bytes(text),
    help="Most mail in one file, before compression: what a run that is killed has to do again.",
)
@click.option(
    "--tables-every",
    type=click.IntRange(0),
    default=500_000,
    show_default=True,
    metavar="N",
    help="Put the tables beside the log once N positions came since the last time, so that a restore need not fold "
    "those; 0 for never.",
)
@cluster_key_option
@json_option
def create(
    folder: Path,
    cluster_dir: Path | None,
    data_dir: Path | None,
    key_file: Path | None,
    cluster_key: Path | None,
    unencrypted: bool,
    full: bool,
    keep_days: int | None,
    segment_size: int,
    tables_every: int,
    as_json: bool,
) -> None:
    """Add to BACKUP what the cell has and it lacks; the first time, everything.

    The cell may run: its nodes are asked, and go on serving. A run that is killed leaves a backup that is good; the
    next one goes on with it.
    """
    from eventlog.backup import grow
    from eventlog.backup_erasure import carry_out
    from eventlog.backup_rewrite import merge

    started = time.monotonic()
    with find_feed(cluster_dir, data_dir, segment_size) as (feed, key_beside), _told():
        found = _open_or_begin(folder, feed.cell, key_file, unencrypted)
        with found.locked():
            sealing = key_beside if cluster_key is None else read_key(cluster_key)
            if sealing is not None:
                found.keep_cluster_key(sealing)
            with _progress("backup") as progress:
                grown = grow(found, feed, now_ms, progress, full=full, tables_every=tables_every)
            erased = carry_out(found, grown)
            merge(found)
            pruned = _prune(found, keep_days) if keep_days else []
    seconds = time.monotonic() - started
    if as_json:
        print_json(
            {
                **_summary(found),
                "added": grown._asdict(),
                "erased": erased,
                "pruned": pruned,
                "seconds": round(seconds, 3),
            }
        )
        return
    _say_created(found, grown, erased, pruned, seconds)


def _say_created(found: BackupSet, grown: Grown, erased: list[int], pruned: list[int], seconds: float) -> None:
    if grown.segments:
        say(
            f"{found.folder}: positions {grown.first} to {grown.last} in {counted(grown.segments, 'segment')}, "
            f"{size_text(grown.size_bytes)}, {seconds:.1f} s"
        )
    else:
        say(f"{found.folder}: nothing new after position {grown.last}")
    if erased:
        say(f"redacted since, and taken out of the segments that held it: {counted(len(erased), 'position')}")
    _say_pruned(pruned)
    if found.keys is None:
        say("note: it is not encrypted; whoever has it can read all mail. Keep cluster.key of a node beside it")
    elif found.cluster_key() is None:
        say("note: it lacks the cluster's key, which seals passwords: --cluster-key FILE, cluster.key of a node")


def _open_or_begin(folder: Path, cell: str, key_file: Path | None, unencrypted: bool) -> BackupSet:
    from eventlog.backup_set import BackupSet, is_backup
    from eventlog.segment_keys import read_keys

    if unencrypted:
        if click.get_current_context().get_parameter_source("key_file") is ParameterSource.COMMANDLINE:
            raise CommandError("--unencrypted and --key-file exclude each other", "one of them")
        key_file = None  # that of the environment, for other backups
    if is_backup(folder):
        return open_backup(folder, key_file)
    if key_file is None and not unencrypted:
        hint = "mailraft backup key FILE makes a key file"
        raise CommandError("a new backup needs either --key-file FILE or --unencrypted", hint)
    return BackupSet.create(folder, cell, read_keys(key_file) if key_file else None)


@backup.command("list")
@backup_argument
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """Show the segments of BACKUP; no key is needed."""
    from eventlog.backup_set import BackupSet

    with _told():
        found = BackupSet.open(folder)
    if as_json:
        print_json({**_summary(found), "segments": [_segment_json(*one) for one in _segments(found)]})
        return
    columns = ("chain", ">first", ">last", "from", "to", ">bytes", "key", "file")
    print_table(columns, (_segment_row(*one) for one in _segments(found)), "no segments")
    if found.tables:
        say(f"with the tables as of position {', '.join(str(one.head.position) for one in found.tables)}")


@backup.command()
@backup_argument
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="DIR|HOST:PORT",
    help="A cluster's folder, running or not, a node's, or with a token an admin API: the backup's end must be a "
    "place in its log.",
)
@token_options
@key_file_option
@json_option
def verify(folder: Path, against: Path | None, key_file: Path | None, as_json: bool) -> None:
    """Read all of BACKUP and prove it: digests, the chain from its start to its end, the hash of every body."""
    from eventlog.backup import compare_head, verify_backup

    found = open_backup(folder, key_file)
    with _told(), _progress("verify") as progress:
        report = verify_backup(found, progress)
    if against is not None:
        with find_feed(*_cluster_or_node(against)) as (feed, _), _told():
            compare_head(found, feed)
    compared = against is not None
    if as_json:
        print_json({**_summary(found), **report._asdict(), "head": report.head.hex(), "ok": True, "compared": compared})
        return
    counts = ((report.segments, "segment"), (report.positions, "position"), (report.bodies, "body"))
    what = ", ".join(counted(*one) for one in counts)
    click.echo(f"{folder}: {what}: each as it was; position {found.longest.last}, head {report.head.hex()}")
    if compared:
        click.echo("its end is a place in the log of that cell")


def _cluster_or_node(place: Path) -> tuple[Path | None, Path | None]:
    return (place, None) if (place / CLUSTER_FILE).exists() or is_address(place) else (None, place)


@backup.command()
@backup_argument
@target_options
def restore(folder: Path, **options: Any) -> None:
    """Make a new cluster from BACKUP, as it was at a moment; the same as `mailraft cluster restore --from BACKUP`."""
    run(folder, **options)


@backup.command()
@backup_argument
@click.option("--keep-days", type=click.IntRange(1), metavar="N", required=True, help="How long chains stay.")
@key_file_option
@json_option
def prune(folder: Path, keep_days: int, key_file: Path | None, as_json: bool) -> None:
    """Remove chains that ended more than N days ago, where a newer one goes as far.

    A chain holds the history from its beginning, so a moment before it was made can be restored from it as well. What
    an old chain has alone is bodies that were dropped from the cell since; --keep-days says how long they stay. The
    only whole chain is never removed. `backup create --full` begins a new one.
    """
    found = open_backup(folder, key_file)
    with _told(), found.locked():
        pruned = _prune(found, keep_days)
    if as_json:
        print_json({**_summary(found), "pruned": pruned})
        return
    _say_pruned(pruned)
    if not pruned:
        say(f"{folder}: nothing to remove")


@backup.command()
@backup_argument
@key_file_option
@json_option
def rekey(folder: Path, key_file: Path | None, as_json: bool) -> None:
    """Encrypt all of BACKUP under the newest key of the key file; the older ones are not needed for it any more."""
    from eventlog.backup_rewrite import rekey as encrypt_again

    found = open_backup(folder, key_file)
    if found.keys is None:
        raise CommandError("no key file is given", "--key-file FILE; mailraft backup key FILE adds a key to it")
    with _told(), found.locked(), _progress("rekey") as progress:
        found.clear()
        rewritten = encrypt_again(found, progress)
    if as_json:
        print_json({**_summary(found), "rewritten": rewritten})
        return
    say(f"{folder}: {counted(rewritten, 'segment')} rewritten; all of it is under the key {found.keys.current}")


@backup.command()
@backup_argument
@key_file_option
@json_option
def scrub(folder: Path, key_file: Path | None, as_json: bool) -> None:
    """Take out of BACKUP whatever its log says was redacted; `backup create` does so for what is new."""
    from eventlog.backup_erasure import scrub as take_out

    found = open_backup(folder, key_file)
    with _told(), found.locked(), _progress("scrub") as progress:
        found.clear()
        erased = take_out(found, progress)
    if as_json:
        print_json({**_summary(found), "erased": erased})
    elif erased:
        say(f"{folder}: {len(erased)} positions held parts that were redacted; they are gone from it")
    else:
        say(f"{folder}: it holds nothing that was redacted")


def _prune(found: BackupSet, keep_days: int) -> list[int]:
    from eventlog.backup import prune as prune_chains

    return [chain.number for chain in prune_chains(found, now_ms() - keep_days * DAY_MS)]


def _say_pruned(numbers: list[int]) -> None:
    if numbers:
        say(f"removed: chain {', '.join(map(str, numbers))}")


def now_ms() -> int:
    return int(time.time() * 1000)


@contextmanager
def _told() -> Iterator[None]:
    """What the log's errors mean to the one who makes backups."""
    import lmdb

    from eventlog.errors import LogError
    from eventlog.segment_keys import KeyFileError

    try:
        yield
    except KeyFileError as error:
        hint = "--key-file FILE with every key of this backup; mailraft backup key FILE makes one for a new backup"
        raise CommandError(str(error), hint) from None
    except (LogError, lmdb.Error) as error:
        raise CommandError(
            str(error), "mailraft backup list shows what is there; another backup is another folder"
        ) from None
    except OSError as error:
        raise CommandError(
            f"{error.filename}: {error.strerror or error}", "a disk with room, and the rights to write"
        ) from None


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    terminal = console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _segments(found: BackupSet) -> Iterator[tuple[Any, Any]]:
    return ((chain, segment) for chain in found.chains for segment in chain.segments)


def _summary(found: BackupSet) -> dict[str, Any]:
    chain = found.longest
    return {
        "backup": str(found.folder),
        "cell": found.cell,
        "position": chain.last,
        "at": iso_time(chain.segments[-1].header.last_at_ms) if chain.segments else None,
        "chain": chain.chain_after.hex(),
        "chains": len(found.chains),
        "size_bytes": sum(one.size_bytes for one in found.chains) + sum(one.size_bytes for one in found.tables),
        "tables": [one.head.position for one in found.tables],
        "keys": sorted(found.key_ids),
    }


def _segment_json(chain: Any, segment: Any) -> dict[str, Any]:
    header = segment.header
    return {
        "chain": chain.number,
        "file": segment.file,
        "first": header.first,
        "last": header.last,
        "from": iso_time(header.first_at_ms),
        "to": iso_time(header.last_at_ms),
        "written": iso_time(segment.written_ms),
        "size_bytes": segment.size_bytes,
        "bodies": segment.bodies,
        "body_bytes": segment.body_bytes,
        "key": header.key_id,
        "sha256": segment.digest.hex(),
    }


def _segment_row(chain: Any, segment: Any) -> tuple[object, ...]:
    one = _segment_json(chain, segment)
    return tuple(one[name] for name in ("chain", "first", "last", "from", "to", "size_bytes", "key", "file"))
