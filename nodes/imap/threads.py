"""The threading algorithms of RFC 5256 3: ORDEREDSUBJECT and REFERENCES, over what a search found. Pure.

No recursion: a thread may be as deep as there are messages.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nodes.imap.sort_keys import SortKeys

DEPTH_LOOKED = 500  # messages above one, when two threads are joined


class Threaded(NamedTuple):
    """One message: its number or UID as the response shows it, and what it is threaded by."""

    number: int
    sent_ms: int
    keys: SortKeys


class Node:
    """A message, or with `message` None a place that a message which is not here would have."""

    __slots__ = ("children", "message", "parent")

    def __init__(self, message: Threaded | None = None) -> None:
        self.message = message
        self.parent: Node | None = None
        self.children: list[Node] = []

    @property
    def first(self) -> Threaded:
        """The message, or of a dummy that of its first child: by then no dummy has none, or a dummy first."""
        found = self
        while found.message is None:
            found = found.children[0]
        return found.message

    @property
    def order(self) -> tuple[int, int]:
        return self.first.sent_ms, self.first.number


def ordered_subject(messages: Sequence[Threaded]) -> list[Node]:
    """Threads of messages with one base subject, by the date of their first; the others are its children."""
    threads: dict[str, Node] = {}
    for message in sorted(messages, key=lambda one: (one.keys.subject, one.sent_ms, one.number)):
        if (root := threads.get(message.keys.subject)) is None:
            threads[message.keys.subject] = Node(message)
        else:
            _adopt(root, Node(message))
    return sorted(threads.values(), key=lambda root: root.order)


def references(messages: Iterable[Threaded]) -> list[Node]:
    """The six steps of REFERENCES."""
    nodes = _linked(messages)
    roots = _pruned([node for node in nodes if node.parent is None])
    _sort(roots)
    roots = _gathered(roots)
    _sort(roots)
    return roots


def _linked(messages: Iterable[Threaded]) -> list[Node]:
    """Step 1: each message under the last of its references, those under one another, and never in a loop."""
    by_id: dict[bytes, Node] = {}
    nodes: list[Node] = []
    for message in messages:
        node = by_id.get(message.keys.message_id) if message.keys.message_id else None
        if node is None or node.message is not None:  # no id, or one that another message has: unique to itself
            fresh = Node()
            nodes.append(fresh)
            if node is None and message.keys.message_id:
                by_id[message.keys.message_id] = fresh
            node = fresh
        node.message = message
        parent: Node | None = None
        for reference in message.keys.references:
            referred = by_id.get(reference)
            if referred is None:
                referred = by_id[reference] = Node()
                nodes.append(referred)
            if parent is not None and referred.parent is None and not _is_below(parent, referred):
                _adopt(parent, referred)
            parent = referred
        if node.parent is not None and node.parent is not parent:
            _leave(node)  # what others said of its parent was a guess
        if parent is not None and node.parent is None and not _is_below(parent, node):
            _adopt(parent, node)
    return nodes


def _adopt(parent: Node, child: Node) -> None:
    child.parent = parent
    parent.children.append(child)


def _leave(node: Node) -> None:
    assert node.parent is not None
    node.parent.children.remove(node)
    node.parent = None


def _is_below(node: Node | None, above: Node) -> bool:
    """Whether `node` is `above` or one of its descendants; of who stands too deep to look, it is said that it is.

    A thread grows at its end, where nothing is below: what is refused for its depth is none that people wrote.
    """
    if not above.children:
        return node is above
    for _ in range(DEPTH_LOOKED):
        if node is None or node is above:
            return node is not None
        node = node.parent
    return True


def _pruned(roots: list[Node]) -> list[Node]:
    """Step 3: dummies without children go; others give theirs to the one above, but for several at the top."""
    for node in _bottom_up(roots):
        node.children = [kept for child in node.children for kept in _kept(child)]
        for child in node.children:
            child.parent = node
    found: list[Node] = []
    for root in roots:
        if root.message is None and len(root.children) <= 1:
            found.extend(root.children)
        else:
            found.append(root)
    for root in found:
        root.parent = None
    return found


def _kept(child: Node) -> list[Node]:
    return [child] if child.message is not None else child.children


def _bottom_up(roots: list[Node]) -> Iterator[Node]:
    order: list[Node] = []
    stack = list(roots)
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.children)
    return reversed(order)


def _sort(roots: list[Node]) -> None:
    """Steps 4 and 6: siblings by date; children first, because a dummy counts as its first child."""
    for node in _bottom_up(roots):
        node.children.sort(key=lambda child: child.order)
    roots.sort(key=lambda root: root.order)


def _gathered(roots: list[Node]) -> list[Node]:
    """Step 5: threads with one base subject become one."""
    table = _subject_table(roots)
    result = dict.fromkeys(roots)
    for node in roots:
        subject = node.first.keys.subject
        found = table.get(subject) if subject else None
        if found is None or found is node:
            continue
        del result[node]
        if found.message is None:
            for child in node.children if node.message is None else [node]:
                _adopt(found, child)
        elif node.first.keys.is_reply and not found.first.keys.is_reply:
            _adopt(found, node)
        else:
            both = Node()
            del result[found]
            for one in (found, node):
                _adopt(both, one)
            table[subject] = both
            result[both] = None
    return list(result)


def _subject_table(roots: list[Node]) -> dict[str, Node]:
    """For each subject the thread that others join: a dummy rather than a message, no reply rather than a reply."""
    table: dict[str, Node] = {}
    for node in roots:
        subject = node.first.keys.subject
        if not subject:
            continue
        found = table.get(subject)
        if found is None or (
            found.message is not None
            and (node.message is None or (found.first.keys.is_reply and not node.first.keys.is_reply))
        ):
            table[subject] = node
    return table


def response(roots: list[Node]) -> bytes:
    """The thread-lists of a THREAD response (RFC 5256 5)."""
    pieces: list[bytes] = []
    # What is still to be written: texts, and nodes with whether a blank goes before them.
    stack: list[bytes | tuple[Node, bool]] = []
    for root in reversed(roots):
        stack += [b")", (root, False), b"("]
    while stack:
        item = stack.pop()
        if isinstance(item, bytes):
            pieces.append(item)
            continue
        node, blank = item
        if node.message is not None:
            pieces.append(b" %d" % node.message.number if blank else b"%d" % node.message.number)
        if len(node.children) == 1:
            stack.append((node.children[0], node.message is not None))
        elif node.children:
            if node.message is not None:
                pieces.append(b" ")
            for child in reversed(node.children):
                stack += [b")", (child, False), b"("]
    return b"".join(pieces)
