"""`mailraft log`: look into the event log: the audit trail, as lines, as a record in full, as JSON lines in a file.

What proves the log is in cli/log_proof.py.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from cli.groups import Group
from cli.jobs import result_of
from cli.log_archive import archive
from cli.log_proof import PROOFS
from cli.moments import moment_argument
from cli.options import cluster_option, json_option, node_option, open_client, open_data, source_options
from cli.output import CommandError, counted, json_text, print_json, print_json_line, printable, say
from cli.paths import api_path
from cli.redact import CUSTODY
from cli.what_if import what_if

if TYPE_CHECKING:
    from cli.client import AdminClient

_C = TypeVar("_C", bound=Callable[..., Any])
MOST_SPANS = 8  # of UIDs in a line
REQUEST_CARRIED_OUT = "RequestCarriedOut"  # stands in every record of the command line: no news in a line of its own


@click.group(cls=Group)
def log() -> None:
    """Look into the event log, prove it, fold it again."""


for _command in (*PROOFS, what_if, *CUSTODY, archive):
    log.add_command(_command)


def _filters(command: _C) -> _C:
    """The options that choose records; `_wanted` makes a selection of them."""
    options = [
        click.option("--type", "types", multiple=True, metavar="TYPE", help='With an event of it; "Message*" works.'),
        click.option("--stream", "streams", multiple=True, metavar="ID", help="With an event on this stream."),
        click.option("--account", metavar="ADDRESS", help="Done by or to an account that holds, or held, ADDRESS."),
        click.option("--by", metavar="TEXT", help='Who did it: "alice@example.test", or a part: "imap", "192.0.2.7".'),
        click.option("--outcome", metavar="OUTCOME", help='With this outcome: "committed", "guard", "expired", ...'),
        click.option("--since", metavar="MOMENT", help="From then: 2026-11-01T10:00:00Z, #12345, or -2h."),
        click.option("--until", metavar="MOMENT", help="Up to then, including it."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@log.command()
@click.option("-n", "--last", type=click.IntRange(0, 1000), default=20, show_default=True, help="How many records.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@_filters
@node_option
@cluster_option
@json_option
def tail(last: int, follow: bool, node: str | None, cluster_dir: Path, as_json: bool, **filters: Any) -> None:
    """Print the last records, one line each (with --json: one JSON document a line)."""
    client = open_client(cluster_dir)
    wanted = _wanted(filters)
    if not wanted:
        answer = client.get(api_path("/v1/log", last=last), node)
        position = answer["position"]
        _print_records(answer["records"], as_json)
    else:
        position = _print_selected(client, {**wanted, "newest": last}, node, as_json)
    try:
        while follow:
            path = api_path("/v1/log", after=position, wait_s=15, wanted=json.dumps(wanted))
            answer = client.get(path, node)
            position = answer["position"]
            _print_records(answer["records"], as_json)
    except KeyboardInterrupt:
        pass  # how one ends it


@log.command()
@_filters
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file; it must be new.")
@source_options
@node_option
def export(out: Path | None, data: Path | None, cluster_dir: Path | None, node: str | None, **filters: Any) -> None:
    """Write records as JSON lines: who did what, when, from where, and why, in the log's order."""
    wanted = _wanted(filters)
    with _output(out) as file:
        if data is not None:
            count = _export_folder(data, wanted, file)
        else:
            assert cluster_dir is not None
            count = 0
            for record in _records_of(open_client(cluster_dir).stream("/v1/log/records", node, wanted)):
                file.write(json_text(record, shown=file.isatty()) + "\n")
                count += 1
    say(counted(count, "record") + (f" in {out}" if out is not None else ""))


