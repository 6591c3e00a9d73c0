"""A small true history is clean; each violation planted in it is found, named, and shown by the operations it takes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chaos.checkers.judge import judge
from chaos.checkers.log import NodeHead, NodeLog
from chaos.final import Final
from chaos.history import History, Operation, Outcome
from chaos.observation import Copy

ACCOUNT = "witness1@chaos.test"
NODES = ("n1", "n2", "n3")
UIDVALIDITY = {"INBOX": 7, "Archive": 8}
OK, REFUSED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN
Row = list[Any]  # UID, identity, flags


class Run:
    """A history written down by hand: each operation begins at its moment and takes half a second."""

    def __init__(self) -> None:
        self.history = History()
        self.observed: dict[str, dict[str, list[Copy]]] = {}

    def add(
        self,
        at_s: float,
        node: str,
        action: str,
        asked: Any,
        result: Any = None,
        outcome: Outcome = OK,
        subject: str = ACCOUNT,
    ) -> None:
        number = len(self.history.operations) + 1
        who = number, f"{node}-{number}", node, "imap"
        operation = Operation(*who, action, subject, asked, at_s, at_s + 0.5, outcome, "", result or {})
        self.history.operations.append(operation)

    def deliver(self, at_s: float, identity: str, outcome: Outcome = OK, node: str = "n1") -> None:
        self.add(at_s, node, "deliver", {"identity": identity, "sha256": sha256(identity)}, outcome=outcome)

    def append(self, at_s: float, identity: str, uid: int, node: str = "n1") -> None:
        asked = {"identity": identity, "sha256": sha256(identity), "folder": "INBOX", "flags": []}
        self.add(at_s, node, "append", asked, {"uidvalidity": 7, "uid": uid})

    def store(self, at_s: float, identity: str, mode: str, *flags: str, node: str = "n1") -> None:
        asked = {"identity": identity, "folder": "INBOX", "mode": mode, "flags": list(flags)}
        self.add(at_s, node, "store", asked, {"flags": []})

    def move(self, at_s: float, identity: str, uid: int) -> None:
        asked = {"identity": identity, "folder": "INBOX", "target": "Archive"}
        self.add(at_s, "n2", "move", asked, {"uidvalidity": 8, "uid": uid})

    def expunge(self, at_s: float, identity: str) -> None:
        self.add(at_s, "n2", "expunge", {"identity": identity, "folder": "INBOX"}, {"gone": True})

    def look(
        self, at_s: float, node: str, modseq: int, inbox: list[Row], archive: list[Row], stale: bool = False
    ) -> None:
        """A read of all over the admin API."""
        rows = {"INBOX": inbox, "Archive": archive}
        folders = {
            name: {
                "uidvalidity": UIDVALIDITY[name],
                "uidnext": 100,
                "highestmodseq": modseq,
                "messages": [[uid, sha256(identity)[:16], flags] for uid, identity, flags in held],
            }
            for name, held in rows.items()
        }
        self.add(at_s, node, "mailbox", {}, {"stale": stale, "folders": folders})

    def read(self, at_s: float, node: str, inbox: list[Row], uidnext: int = 100) -> None:
        """A SELECT and FETCH over IMAP."""
        result = {"uidvalidity": 7, "uidnext": uidnext, "exists": len(inbox), "first": 1, "messages": inbox}
        self.add(at_s, node, "read", {"folder": "INBOX"}, result)

    def end(self, inbox: list[Row], archive: list[Row]) -> None:
        """What every node holds in the end."""
        copies = [
            Copy(identity, sha256(identity), True, folder, UIDVALIDITY[folder], uid, tuple(flags))
            for folder, rows in (("INBOX", inbox), ("Archive", archive))
            for uid, identity, flags in rows
        ]
        self.observed = {node: {ACCOUNT: list(copies)} for node in NODES}

    def violations(self) -> list[str]:
        heads = [NodeHead(node, 9, "aa") for node in NODES]
        logs = [NodeLog(node, True, None, "aa", True) for node in NODES]
        checks = judge(self.history, Final(self.observed, heads, logs))
        assert not [text for check in checks for text in check.undecided]
        return [violation.text for check in checks for violation in check.violations]


def sha256(identity: str) -> str:
    return identity.encode().hex().ljust(64, "0")


def true_run() -> Run:
    """One message lives in INBOX, one is moved, one is expunged, one was refused, of one nobody knows."""
    run = Run()
    run.deliver(0, "stays")
    run.append(1, "moves", 2)
    run.append(2, "goes", 3)
    run.deliver(2, "refused", REFUSED)
    run.deliver(2, "unknown", UNKNOWN)
    run.read(3, "n1", [[1, "stays", []], [2, "moves", []], [3, "goes", []]])
    run.look(4, "n2", 3, [[1, "stays", []], [2, "moves", []], [3, "goes", []]], [])
    run.store(5, "stays", "replace", "w1")
    run.store(6, "goes", "add", "\\Deleted")
    run.move(7, "moves", 1)
    run.look(8, "n3", 6, [[1, "stays", ["w1"]], [3, "goes", ["\\Deleted"]]], [[1, "moves", []]])
    run.expunge(9, "goes")
    run.store(10, "stays", "replace", "w2", node="n2")
    run.look(11, "n1", 8, [[1, "stays", ["w2"]]], [[1, "moves", []]])
    run.read(12, "n2", [[1, "stays", ["w2"]]])
    run.end([[1, "stays", ["w2"]]], [[1, "moves", []]])
    return run


def test_a_true_history_is_clean() -> None:
    assert true_run().violations() == []


def test_a_node_may_show_over_imap_what_another_has_changed_already() -> None:
    run = true_run()
    run.read(11.5, "n3", [[1, "stays", ["w1"]]])
    assert run.violations() == []


def test_a_read_that_is_marked_stale_promises_no_more_than_its_node_did() -> None:
    run = true_run()
    run.look(11.5, "n3", 6, [[1, "stays", ["w1"]], [3, "goes", ["\\Deleted"]]], [[1, "moves", []]], stale=True)
    assert run.violations() == []


def test_what_is_unknown_may_come_late() -> None:
    run = true_run()
    run.end([[1, "stays", ["w2"]], [9, "unknown", []]], [[1, "moves", []]])
    assert run.violations() == []


def stale_read(run: Run) -> None:
    run.look(11.6, "n2", 7, [[1, "stays", ["w1"]]], [[1, "moves", []]])
    run.look(13, "n2", 8, [[1, "stays", ["w2"]]], [[1, "moves", []]])


def own_write_not_shown(run: Run) -> None:
    run.read(10.6, "n2", [[1, "stays", ["w1"]]])


def lost_update(run: Run) -> None:
    run.end([[1, "stays", ["w1"]]], [[1, "moves", []]])
    run.history.operations = [one for one in run.history.operations if one.began_s < 11]


def lost_message(run: Run) -> None:
    run.end([], [[1, "moves", []]])


def doubled_delivery(run: Run) -> None:
    run.end([[1, "stays", ["w2"]], [4, "stays", []]], [[1, "moves", []]])


def doubled_by_a_move(run: Run) -> None:
    run.end([[1, "stays", ["w2"]], [2, "moves", []]], [[1, "moves", []]])


def resurrected(run: Run) -> None:
    run.end([[1, "stays", ["w2"]], [3, "goes", ["\\Deleted"]]], [[1, "moves", []]])


def resurrected_for_a_while(run: Run) -> None:
    run.look(11.6, "n1", 9, [[1, "stays", ["w2"]], [3, "goes", ["\\Deleted"]]], [[1, "moves", []]])


def refused_and_there(run: Run) -> None:
    run.end([[1, "stays", ["w2"]], [4, "refused", []]], [[1, "moves", []]])


def refused_and_shown(run: Run) -> None:
    run.read(11.6, "n1", [[1, "stays", ["w2"]], [4, "refused", []]])


def unknown_twice(run: Run) -> None:
    run.end([[1, "stays", ["w2"]], [4, "unknown", []], [5, "unknown", []]], [[1, "moves", []]])


def flags_of_nobody(run: Run) -> None:
    run.end([[1, "stays", ["w9"]]], [[1, "moves", []]])


def uid_reused(run: Run) -> None:
    run.append(13, "later", 3)
    run.end([[1, "stays", ["w2"]], [3, "later", []]], [[1, "moves", []]])


def uid_differs(run: Run) -> None:
    held = run.observed["n3"][ACCOUNT]
    held[0] = held[0]._replace(uid=2)


def uidvalidity_changes(run: Run) -> None:
    for held in run.observed.values():
        held[ACCOUNT] = [copy._replace(uidvalidity=99) for copy in held[ACCOUNT]]


def modseq_back(run: Run) -> None:
    run.look(13, "n1", 7, [[1, "stays", ["w2"]]], [[1, "moves", []]])


def one_modseq_two_states(run: Run) -> None:
    run.look(11.6, "n2", 8, [], [[1, "moves", []]])


def uidnext_back(run: Run) -> None:
    run.read(13, "n2", [[1, "stays", ["w2"]]], uidnext=50)


def moved_and_nowhere(run: Run) -> None:
    run.end([[1, "stays", ["w2"]]], [])


@pytest.mark.parametrize(
    ("plant", "name", "shown"),
    [
        (stale_read, "stale read: message stays", ["replace", "w1", "w2"]),
        (own_write_not_shown, "a node went back in time: message stays", ["w2"]),
        (lost_update, "lost update: message stays", ["w2"]),
        (lost_message, "lost: attempt stays", []),
        (lost_message, "lost message: message stays", ["deliver"]),
        (doubled_delivery, "doubled (2 copies in INBOX): attempt stays", []),
        (doubled_by_a_move, "message moves", ["move"]),
        (resurrected, "resurrected message: message goes", ["expunge"]),
        (resurrected_for_a_while, "stale read: message goes", ["expunge"]),
        (refused_and_there, "present though refused: attempt refused", []),
        (refused_and_shown, "a message that nobody put there: message refused", ["read"]),
        (unknown_twice, "doubled (2 copies in INBOX): attempt unknown", []),
        (flags_of_nobody, "flags that nobody set: message stays", []),
        (uid_reused, "UID reused: UID 3 is later", ["goes", "append"]),
        (uid_differs, "two UIDs for one message: attempt stays", ["n3 in the end"]),
        (uid_differs, "differs from n1", []),
        (uidvalidity_changes, "UIDVALIDITY changed", ["is 99", "was 7"]),
        (modseq_back, "HIGHESTMODSEQ at n1 went back: 7", ["after 8"]),
        (one_modseq_two_states, "at HIGHESTMODSEQ 8", ["stays"]),
        (uidnext_back, "UIDNEXT at n2 went back: 50", []),
        (moved_and_nowhere, "message moves", ["move"]),
    ],
)
def test_a_planted_violation_is_found_and_named(plant: Callable[[Run], None], name: str, shown: list[str]) -> None:
    run = true_run()
    plant(run)
    found = [text for text in run.violations() if name in text]
    assert found, run.violations()
    assert all(word in found[0] for word in shown), found[0]


def test_the_smallest_part_of_a_stale_read_leaves_out_what_has_nothing_to_do_with_it() -> None:
    run = true_run()
    stale_read(run)
    text = next(text for text in run.violations() if text.startswith("stale read: message stays"))
    assert len(text.splitlines()) <= 5, text


def test_two_reads_that_each_miss_what_the_other_saw_are_found_though_each_message_is_fine() -> None:
    """Two messages came at once: either may be the first, but not each of them."""
    run = Run()
    for identity in ("a", "b"):
        run.deliver(0, identity)
    first, second = [1, "a", []], [2, "b", []]
    run.look(0.2, "n1", 1, [first], [])
    run.look(0.3, "n2", 1, [second], [])
    run.end([first, second], [])
    run.history.operations = [
        replace(one, ended_s=2.0) if one.action == "deliver" else one for one in run.history.operations
    ]
    assert [text.split(":")[0] for text in run.violations() if "no order" in text] == ["as a set"]


def claims(*steps: tuple[float, str, Outcome, dict[str, Any]]) -> list[str]:
    run = Run()
    for at_s, action, outcome, result in steps:
        subject = "" if action in ("accounts", "aliases") else "name1@chaos.test"
        run.add(at_s, "n1", action, {}, result, outcome, subject=subject)
    return run.violations()


TAKEN, MISSING = {"category": "conflict"}, {"category": "not_found"}


def accounts(*names: str) -> dict[str, Any]:
    return {"stale": False, "names": list(names), "quota": None}


def test_a_name_is_claimed_by_one_at_a_time() -> None:
    assert (
        claims(
            (0, "account-add", OK, {}),
            (1, "alias-add", REFUSED, TAKEN),
            (2, "accounts", OK, accounts("name1@chaos.test")),
            (3, "account-delete", UNKNOWN, {}),
            (4, "accounts", OK, accounts("name1@chaos.test")),
            (5, "accounts", OK, accounts()),
            (6, "account-delete", REFUSED, MISSING),
            (7, "alias-add", REFUSED, {"category": "rejected"}),
        )
        == []
    )


@pytest.mark.parametrize(
    "steps",
    [
        [(0, "account-add", OK, {}), (1, "alias-add", OK, {})],
        [(0, "account-add", OK, {}), (1, "account-delete", REFUSED, MISSING)],
        [(0, "account-add", REFUSED, TAKEN)],
        [(0, "account-add", OK, {}), (1, "accounts", OK, accounts())],
        [(0, "account-delete", OK, {})],
    ],
    ids=["claimed twice", "not found though there", "taken by nobody", "not shown", "deleted and never there"],
)
def test_a_name_that_answers_contradict_each_other_about_is_found(steps: Any) -> None:
    assert any("name name1@chaos.test" in text for text in claims(*steps))


def test_a_password_that_was_replaced_must_not_open() -> None:
    def run_with(value: int) -> list[str]:
        run = Run()
        run.add(0, "n1", "password", {"value": 1}, subject="vault")
        run.add(1, "n1", "password", {"value": 2}, subject="vault")
        run.add(2, "n3", "log-in", {"value": value}, subject="vault")
        return run.violations()

    assert run_with(2) == []
    assert any("password" in text for text in run_with(1))
