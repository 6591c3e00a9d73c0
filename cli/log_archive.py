"""`mailraft log archive`: old positions of the log leave the nodes' databases for segment files beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from cli.groups import Group
from cli.guarded import read_in_a_child
from cli.jobs import progress_bar, run_job
from cli.moments import moment_argument
from cli.options import cluster_option, data_folder, json_option, node_option, open_client, size_bytes, source_options
from cli.output import FAILED, CommandError, counted, print_json, print_table, say, size_text
from cli.paths import api_path

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from cli.client import AdminClient

PLAN_TIMEOUT_S = 600.0  # the sizes of all that is archived are read
COMPACT_TIMEOUT_S = 24 * 3600.0
POLL_S = 0.3
REDACTIONS = "redactions"  # beside copies: the position of the newest redaction that they are free of
DOWN = "down"  # stands, with the reason, for all else that a node would say
WHOLE_BYTES = 2**62  # of a segment that is not to be cut


@click.group(cls=Group)
def archive() -> None:
    """Move old positions of the log out of the databases, into compressed files beside them."""


@archive.command()
@click.option(
    "--before", required=True, metavar="MOMENT", help="What was written before: 2026-11-01T10:00:00Z, #12345 or -30d."
)
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="And a copy of the files there."
)
@click.option("--segment-size", default="64 MiB", show_default=True, metavar="SIZE", help="Before it is compressed.")
@click.option("--dry-run", is_flag=True, help="Show what would be archived, and archive nothing.")
@click.option(
    "--wait", "wait_s", type=click.IntRange(0), default=3600, show_default=True, help="Seconds, for the nodes."
)
@cluster_option
@json_option
def create(
    before: str, into: Path | None, segment_size: str, dry_run: bool, wait_s: int, cluster_dir: Path, as_json: bool
) -> None:
    """Archive what was written before a moment, on every node.

    Each node writes segment files into the folder `archive` of its data, proves them, and only then removes the rows
    from its database; everything that reads the log goes on reading it. Messages that are in a mailbox stay in the
    database. The chain stays too, so that the files are proven by it. A node that is down archives when it comes back;
    the command may be given again at any time.
    """
    client = open_client(cluster_dir, timeout_s=PLAN_TIMEOUT_S)
    wanted = {**_moment(before), "segment_bytes": size_bytes(segment_size), "dry_run": dry_run}
    segments, position, last = _commit(client, wanted)
    if not dry_run:
        last = max(last, _wanted_by_all(client))
    if dry_run or not last:
        _report(segments, position, {}, as_json, dry_run)
        return
    missing = _wait_for_nodes(client, last, wait_s)
    if into is not None:
        _copy(client, into)
    _report(segments, position, missing, as_json, dry_run)
    if missing:
        text = "\n  ".join(["not archived yet on:", *(f"{name}: {why}" for name, why in missing.items())])
        raise CommandError(text, "they go on by themselves; `mailraft log archive list` tells how far they are")


@archive.command("list")
@node_option
@cluster_option
@json_option
def list_(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Show how far each node is, and with --node the segments that it has."""
    client = open_client(cluster_dir)
    names = client.node_names if node is None else (node,)
    found = {name: _status(client, name) for name in names}
    if as_json:
        print_json(found)
        return
    rows = [(name, one["archived"], one["swept"], one["segments"], one["size_bytes"], one["error"] or "-")
            if DOWN not in one else (name, "-", "-", "-", "-", one[DOWN]) for name, one in found.items()]  # fmt: skip
    print_table(("node", "archived to", "left database to", "segments", "bytes", "error"), rows, "nothing is archived")
    if node is not None and DOWN not in found[node]:
        files = [(one["first"], one["last"], one["size_bytes"] or "missing") for one in found[node]["files"]]
        print_table(("first", "last", "bytes"), files, "no segments")


