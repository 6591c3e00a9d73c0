"""Every command that there is, written as a client would and read again: what comes back is what was meant."""

import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.mailbox_acl import RIGHTS, ordered
from nodes.imap import commands, search
from nodes.imap.acl_commands import GetAcl, ListRights, MyRights, SetAcl
from nodes.imap.append_commands import Append, AppendMessage, Replace, Url
from nodes.imap.commands import Section
from nodes.imap.content_commands import Binary, Preview
from nodes.imap.folder_grammar import SPECIAL_USES, STATUS_ITEMS
from nodes.imap.metadata_commands import GetMetadata, GetQuota, GetQuotaRoot, SetMetadata, SetQuota
from nodes.imap.notify_commands import EVENTS, MESSAGE_EVENTS, EventGroup, Notify
from nodes.imap.search_commands import (
    CancelUpdate,
    MultiSearch,
    Returned,
    Search,
    Sort,
    SortBy,
    SortKey,
    Sources,
    Thread,
)
from nodes.imap.sequence import NUMBER_LIMIT, SequenceSet
from nodes.imap.states import LEGAL
from nodes.imap.sync_commands import Compress, Enable, Resync
from nodes.mime.searched import folded
from tests.nodes.imap.test_grammar import parse
from tests.nodes.imap.written import written

Strategy = st.SearchStrategy[Any]

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
NAMES = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
    .map(lambda name: unicodedata.normalize("NFC", name))
    .filter(lambda name: name.partition("/")[0].upper() != "INBOX" and not name.endswith("/"))
) | st.just("INBOX")
ATOMS = st.from_regex(r"[A-Z][A-Z0-9=-]{0,10}", fullmatch=True)
KEYWORDS = st.from_regex(r"[A-Za-z$][A-Za-z0-9]{0,8}", fullmatch=True)
NUMBERS = st.integers(1, NUMBER_LIMIT)
MODSEQS = st.integers(1, 2**63 - 1)
DATA = st.binary(max_size=30)
BOTH = st.booleans()


def sets(numbers: Strategy) -> Strategy:
    return st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4).map(lambda pairs: SequenceSet(tuple(pairs)))


SETS = sets(st.integers(0, NUMBER_LIMIT)) | st.just(SequenceSet((), saved=True))
KNOWN = sets(NUMBERS)


def tuples(of: Strategy, least: int = 1, most: int = 4) -> Strategy:
    return st.lists(of, min_size=least, max_size=most, unique=True).map(tuple)


def some(of: Any, least: int = 0) -> Strategy:
    return st.frozensets(st.sampled_from(sorted(of)), min_size=least)


FLAGS = tuples(KEYWORDS | st.sampled_from(["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"]), least=0)
PAGES = st.tuples(NUMBERS, NUMBERS).flatmap(lambda pair: st.sampled_from([pair, (-pair[0], -pair[1])]))
PARTIALS = st.none() | st.tuples(st.integers(0, NUMBER_LIMIT), NUMBERS)
PARTS = tuples(st.integers(1, 99), least=0)


@st.composite
def sections(draw: st.DrawFn) -> Section:
    numbers = draw(PARTS)
    kinds = [one for one in get_args(commands.SectionKind) if numbers or one != "MIME"]
    kind: commands.SectionKind = draw(st.sampled_from(kinds))
    fields = draw(tuples(st.from_regex(r"[A-Za-z-]{1,8}", fullmatch=True))) if "FIELDS" in kind else ()
    label = ".".join([*map(str, numbers), *([kind] if kind else [])])
    label += f" ({' '.join(fields)})" if fields else ""
    lowered = frozenset(field.lower().encode() for field in fields)
    return Section(f"BODY[{label}]".encode(), numbers, kind, lowered, draw(PARTIALS), draw(BOTH))


BINARIES = st.builds(Binary, PARTS, PARTIALS, BOTH, st.just(False)) | st.builds(
    Binary, PARTS, st.none(), st.just(True), st.just(True)
)
ITEMS = tuples(st.sampled_from(get_args(commands.Attribute)) | sections() | BINARIES | st.builds(Preview, BOTH))

