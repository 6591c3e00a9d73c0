"""LIST and LSUB: patterns, attributes, selection options."""

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from actors.mailbox import Folder
from nodes.imap.commands import List
from nodes.imap.listing import Tree, matches, render_entry
from tests.nodes.imap.test_grammar import parse

TREE = Tree(
    [
        Folder(b"%d" % number, name, 1, "\\Sent" if name == "Sent" else None, False)
        for number, name in enumerate(["INBOX", "Sent", "a", "a/b/c", "x/y", "ü"])
    ],
    ["INBOX", "a/b/c", "gone/away"],
)


def listing(text: str, tree: Tree = TREE) -> list[str]:
    command = parse(f"t {text}".encode())
    assert isinstance(command, List)
    response = b"LSUB" if command.lsub else b"LIST"
    return [
        render_entry(entry, response, utf8=False).decode().removeprefix("* ").strip()
        for entry in tree.entries(command)
        if entry is not None
    ]


def test_a_star_takes_all_levels_and_names_between_that_are_no_mailboxes() -> None:
    assert listing('LIST "" *') == [
        'LIST (\\HasNoChildren) "/" "INBOX"',
        'LIST (\\HasNoChildren \\Sent) "/" "Sent"',
        'LIST (\\HasChildren) "/" "a"',
        'LIST (\\Noselect \\HasChildren) "/" "a/b"',
        'LIST (\\HasNoChildren) "/" "a/b/c"',
        'LIST (\\Noselect \\HasChildren) "/" "x"',
        'LIST (\\HasNoChildren) "/" "x/y"',
        'LIST (\\HasNoChildren) "/" "&APw-"',
    ]


def test_a_percent_takes_one_level() -> None:
    assert listing('LIST "" a/%') == ['LIST (\\Noselect \\HasChildren) "/" "a/b"']
    assert listing("LIST a/ %") == ['LIST (\\Noselect \\HasChildren) "/" "a/b"']


def test_inbox_is_found_in_any_case() -> None:
    for pattern in ("inbox", "InB%", "INBOX"):
        assert listing(f'LIST "" {pattern}') == ['LIST (\\HasNoChildren) "/" "INBOX"']


def test_lsub_shows_subscribed_names_and_with_percent_the_names_above_them() -> None:
    assert listing('LSUB "" *') == ['LSUB () "/" "INBOX"', 'LSUB () "/" "a/b/c"', 'LSUB () "/" "gone/away"']
    assert listing('LSUB "" %') == ['LSUB () "/" "INBOX"', 'LSUB (\\Noselect) "/" "a"', 'LSUB (\\Noselect) "/" "gone"']


def test_subscribed_names_are_selected_even_where_no_mailbox_is() -> None:
    assert listing('LIST (SUBSCRIBED) "" *') == [
        'LIST (\\Subscribed \\HasNoChildren) "/" "INBOX"',
        'LIST (\\Subscribed \\HasNoChildren) "/" "a/b/c"',
        'LIST (\\NonExistent \\Subscribed \\HasNoChildren) "/" "gone/away"',
    ]


def test_a_recursive_match_tells_of_what_is_below() -> None:
    assert listing('LIST (SUBSCRIBED RECURSIVEMATCH) "" %') == [
        'LIST (\\Subscribed \\HasNoChildren) "/" "INBOX"',
        'LIST (\\HasChildren) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))',
        'LIST (\\NonExistent \\HasNoChildren) "/" "gone" ("CHILDINFO" ("SUBSCRIBED"))',
    ]


def test_special_use_selects_and_several_patterns_unite() -> None:
    assert listing('LIST (SPECIAL-USE) "" *') == ['LIST (\\HasNoChildren \\Sent) "/" "Sent"']
    assert listing('LIST "" (a INBOX) RETURN (SUBSCRIBED)') == [
        'LIST (\\Subscribed \\HasNoChildren) "/" "INBOX"',
        'LIST (\\HasChildren) "/" "a"',
    ]


@given(st.text(alphabet="ab/*%", max_size=8), st.text(alphabet="ab/", max_size=8))
def test_patterns_match_as_the_regular_expression_would(pattern: str, name: str) -> None:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern)
    assert matches(pattern, name) == bool(re.fullmatch(expression, name, re.DOTALL))


def test_a_pattern_of_many_wildcards_costs_little() -> None:
    start = time.process_time()
    assert not matches("*a" * 400 + "%a" * 100 + "b", "a" * 1000)
    assert time.process_time() - start < 5