@archive.command()
@source_options
@node_option
@json_option
def verify(data: Path | None, cluster_dir: Path | None, node: str | None, as_json: bool) -> None:
    """Read every segment from its start to its end and compare it with the chain in the database.

    A node that can not be asked does not keep the others from it; it is named at the end.
    """
    reports: dict[str, dict[str, Any]]
    left: list[CommandError] = []
    if data is not None:
        from nodes.jobs import archive_verify

        folder = data_folder(data, None, None)
        read_in_a_child(folder)
        with progress_bar("verify") as update:
            reports = {str(folder): archive_verify(folder, update)}
    else:
        assert cluster_dir is not None
        reports, left = _each(open_client(cluster_dir), node, lambda name: _verified(cluster_dir, name))
    if as_json:
        print_json(reports)
    problems = [f"{name}: {one['problem']}" for name, report in reports.items() for one in report["damaged"]]
    if not as_json:
        for name, report in reports.items():
            if not report["damaged"]:
                say(f"{name}: {counted(report['segments'], 'segment')}, positions 1 to {report['last']}, as they were")
    if problems:
        lines = ["the archive is not what was written:", *problems, *(f"not looked at: {error}" for error in left)]
        raise CommandError("\n  ".join(lines), "mailraft log archive repair fetches them from a node that has them")
    _raise_for(left, "not looked at:", "mailraft log archive verify --node NAME, once it answers")