SEARCHED = st.text('abcxyz0189 "\\äöñ日', max_size=8).filter(lambda text: folded(text) == text)
DAYS = st.dates(date(1970, 1, 1), date(2100, 12, 31))
RELATIONS = st.sampled_from(["before", "on", "since"])
LEAVES = st.one_of(
    st.just(search.All()),
    st.just(search.Recent()),
    st.builds(search.HasFlag, KEYWORDS.map(str.lower) | st.sampled_from(["\\seen", "\\answered", "\\draft"])),
    st.builds(search.Numbers, SETS, BOTH),
    st.builds(search.Size, st.sampled_from(["larger", "smaller"]), st.integers(0, NUMBER_LIMIT)),
    st.builds(search.Dated, RELATIONS, DAYS, BOTH),
    st.builds(search.Saved, RELATIONS, DAYS),
    st.builds(search.HasId, st.from_regex(rb"[A-Za-z0-9_-]{1,12}", fullmatch=True), BOTH),
    st.builds(search.Within, st.sampled_from(["older", "younger"]), NUMBERS),
    st.builds(search.ModSeq, MODSEQS),
    st.builds(search.HeaderHas, st.from_regex(rb"[a-z-]{1,8}", fullmatch=True), SEARCHED),
    st.builds(search.TextHas, SEARCHED, BOTH),
)


def _all_of(keys: list[search.Key]) -> search.Key:
    """As it is read: what is cheap to look at first."""
    return search.And(tuple(sorted(keys, key=search.cost_of)))


PROGRAMS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(search.Not, inner),
        st.builds(search.Or, inner, inner),
        st.lists(inner, min_size=2, max_size=3).map(_all_of),
    ),
    max_leaves=6,
)
WITHOUT_NUMBERS = PROGRAMS.filter(lambda key: not any(isinstance(one, search.Numbers) for one in search.parts_of(key)))
RETURNED = st.one_of(
    st.builds(Returned, some(["MIN", "MAX", "ALL", "COUNT", "SAVE"], least=1)),
    st.builds(Returned, some(["MIN", "MAX", "COUNT"]), PAGES),
)
SOURCES = st.builds(Sources, st.sampled_from(["inboxes", "personal", "subscribed"])) | st.builds(
    Sources, st.sampled_from(["subtree", "subtree-one", "mailboxes"]), tuples(NAMES)
)
MESSAGES = st.builds(
    AppendMessage,
    FLAGS,
    st.none() | st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1000),
    DATA.map(lambda data: (data,)) | st.lists(DATA | st.builds(Url, TEXTS), min_size=2, max_size=3).map(tuple),
)
ENTRIES = tuples(st.from_regex(r"/(private|shared)/[a-z]{1,8}", fullmatch=True))
MESSAGE_NEWS = st.sampled_from([MESSAGE_EVENTS, MESSAGE_EVENTS - {"FLAGCHANGE"}])
GROUPS = st.one_of(
    st.builds(EventGroup, st.sampled_from(["INBOXES", "PERSONAL", "SUBSCRIBED"]), st.just(frozenset()), MESSAGE_NEWS),
    st.builds(
        EventGroup,
        st.sampled_from(["SUBTREE", "MAILBOXES"]),
        st.frozensets(NAMES, min_size=1, max_size=3),
        some(set(EVENTS) - MESSAGE_EVENTS),
    ),
)
ONE_SELECTED = st.builds(
    EventGroup, st.sampled_from(["SELECTED", "SELECTED-DELAYED"]), st.just(frozenset()), MESSAGE_NEWS, ITEMS
)


@st.composite
def lists(draw: st.DrawFn) -> commands.List:
    if draw(BOTH):
        return commands.List(draw(NAMES), (draw(NAMES),), lsub=True)
    status = draw(tuples(st.sampled_from(STATUS_ITEMS), least=0))
    metadata = draw(st.just(()) | ENTRIES)
    returned = draw(some(["SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"]))
    returned |= {"STATUS"} if status else set()
    returned |= {"METADATA"} if metadata else set()
    selection = draw(some(["SUBSCRIBED", "REMOTE", "SPECIAL-USE"]))
    patterns = draw(tuples(NAMES))
    if selection or returned or len(patterns) > 1:
        patterns = tuple(filter(None, patterns)) or ("*",)  # an empty one means nothing there
    return commands.List(draw(NAMES), patterns, False, selection, returned, status, metadata)


@st.composite
def fetches(draw: st.DrawFn) -> commands.Fetch:
    by_uid, since = draw(BOTH), draw(st.none() | MODSEQS)
    items = draw(ITEMS)
    if by_uid and "UID" not in items:
        items = ("UID", *items)
    if since is not None and "MODSEQ" not in items:
        items = (*items, "MODSEQ")
    vanished = by_uid and since is not None and draw(BOTH)
    return commands.Fetch(draw(SETS), items, by_uid, since, vanished, draw(st.none() | PAGES))


