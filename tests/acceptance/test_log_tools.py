"""The log as an audit trail and as proof: who did what, signed heads, a fold by this version, offline and online."""

import imaplib
import json
import shutil
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from chaos.cluster import ClusterError
from eventlog.store import LOG, POSITION, Store
from tests.acceptance.site import ALICE, BOB, Site

Record = dict[str, Any]


@pytest.fixture(scope="module")
def delivered(site: Site) -> Site:
    """The site after one message from elsewhere to BOB, which he flags, and an alias for ALICE."""
    host, _, port = site.endpoints("smtp")[1].rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("audit@elsewhere.test", [BOB], b"Subject: audit\r\n\r\nx\r\n")
    site.cluster.command("alias", "add", "audited@example.test", ALICE)
    site.cluster.wait_settled()
    host, _, port = site.endpoints("imap")[2].rpartition(":")
    with imaplib.IMAP4(host, int(port)) as reader:
        reader.starttls()
        reader.login(BOB, site.password)
        reader.select("INBOX")
        reader.store("1:*", "+FLAGS", r"(\Flagged)")
    site.cluster.wait_settled()
    return site


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def exported(site: Site, *arguments: str) -> list[dict[str, Any]]:
    return lines(site.cluster.command("log", "export", *arguments))


def test_an_export_says_who_did_what_when_from_where_and_why(delivered: Site) -> None:
    (record,) = [
        one for one in exported(delivered, "--type", "MessageDelivered", "--account", BOB)
        if one["events"][0]["data"]["envelope_from"] == "audit@elsewhere.test"
    ]  # fmt: skip
    assert record["by"]["kind"] == "client"
    assert "127.0.0.1" in record["by"]["origin"]
    assert record["cause"]
    assert record["at"].endswith("Z")
    assert record["events"][0]["address"] == BOB
    assert record["outcome"] == "committed"


def test_every_change_says_who_did_it_when_from_where_and_why(delivered: Site) -> None:
    kinds = set()
    for record in exported(delivered):
        assert record["at"].endswith("Z")
        if record["kind"] == "record":
            kinds.add(record["by"]["kind"])
            assert record["by"]["id"] or record["by"]["kind"] == "client", record  # who sends mail from elsewhere
            assert record["by"]["origin"], record
            assert record["cause"], record
    assert kinds >= {"admin", "account", "client", "node"}


