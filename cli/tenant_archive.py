"""`mailraft tenant export` and `import`: everything of one tenant in a file, and back, in this cluster or another."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cli.options import cluster_option, json_option, open_client
from cli.output import UNKNOWN, CommandError, console, counted, print_json, say, size_text
from cli.tenant_life import path_of

if TYPE_CHECKING:
    from cli.client import AdminClient
    from cli.tenant_archive_file import ArchiveFile
    from nodes.tenants.archive import End, Manifest

ANSWER_S = 120.0
PART_BYTES = 1024 * 1024  # of frames in one request; one entry with its bodies may be more
TRIES = 6
PAUSE_S = 2.0
IMPORTS = "/v1/tenant-imports"
Tell = Callable[[int, int], None]

_key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_BACKUP_KEYS",
    show_envvar=True,
    required=True,
    metavar="FILE",
    help="The keys that it is encrypted under; mailraft backup key FILE makes one.",
)


class Contents(NamedTuple):
    """What a whole archive holds."""

    manifest: Manifest
    end: End

    def as_json(self) -> dict[str, Any]:
        manifest, end = self.manifest, self.end
        return {
            "tenant": manifest.name,
            "id": manifest.tenant.hex(),
            "cell": manifest.cell,
            "position": manifest.position,
            "domains": list(manifest.domains),
            "accounts": manifest.accounts,
            "messages": manifest.messages,
            "entries": end.entries,
            "bodies": end.bodies,
            "unreadable_secrets": end.unreadable,
            "certificates": end.certificates,
            "queued": end.queued,
        }


@click.command()
@click.argument("name")
@click.option(
    "--to", "file", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE", help="A new file."
)
@_key_file_option
@cluster_option
@json_option
def export(name: str, file: Path, key_file: Path, cluster_dir: Path, as_json: bool) -> None:
    """Write everything of the tenant NAME into a file: its accounts with their passwords, mail, keys and policies.

    The file is encrypted. It holds the tenant's history as of the moment when the command began, its certificates, and
    what waits in queues to be sent when it ends; not what others reported. Bring it back: mailraft tenant import FILE
    """
    from cli.tenant_archive_file import new_head

    if file.exists():
        raise CommandError(f"{file} is there already", "another file")
    head, client = new_head(key_file), open_client(cluster_dir, ANSWER_S)
    partial = file.with_name(f"{file.name}.partial-{os.getpid()}")
    try:
        with _progress("export", as_json) as tell:
            answer = client.open(path_of(name, "export"), None, body={"key": head.keys.secrets.hex()})
            found = _write(partial, answer, head, tell)
        partial.rename(file)
    except OSError as error:
        raise CommandError(f"{file}: can not be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    if as_json:
        print_json({**found.as_json(), "file": str(file), "size_bytes": file.stat().st_size})
    _say_contents(found)
    say(f"{file}: {size_text(file.stat().st_size)}; without a key of {key_file} nobody can read it")


def _write(path: Path, answer: http.client.HTTPResponse, head: Any, tell: Tell) -> Contents:
    """Raises CommandError where the node ended before the archive did."""
    from cli.tenant_archive_file import write
    from nodes.tenants.archive import End, Manifest, Reached, unpack

    manifest, last = None, None

    def kept() -> Iterator[bytes]:
        nonlocal manifest, last
        for data in _received(answer):
            last = unpack(data)
            if isinstance(last, Reached):
                tell(last.position, manifest.position if manifest else 0)
                continue
            manifest = last if isinstance(last, Manifest) else manifest
            yield data

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for _ in write(file, head, kept()):
            pass
        file.flush()
        os.fsync(file.fileno())
    if manifest is None or not isinstance(last, End):
        raise CommandError("the node went away before it was done; nothing was kept", "the command again")
    return Contents(manifest, last)


def _received(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    from nodes.tenants.archive import length_of

    try:
        while len(head := answer.read(4)) == 4:
            yield answer.read(length_of(head))
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"the node went away before it was done ({error})", "the command again") from None


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--as", "new_name", metavar="NAME", help="Call the tenant so; its domains and addresses stay.")
@click.option(
    "--domain",
    "renamed",
    multiple=True,
    metavar="OLD=NEW",
    help="Make a copy with ids of its own, which has the domain NEW for OLD; the tenant itself may be here.",
)
@click.option("--dry-run", is_flag=True, help="Check the whole file, and whether it could be imported; write nothing.")
@_key_file_option
@cluster_option
@json_option
def import_(
    file: Path,
    new_name: str | None,
    renamed: tuple[str, ...],
    dry_run: bool,
    key_file: Path,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Bring back the tenant of FILE, which `mailraft tenant export` wrote, as it was: UIDs, flags, passwords.

    It is refused while a name or domain of it is taken here. The tenant is suspended until all of it has come; the same
    command goes on where one was broken off. What waited to be sent is held, since the cluster that it is from sends it
    too: mailraft queue release sends it from here. A copy (--domain) has none of that, no certificates and no tokens.
    """
    from cli.tenant_archive_file import ArchiveFile

    archive = ArchiveFile(file, key_file)
    found = _checked(archive, as_json)
    client = open_client(cluster_dir, ANSWER_S)
    name = new_name or found.manifest.name
    opening = _opening(archive, found, name, _pairs(renamed))
    if dry_run:
        answer = client.send(f"{IMPORTS}?dry_run=true", opening)
    else:
        answer = _import(client, archive, opening, as_json)
    if as_json:
        shown = {"tenant": answer["name"], "id": answer["id"], "domains": answer["domains"]}
        print_json({**found.as_json(), **shown, "dry_run": dry_run, "whole": answer["whole"]})
    _say_contents(found)
    if dry_run:
        say(f"it can be imported as {answer['name']}; nothing was written")
        return
    if found.end.queued and not renamed:
        say("what waited to be sent is held: the cluster that it is from sends it too. Once that does not:")
        say("mailraft queue list --state held, then mailraft queue release")
    say(f"tenant {answer['name']} is here as it was; with DNS turned to this cluster its mail comes here")