RESYNCS = st.builds(
    Resync, NUMBERS, MODSEQS, st.none() | KNOWN, st.none() | NUMBERS.map(lambda one: (SequenceSet(((one, one),)),) * 2)
)
PLAIN = (
    *(commands.Capability, commands.Noop, commands.Logout, commands.StartTls, commands.Check, commands.Close),
    *(commands.Unselect, commands.Idle, commands.Namespace),
)
STRATEGIES: dict[type, Strategy] = {
    **{kind: st.just(kind()) for kind in PLAIN},
    commands.Id: st.builds(commands.Id, tuples(st.tuples(TEXTS, TEXTS), least=0)),
    commands.Authenticate: st.builds(
        commands.Authenticate, ATOMS, st.none() | st.from_regex(rb"([A-Za-z0-9+/]{4}){0,4}", fullmatch=True)
    ),
    commands.Login: st.builds(commands.Login, TEXTS, TEXTS),
    commands.Select: st.builds(commands.Select, NAMES, BOTH, BOTH, st.none() | RESYNCS),
    commands.Create: st.builds(commands.Create, NAMES, st.none() | st.sampled_from(SPECIAL_USES)),
    commands.Delete: st.builds(commands.Delete, NAMES),
    commands.Rename: st.builds(commands.Rename, NAMES, NAMES),
    commands.Subscribe: st.builds(commands.Subscribe, NAMES, BOTH),
    commands.List: lists(),
    commands.Status: st.builds(commands.Status, NAMES, tuples(st.sampled_from(STATUS_ITEMS))),
    commands.Expunge: st.builds(commands.Expunge, st.none() | SETS),
    commands.Fetch: fetches(),
    commands.Store: st.builds(
        commands.Store, SETS, st.sampled_from(["add", "remove", "replace"]), FLAGS, BOTH, BOTH, st.none() | MODSEQS
    ),
    commands.Copy: st.builds(commands.Copy, SETS, NAMES, BOTH, BOTH),
    Append: st.builds(Append, NAMES, st.lists(MESSAGES, min_size=1, max_size=3).map(tuple)),
    Replace: st.builds(Replace, NUMBERS.map(lambda one: SequenceSet(((one, one),))), NAMES, MESSAGES, BOTH),
    GetMetadata: st.builds(GetMetadata, NAMES, ENTRIES, st.sampled_from([0, 1, None]), st.none() | NUMBERS),
    SetMetadata: st.builds(
        SetMetadata,
        NAMES,
        st.lists(st.tuples(ENTRIES.map(lambda one: one[0]), st.none() | DATA), min_size=1).map(tuple),
    ),
    GetQuota: st.builds(GetQuota, TEXTS),
    SetQuota: st.builds(SetQuota, TEXTS),
    GetQuotaRoot: st.builds(GetQuotaRoot, NAMES),
    SetAcl: st.builds(
        SetAcl,
        NAMES,
        TEXTS.filter(lambda text: not text.startswith("-")),
        BOTH,
        some(RIGHTS).map(ordered),
        st.sampled_from(["add", "remove", "replace"]),
    ),
    GetAcl: st.builds(GetAcl, NAMES),
    ListRights: st.builds(ListRights, NAMES, TEXTS.filter(lambda text: not text.startswith("-"))),
    MyRights: st.builds(MyRights, NAMES),
    Enable: st.builds(Enable, tuples(ATOMS)),
    Compress: st.builds(Compress, ATOMS),
    Notify: st.just(Notify(()))
    | st.builds(lambda one, more, status: Notify((one, *more), status), ONE_SELECTED, tuples(GROUPS, least=0), BOTH),
    Search: st.builds(Search, PROGRAMS, BOTH, st.none() | RETURNED, st.just(b"a")),
    Sort: st.builds(
        Sort,
        tuples(st.builds(SortKey, st.sampled_from(get_args(SortBy)), BOTH)),
        PROGRAMS,
        BOTH,
        st.none() | RETURNED,
        st.just(b"a"),
    ),
    Thread: st.builds(Thread, st.sampled_from(["ORDEREDSUBJECT", "REFERENCES"]), PROGRAMS, BOTH),
    MultiSearch: st.builds(
        MultiSearch,
        tuples(SOURCES),
        WITHOUT_NUMBERS,
        RETURNED.filter(lambda returned: "SAVE" not in returned.options),
        st.just(b"a"),
    ),
    CancelUpdate: st.builds(CancelUpdate, tuples(st.from_regex(rb"[A-Za-z0-9]{1,8}", fullmatch=True))),
}


def test_there_is_a_way_to_write_each_command() -> None:
    assert set(STRATEGIES) == set().union(*LEGAL.values())


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)
def test_a_command_comes_back_as_it_was_meant(kind: type) -> None:
    comes_back(STRATEGIES[kind])


def comes_back(strategy: Strategy) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(strategy)
    def check(command: commands.Command) -> None:
        assert parse(b"a " + written(command)) == command

    run: Callable[[], None] = check
    run()
