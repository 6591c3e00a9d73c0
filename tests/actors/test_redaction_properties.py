"""Whatever is redacted, and whenever: a refold of the rewritten history gives the live tables, and guards hold alike.

The history of a mailbox is made as in `test_mailbox_properties`, events decided early and folded late among them. A
redaction rewrites what is in the history, as the log does, and folds what comes with it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from actors.kind import Command, Fact, decode
from actors.mailbox import (
    Append,
    Deliver,
    MessageAppended,
    MessageDelivered,
    NewMessage,
    RedactFolderNames,
    RedactMessages,
)
from actors.mailbox_rows import is_inferior, name_hash, redacted_name
from actors.redaction import blank, places
from eventlog.custody import Fields, with_fields
from eventlog.record import Event, Guard, digest_of
from eventlog.views import DictView, View
from tests.actors.mail import an_id
from tests.actors.stage import START_MS
from tests.actors.test_mailbox_properties import NAMES, Mailbox

FOLDER_FACTS = ("FolderCreated", "FolderRenamed", "FolderDeleted", "FolderSubscribed", "FolderUnsubscribed")
CONTENTS = st.sampled_from([b"one", b"two", b"three"])


def held(view: View, guards: tuple[Guard, ...]) -> bool:
    return all(view.version(guard.key) == guard.version for guard in guards)


class Redacted(Mailbox):
    """A mailbox whose history is rewritten now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.guarded: dict[int, tuple[tuple[Guard, ...], bool]] = {}  # by position: a record's guards, and if they held
        self.guards_of: dict[tuple[Fact, ...], tuple[Guard, ...]] = {}
        self.secrets: set[str] = set()

    def carry_out(self, command: Command, late: bool) -> None:
        before = len(self.late)
        position = self.stage.position
        super().carry_out(command, late)
        if len(self.late) > before:
            self.guards_of[self.late[-1]] = self.stage.guards
        elif self.stage.position > position and position + 1 not in self.guarded:
            # what was folded at once was decided on the very rows that it met
            self.guarded[position + 1] = self.stage.guards, True

    def fold(self, facts: tuple[Fact, ...]) -> None:
        guards = self.guards_of.pop(facts, None)
        if guards is not None:
            self.guarded[self.stage.position + 1] = guards, held(self.stage.view, guards)
        super().fold(facts)

    @rule(pick=st.integers(0, 9), content=CONTENTS, late=st.booleans(), delivered=st.booleans())
    def message_arrives(self, pick: int, content: bytes, late: bool, delivered: bool) -> None:
        id_ = an_id()
        trace = b"Received: from secret" + id_.hex().encode()
        size = len(trace) + len(content)
        new = NewMessage(id_, digest_of(content), size, START_MS, trace, "<secret@t>", ("<secret@u>",))
        command = Deliver(new, envelope_from="secret@t") if delivered else Append(self.folder(pick), new)
        self.carry_out(command, late)

    @rule(content=CONTENTS)
    def redact_message(self, content: bytes) -> None:
        digest = digest_of(content)
        facts = self.stage.decide(RedactMessages(digest))
        self.rewrite(lambda fact: blank(fact) if getattr(fact, "digest", None) == digest else ())
        self.fold(facts)

    @precondition(lambda self: any(event.type == "MessageDelivered" for _, event in self.stage.history))
    @rule(pick=st.integers(0, 100))
    def redact_event(self, pick: int) -> None:
        arrived = [
            fact
            for _, event in self.stage.history
            if isinstance(fact := decoded(event), MessageDelivered | MessageAppended)
        ]
        id_ = arrived[pick % len(arrived)].message_id
        facts = self.stage.decide(RedactMessages(None, (id_,)))
        self.rewrite(lambda fact: blank(fact) if getattr(fact, "trace", None) and fact.message_id == id_ else ())
        self.fold(facts)

    @rule(name=NAMES.filter(lambda name: name.upper() != "INBOX"))
    def redact_folder_name(self, name: str) -> None:
        meant = {name}

        def fields(fact: Any) -> Fields:
            if type(fact).__name__ not in FOLDER_FACTS:
                return ()
            values = {field: getattr(fact, field) for field in type(fact).REDACTABLE}
            found = {field: text for field, text in values.items() if text == name or is_inferior(text, name)}
            meant.update(found.values())
            return places(fact, {field: redacted_name(name_hash(text)) for field, text in found.items()})

        self.rewrite(fields)
        self.fold(self.stage.decide(RedactFolderNames(tuple(sorted(map(name_hash, meant))))))

    def rewrite(self, fields_of: Any) -> None:
        history = self.stage.history
        for at, (stamp, event) in enumerate(history):
            fields = fields_of(decoded(event))
            if fields:
                history[at] = stamp, event._replace(data=with_fields(event.data, fields))

    def teardown(self) -> None:
        assert self.stage.refolded_rows() == self.stage.rows()
        self.guards_hold_alike()

    def guards_hold_alike(self) -> None:
        """In the refold of the rewritten history every record's guards hold, or fail, as they did."""
        from actors.registry import fold_event

        view, checked = DictView(self.stage.stream), set()
        for stamp, event in self.stage.history:
            if stamp.position in self.guarded and stamp.position not in checked:
                checked.add(stamp.position)
                guards, expected = self.guarded[stamp.position]
                assert held(view, guards) == expected, stamp.position
            fold_event(view.at(stamp.position), event, stamp)


def decoded(event: Event) -> Fact:
    return decode(event.type, event.version, event.data)


Redacted.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_a_refold_of_a_redacted_history_gives_the_live_tables = Redacted.TestCase