def test_every_filter_chooses_what_looking_at_each_record_would(delivered: Site) -> None:
    everything = exported(delivered)
    last = f"#{everything[-1]['position']}"
    bob = next(
        event["data"]["account"] for one in everything for event in one.get("events", ())
        if event["type"] == "AccountAdded" and event["data"]["address"] == BOB
    )  # fmt: skip
    middle = everything[len(everything) // 2]["at"]

    def any_event(one: Record, wanted: Callable[[Record], bool]) -> bool:
        return any(wanted(event) for event in one.get("events", ()))

    def concerns_bob(one: Record) -> bool:
        about = [(event["stream"], *map((event["data"] or {}).get, ("account", "owner"))) for event in one["events"]]
        return one["by"]["id"] == bob or any(bob in ids for ids in about)

    def said_of_author(one: Record) -> str:
        return "{kind} {origin} {id}".format(**one["by"]) if "by" in one else ""

    filters: list[tuple[tuple[str, ...], Callable[[Record], bool]]] = [
        (("--type", "Message*"), lambda one: any_event(one, lambda event: event["type"].startswith("Message"))),
        (("--stream", bob), lambda one: any_event(one, lambda event: event["stream"] == bob)),
        (("--account", BOB), lambda one: "events" in one and concerns_bob(one)),
        (("--by", BOB), lambda one: "by" in one and one["by"]["id"] == bob),
        (("--by", "imap 127.0.0.1"), lambda one: "imap 127.0.0.1" in said_of_author(one)),
        (("--by", "smtp"), lambda one: "smtp" in said_of_author(one)),
        (("--since", middle), lambda one: one["at"] >= middle),
        (("--until", middle), lambda one: one["at"] <= middle),
        (("--since", "#3", "--until", "#5"), lambda one: 3 <= one["position"] <= 5),
        (
            ("--type", "MessageDelivered", "--account", BOB, "--since", middle),
            lambda one: (
                one["at"] >= middle
                and any_event(one, lambda event: event["type"] == "MessageDelivered" and event["stream"] == bob)
            ),
        ),
    ]
    for arguments, wanted in filters:
        expected = [one["position"] for one in everything if wanted(one)]
        assert 0 < len(expected) < len(everything), arguments
        until = () if "--until" in arguments else ("--until", last)
        assert [one["position"] for one in exported(delivered, *arguments, *until)] == expected, arguments


@pytest.mark.parametrize(
    ("arguments", "types"),
    [
        (("--type", "Alias*"), {"AliasAdded"}),
        (("--by", "admin operator", "--type", "AccountAdded"), {"AccountAdded"}),
        (("--by", "nobody at all"), set()),
        (("--outcome", "no_such"), None),
        (("--type", "Nonsense"), None),
        (("--account", "nobody@example.test"), None),
        (("--since", "#1", "--until", "#0"), set()),
        (("--type", "AliasAdded", "--until", "2199-12-31"), {"AliasAdded"}),
    ],
)
def test_records_are_chosen_by_type_author_account_outcome_and_moment(
    delivered: Site, arguments: tuple[str, ...], types: set[str] | None
) -> None:
    if types is None:
        with pytest.raises(ClusterError, match=arguments[0].lstrip("-")):
            exported(delivered, *arguments)
        return
    found = exported(delivered, *arguments)
    assert bool(found) == bool(types)
    assert all(types & {event["type"] for event in record["events"]} for record in found)


def test_a_stream_has_the_records_that_its_events_are_in_and_no_other(delivered: Site) -> None:
    record = exported(delivered, "--type", "AliasAdded")[0]
    stream = next(event["stream"] for event in record["events"] if event["type"] == "AliasAdded")
    found = exported(delivered, "--stream", stream)
    assert record["position"] in [one["position"] for one in found]
    assert all(any(event["stream"] == stream for event in one["events"]) for one in found)


def test_what_is_read_from_a_nodes_folder_is_what_the_node_says(delivered: Site, tmp_path: Path) -> None:
    out = tmp_path / "export.jsonl"
    node = delivered.cluster.data_dir("n1").parent
    until = exported(delivered)[-1]["position"]
    delivered.cluster.command("log", "export", "--data", str(node), "--until", f"#{until}", "--out", str(out))
    assert lines(out.read_text()) == exported(delivered, "--until", f"#{until}", "--node", "n1")
    shown = json.loads(delivered.cluster.command("log", "show", "5", "--data", str(node), "--json"))
    assert shown == json.loads(delivered.cluster.command("log", "show", "5", "--json"))
    with pytest.raises(ClusterError, match="exists"):
        delivered.cluster.command("log", "export", "--out", str(out))


def test_tail_gives_the_newest_records_of_a_choice_in_the_logs_order(delivered: Site) -> None:
    tail = lines(delivered.cluster.command("log", "tail", "-n", "2", "--by", "admin", "--json"))
    assert [one["position"] for one in tail] == [one["position"] for one in exported(delivered, "--by", "admin")][-2:]


def test_every_node_is_verified_and_their_chains_compared(delivered: Site) -> None:
    report = json.loads(delivered.cluster.command("log", "verify", "--all", "--json"))
    assert report["ok"] is True
    assert [node["name"] for node in report["nodes"]] == ["n1", "n2", "n3"]


def test_a_head_that_was_kept_elsewhere_proves_the_log_and_uncovers_a_rewritten_one(
    delivered: Site, tmp_path: Path
) -> None:
    kept = tmp_path / "head.json"
    delivered.cluster.command("log", "anchor", "--node", "n2", "--out", str(kept))
    assert json.loads(delivered.cluster.command("log", "verify", "--anchor", str(kept), "--json"))["ok"] is True
    document = json.loads(kept.read_text())

    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps({**document, "chain": "00" * 32}))
    with pytest.raises(ClusterError, match="altered since it was signed"):
        delivered.cluster.command("log", "verify", "--anchor", str(forged))

    folder = rewritten(delivered.cluster.data_dir("n3"), tmp_path / "n3")
    delivered.cluster.command("log", "verify", "--data", str(folder))  # sound in itself: its keeper wrote it all anew
    with pytest.raises(ClusterError, match="not the log that was anchored"):
        delivered.cluster.command("log", "verify", "--data", str(folder), "--anchor", str(kept), "--ca",
                                  str(delivered.ca))  # fmt: skip


def rewritten(data: Path, folder: Path) -> Path:
    """A copy of a node's database with another time in its second entry, and a chain made to fit."""
    from actors.registry import fold_event
    from eventlog.fold import Fold
    from eventlog.journal import LmdbJournal
    from eventlog.store import FOLDED, META

    folder.mkdir()
    with lmdb.open(str(data), readonly=True, max_dbs=16) as env:
        env.copy(str(folder))
    store = Store(folder, 1 << 30, durable=False)
    key = POSITION.pack(2)
    value = bytearray(store.txn.get(key, db=store.db[LOG]) or b"")
    value[16] ^= 1  # the last byte of its time
    store.txn.put(key, bytes(value), db=store.db[LOG])
    with store.snapshot() as snapshot:
        last = snapshot.position
    for name in FOLDED:
        store.txn.drop(store.db[name], delete=False)
    store.txn.delete(b"folded", db=store.db[META])
    store.commit()
    journal = LmdbJournal(store)
    fold = Fold(store, journal, fold_event)
    for position in range(1, last + 1):
        fold.apply(journal.entry(position))
    fold.flush()
    store.commit()
    store.close()
    return folder


def test_this_version_rehearses_the_fold_of_a_nodes_log_and_names_where_tables_differ(
    delivered: Site, tmp_path: Path
) -> None:
    node = delivered.cluster.data_dir("n1").parent
    report = json.loads(delivered.cluster.command("log", "rehearse", "--data", str(node), "--json"))
    assert report["equal"] is True
    assert set(report["digests"]) == {"chain", "ids", "streams", "tables"}

    copy = tmp_path / "copy"
    shutil.copytree(delivered.cluster.data_dir("n1"), copy)
    store = Store(copy, 1 << 30, durable=False)
    with store.snapshot() as snapshot:
        key, value = next(iter(snapshot.raw(b"tables")))
    store.txn.put(key, value[:-1] + bytes((value[-1] ^ 1,)), db=store.db[b"tables"])
    store.commit()
    store.close()
    with pytest.raises(ClusterError, match=f"tables: first at {key.hex()}"):
        delivered.cluster.command("log", "rehearse", "--data", str(copy))