@archive.command()
@node_option
@cluster_option
@json_option
def repair(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Fetch segments that are missing or damaged on a node from another that has them whole.

    A node that can not be asked does not keep the others from it; it is named at the end.
    """
    client = open_client(cluster_dir, timeout_s=PLAN_TIMEOUT_S)
    repaired: list[dict[str, Any]] = []
    left: list[str] = []
    reports, unasked = _each(client, node, lambda name: _verified(cluster_dir, name))
    for name, one in ((name, one) for name, report in reports.items() for one in report["damaged"]):
        source = _repair(client, name, one["first"], one["last"])
        if source is None:
            left.append(f"{name}: positions {one['first']} to {one['last']}")
        else:
            repaired.append({"node": name, "first": one["first"], "last": one["last"], "from": source})
    if as_json:
        print_json({"repaired": repaired, "left": left})
    else:
        for done in repaired:
            say(f"{done['node']}: positions {done['first']} to {done['last']}, from {done['from']}")
        if not repaired and not left and not unasked:
            say("every segment is whole")
    if left:
        lines = ["no node that answers has them whole:", *left, *(f"not looked at: {error}" for error in unasked)]
        hint = "the command again, once every node answers" if unasked else "a backup has them: mailraft backup restore"
        raise CommandError("\n  ".join(lines), hint)
    _raise_for(unasked, "not looked at:", "mailraft log archive repair --node NAME, once it answers")


@archive.command()
@node_option
@cluster_option
@json_option
def compact(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Give the room that archived positions took in the databases back to the disks, one node after the other.

    A node writes its database anew beside the old one and goes on serving; it needs room for both meanwhile.
    A node that can not be asked does not keep the others from it; it is named at the end.
    """
    client = open_client(cluster_dir, timeout_s=COMPACT_TIMEOUT_S)

    def compacted(name: str) -> dict[str, Any]:
        sizes: dict[str, Any] = client.change("POST", "/v1/log/archive/compact", node=name)
        if not as_json:
            say(f"{name}: {size_text(sizes['before_bytes'])} before, {size_text(sizes['after_bytes'])} now")
        return sizes

    done, left = _each(client, node, compacted)
    if as_json:
        print_json(done)
    _raise_for(left, "the databases of the others are as they were:", "mailraft log archive compact --node NAME")


def _each(
    client: AdminClient, node: str | None, ask: Callable[[str], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[CommandError]]:
    """What the nodes answer, and the errors, each with its node's name, of the others; where one is named it raises."""
    if node is not None:
        return {node: ask(node)}, []
    answers: dict[str, dict[str, Any]] = {}
    left: list[CommandError] = []
    for name in client.node_names:
        try:
            answers[name] = ask(name)
        except CommandError as error:
            left.append(CommandError(error.of_node(name), error.hint, error.exit_code, error.code, error.said))
    return answers, left


def _raise_for(left: list[CommandError], what: str, hint: str) -> None:
    if left:
        raise CommandError("\n  ".join([what, *map(str, left)]), hint, FAILED, left[0].code)


def _moment(text: str) -> dict[str, int]:
    moment = moment_argument(f"#{text}" if text.isascii() and text.isdigit() else text, "--before")
    if moment.position is not None:
        return {"before": max(1, moment.position)}
    assert moment.at_ms is not None
    return {"before_ms": max(1, moment.at_ms)}


def _commit(client: AdminClient, wanted: dict[str, Any]) -> tuple[list[dict[str, int]], int, int]:
    """The segments that are archived now, the position of the last archival, and the last position that it names."""
    segments: list[dict[str, int]] = []
    position = last = 0
    while True:
        answer = client.change("POST", "/v1/log/archive", wanted)
        segments += answer["segments"]
        if not answer["segments"]:
            return segments, position, last
        position, last = answer["position"], answer["segments"][-1]["last"]
        if last >= answer["last"] or wanted["dry_run"]:
            return segments, position, last


def _report(
    segments: list[dict[str, int]], position: int, missing: dict[str, str], as_json: bool, dry_run: bool
) -> None:
    if as_json:
        print_json({"segments": segments, "position": position, "not_archived": missing})
    elif not segments:
        say("nothing more is to be archived")
    else:
        what = f"{counted(len(segments), 'segment')}, positions {segments[0]['first']} to {segments[-1]['last']}"
        say(f"would archive {what}" if dry_run else f"archived {what}")


def _wanted_by_all(client: AdminClient) -> int:
    """The last position that may be archived, as far as nodes that answer know."""
    return max((_status(client, name).get("wanted", 0) for name in client.node_names), default=0)


def _wait_for_nodes(client: AdminClient, last: int, wait_s: float) -> dict[str, str]:
    """The nodes that are not done, each with why not."""
    deadline = time.monotonic() + wait_s
    missing: dict[str, str] = {}
    with progress_bar("archive") as update:
        while True:
            found = {name: _status(client, name) for name in client.node_names}
            missing = {name: _how_far(one) for name, one in found.items() if one.get("swept", 0) < last}
            update(sum(one.get("swept", 0) for one in found.values()), last * len(found))
            stuck = all("down" in why or "failed" in why for why in missing.values())
            if stuck or time.monotonic() >= deadline:
                return missing
            time.sleep(POLL_S)


def _how_far(status: dict[str, Any]) -> str:
    if DOWN in status:
        return "down: it archives when it comes back"
    if status["error"]:
        return f"failed, and tries again: {status['error']}"
    return f"archived to {status['archived']}, left the database to {status['swept']}"


def _status(client: AdminClient, name: str) -> dict[str, Any]:
    """Only why it is down, where it is; a node that refuses is not: who asks may not know. Raises CommandError."""
    try:
        found: dict[str, Any] = client.whole("/v1/log/archive", "files", name)
    except CommandError as error:
        if error.code != "unreachable":
            raise
        return {DOWN: error.message.removeprefix(f"{name}: ")}
    return found


def _verified(cluster_dir: Path, name: str) -> dict[str, Any]:
    return run_job(cluster_dir, "/v1/log/archive/verify", name, f"verify {name}")


def _repair(client: AdminClient, name: str, first: int, last: int) -> str | None:
    """The node that a good segment came from; None where none has one.

    It is made of what that node has, not its file as it is: which bodies stay in the database differs between nodes.
    """
    import tempfile

    for source in client.node_names:
        if source == name:
            continue
        with tempfile.TemporaryFile() as file:
            try:
                path = api_path("/v1/log/segment", first=first, last=last, most_bytes=WHOLE_BYTES)
                _download(client.open(path, source), source, file)
                file.seek(0)
                client.upload(api_path("/v1/log/archive/{}-{}", first, last), name, file)
            except CommandError as error:
                say(f"{source}: {error}")
                continue
        return source
    return None


def _download(response: HTTPResponse, node: str, file: IO[bytes]) -> None:
    import http.client
    import shutil

    try:
        shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"{node}: the segment was cut off ({error})", "the command again") from None


def _copy(client: AdminClient, into: Path) -> None:
    """Brings a copy of every segment into a folder; one that is there already, and whole, stays.

    Unless something was redacted since: then each is fetched again, as the copies may hold what is gone from the nodes.
    """
    from eventlog.archived import Segment
    from eventlog.segment_frames import SegmentError
    from eventlog.segments import PARTIAL, check_digest, verify_segment

    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = next(one for one in client.node_names if DOWN not in _status(client, one))
    redactions = client.get("/v1/redactions", name)
    marker = into / REDACTIONS
    fresh = (marker.read_text() if marker.exists() else "0") == str(redactions["redacted"])
    for one in _status(client, name)["files"]:
        target = into / Segment(one["first"], one["last"]).file
        with suppress(OSError, SegmentError):
            check_digest(target)
            if fresh:
                continue
        partial = target.with_name(target.name + PARTIAL)
        with partial.open("wb") as file:
            path = api_path("/v1/log/archive/{}-{}", one["first"], one["last"])
            _download(client.open(path, name, "GET"), name, file)
        verify_segment(partial)
        partial.replace(target)
    marker.write_text(str(redactions["erased"]))  # what the node erases only later is fetched the next time