@log.command()
@click.argument("position", type=click.IntRange(0, 10**18))
@source_options
@node_option
@json_option
def show(position: int, data: Path | None, cluster_dir: Path | None, node: str | None, as_json: bool) -> None:
    """Print the record at POSITION in full."""
    record = _record_in_folder(data, position) if data is not None else None
    if record is None:
        assert cluster_dir is not None
        record = open_client(cluster_dir).get(api_path("/v1/log/{}", position), node)
    if as_json:
        print_json(record)
    else:
        _print_whole(record)


def _print_whole(record: dict[str, Any]) -> None:
    for key, value in record.items():
        if key not in ("events", "bodies", "by"):
            click.echo(f"{key:<10} {'-' if value is None else printable(str(value))}")
    if record["kind"] != "record":
        return
    by = record["by"]
    click.echo(
        f"{'by':<10} {by['kind']} {by['id']} {printable(by['origin'])}" + (f" {by['address']}" if by["address"] else "")
    )
    for event in record["events"]:
        whose = f" of {printable(event['address'])}" if event["address"] else ""
        click.echo(f"\n{event['type']} (version {event['version']}) on {event['stream']}{whose}")
        _print_redaction(event)
        for name, value in (event["data"] or {"data": "of a later program"}).items():
            _print_field(name, value)
    for body in record["bodies"]:
        parts = f", in {len(body['chunks'])} parts" if body["chunks"] else ""
        click.echo(f"\nbody {body['digest']}, {body['size']} bytes{parts}")
        _print_redaction(body)


def _print_redaction(part: dict[str, Any]) -> None:
    found = part.get("redacted")
    if found is not None:
        who = printable(f"redacted on {found['at']} by {found['by']}: {found['reason']}")
        click.echo(f"  {who} (position {found['position']})")


def _wanted(filters: dict[str, Any]) -> dict[str, Any]:
    """A selection's JSON form. Raises CommandError for a moment that is none."""
    wanted = {name: filters[name] for name in ("account", "by", "outcome") if filters[name] is not None}
    wanted |= {name: list(filters[name]) for name in ("types", "streams") if filters[name]}
    for option, position_field, time_field in (("since", "first", "since_ms"), ("until", "last", "until_ms")):
        if filters[option] is not None:
            moment = moment_argument(filters[option], f"--{option}", future=option == "until")
            wanted |= {position_field: moment.position} if moment.at_ms is None else {time_field: moment.at_ms}
    return wanted


def _print_selected(client: AdminClient, wanted: dict[str, Any], node: str | None, as_json: bool) -> int:
    """Prints what the selection finds and gives the position that the node had reached."""
    result: dict[str, Any] = {}
    lines = client.stream("/v1/log/records", node, wanted)
    _print_records(_records_of(lines, result), as_json)
    return int(result["position"])