def _checked(archive: ArchiveFile, quiet: bool) -> Contents:
    """Reads all of it, so that what is damaged is refused before anything is written. Raises CommandError."""
    from nodes.tenants.archive import End, Manifest

    manifest, last = None, None
    with _progress("check", quiet) as tell:
        for frame, _, read_bytes in archive.frames():
            manifest = frame if isinstance(frame, Manifest) else manifest
            last = frame
            tell(read_bytes, archive.size_bytes)
    assert manifest is not None
    assert isinstance(last, End)
    return Contents(manifest, last)


def _pairs(renamed: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(one.split("=")) for one in renamed]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise click.BadParameter("OLD=NEW: a domain of the tenant, and the one to have instead", param_hint="--domain")
    return tuple((old, new) for old, new in pairs)


def _opening(archive: ArchiveFile, found: Contents, name: str, domains: tuple[tuple[str, str], ...] = ()) -> bytes:
    from nodes.tenants.archive import Opening, pack

    return pack(Opening(name, archive.keys.secrets, domains)) + pack(found.manifest)


def _import(client: AdminClient, archive: ArchiveFile, opening: bytes, quiet: bool) -> dict[str, Any]:
    answer = _send(client, opening)
    with _progress("import", quiet) as tell:
        for part, read_bytes in _parts(archive, answer["position"]):
            answer = _send(client, opening + part)
            tell(read_bytes, archive.size_bytes)
    if not answer["whole"]:
        raise CommandError("it did not become whole; the tenant is suspended", "the command again")
    return answer


def _parts(archive: ArchiveFile, position: int) -> Iterator[tuple[bytes, int]]:
    """What comes behind a position, in parts that each end with whole entries; how much of the file they go up to."""
    from nodes.tenants.archive import Certified, Entry, Manifest, Piece, Queued, pack

    part, behind, read_bytes = bytearray(), False, 0
    for frame, _, at in archive.frames():
        if isinstance(frame, Manifest):
            continue
        if isinstance(frame, Entry):
            behind = frame.position > position
        elif isinstance(frame, Certified | Queued):
            behind = True
        if not isinstance(frame, Piece) and len(part) >= PART_BYTES:
            yield bytes(part), read_bytes
            part.clear()
        if behind or not isinstance(frame, Entry | Piece):
            part += pack(frame)
        read_bytes = at
    yield bytes(part), read_bytes


def _send(client: AdminClient, data: bytes) -> dict[str, Any]:
    """Sends a part; again where its outcome is unknown: what was taken is passed over. Raises CommandError."""
    from cli.client import NothingDone

    for left in reversed(range(TRIES)):
        try:
            found: dict[str, Any] = client.send(IMPORTS, data)
        except CommandError as error:
            passing = isinstance(error, NothingDone) or error.exit_code == UNKNOWN or error.code == "superseded"
            if not passing:
                raise
            if not left:
                text = (
                    f"the nodes did not take it: {error.format_message()}; the tenant is suspended until all has come"
                )
                raise CommandError(text, "the command again: it goes on") from None
            time.sleep(PAUSE_S)
        else:
            return found
    raise AssertionError


def _say_contents(found: Contents) -> None:
    manifest, end = found.manifest, found.end
    domains = ", ".join(manifest.domains)
    accounts, messages = counted(manifest.accounts, "account"), counted(manifest.messages, "message")
    say(f"tenant {manifest.name} of {manifest.cell}, {domains}: {accounts}, {messages}")
    if end.certificates or end.queued:
        say(f"{counted(end.certificates, 'certificate')}; {counted(end.queued, 'message')} that waited to be sent")
    if end.unreadable:
        say(f"note: {counted(end.unreadable, 'secret')} could not be read: the node lacks the key that sealed them")


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    terminal = console()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, disable=quiet or not terminal.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