def _records_of(lines: Iterable[dict[str, Any]], result: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """The records of a job's answer; what it says at its end goes into `result`. Raises CommandError."""
    last: dict[str, Any] = {}
    for last in lines:
        if "record" in last:
            yield last["record"]
    ended = result_of(last)
    if result is not None:
        result |= ended


def _export_folder(data: Path, wanted: dict[str, Any], file: IO[str]) -> int:
    from nodes.log_selection import selected, selection
    from nodes.record_json import record_json

    count = 0
    with open_data(data) as store:
        with store.snapshot() as snapshot:
            try:
                chosen = selection(snapshot, wanted)
            except ValueError as error:
                raise CommandError(str(error)) from None
        for snapshot, stored in selected(store, chosen):
            file.write(json_text(record_json(snapshot, stored.position), shown=file.isatty()) + "\n")
            count += 1
    return count


def _record_in_folder(data: Path, position: int) -> dict[str, Any]:
    from nodes.record_json import record_json

    with open_data(data) as store, store.snapshot() as snapshot:
        if not 1 <= position <= snapshot.position:
            raise CommandError(f"the log has no position {position}", f"it goes from 1 to {snapshot.position}")
        return record_json(snapshot, position)


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[IO[str]]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            yield file
    except FileExistsError:
        raise CommandError(f"{out} exists", "another file") from None
    except OSError as error:
        raise CommandError(f"{out}: can not be written: {error.strerror}") from None


def _print_records(records: Iterable[dict[str, Any]], as_json: bool) -> None:
    for record in records:
        if as_json:
            print_json_line(record)
        else:
            click.echo(_line(record))


def _line(record: dict[str, Any]) -> str:
    if record["kind"] != "record":
        return f"{record['position']:>10}  {record.get('at', '-')}  ({record['kind']})"
    told = [event["type"] for event in record["events"] if event["type"] != REQUEST_CARRIED_OUT]
    types = ", ".join(told or (event["type"] for event in record["events"])) or f"{len(record['bodies'])} body parts"
    about = "".join(f"  {part}" for part in _about(record["events"]))
    by = record["by"]
    # who it is stands there already where one works in a mailbox of one's own
    who = "" if by["address"] in (None, *(event["address"] for event in record["events"])) else f"{by['address']}, "
    outcome = "" if record["outcome"] in (None, "committed") else f"  [{record['outcome']}]"
    return f"{record['position']:>10}  {record['at']}  {types}{about}{outcome}  by {printable(who + by['origin'])}"


def _about(events: list[dict[str, Any]]) -> Iterable[str]:
    """Whom a record is about: sender, recipients and queue id of mail, the addresses of accounts and aliases."""
    known = [event for event in events if event["data"]]  # the rest is of a later program
    mail = [_envelope(event["data"]) for event in known if event["type"] in ("MessageDelivered", "MailQueued")]
    if mail:
        recipients = dict.fromkeys(recipient for one in mail for recipient in one.recipients)
        yield printable(f"<{mail[0].sender}> -> {', '.join(recipients)}")
        yield "id " + ", ".join(dict.fromkeys(one.queue_id for one in mail))
    elif addresses := dict.fromkeys(event["address"] for event in events if event["address"]):
        yield printable(", ".join(addresses))
    yield from dict.fromkeys(
        _flags(event["data"]) for event in known if event["type"] in ("FlagsChanged", "ManyFlagsChanged")
    )
    uids = [uid_set for event in known if (uid_set := _uids(event["data"]))]
    if uids and not mail:
        yield f"UID {', '.join(uids)}"


def _uids(data: dict[str, Any]) -> str:
    """The messages of a folder that an event is about, as an IMAP sequence set (RFC 9051 9), cut to fit a line."""
    spans = data.get("spans") or _spans(data.get("uids") or ())
    told = [str(first) if first == last else f"{first}:{last}" for first, last in spans[:MOST_SPANS]]
    return ",".join(told) + (",..." if len(spans) > MOST_SPANS else "")


def _spans(uids: Iterable[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for uid in sorted(uids):
        spans[-1:] = [(spans[-1][0], uid)] if spans and spans[-1][1] + 1 == uid else [*spans[-1:], (uid, uid)]
    return spans


def _flags(data: dict[str, Any]) -> str:
    """What was done to flags, as IMAP writes it: "+\\Deleted", "-\\Seen", and "=" where they were replaced."""
    sign = {"add": "+", "remove": "-"}.get(data["mode"], "=")
    return printable(sign + " ".join(data["flags"]))


class Envelope(NamedTuple):
    """Of mail that came; the queue id is what the client was told."""

    sender: str
    recipients: list[str]
    queue_id: str


def _envelope(data: dict[str, Any]) -> Envelope:
    if "envelope_to" in data:
        return Envelope(data["envelope_from"], [data["envelope_to"]], data["message_id"])
    return Envelope(data["sender"], data["recipients"], data["item_id"])


def _print_field(name: str, value: Any) -> None:
    """Text as it is, each of its lines on one of its own; anything else as JSON."""
    lines = value.splitlines() if isinstance(value, str) else [json.dumps(value)]
    for number, line in enumerate(lines or [""]):
        click.echo(f"  {'' if number else name:<16} {printable(line.expandtabs(4))}")
