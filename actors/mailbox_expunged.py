"""UIDs that have gone, by the MODSEQ with which they went: what a client that comes back is told (RFC 7162 3.2.10).

Rows of one account's stream:
  x + MODSEQ // 128: of all folders [[folder id, MODSEQ, first UID, last UID, first, last, ...], ...], by MODSEQ
  X: every expunge with a MODSEQ above this is noted (peek, never a guard)
Several expunges share a row, and a row goes when the account has changed 131,072 times since: the rows of an account
are at most 1025, so that closing it stays one record. Who asks for what is older is told of every UID that is not
there, which RFC 7162 3.2.5 leaves to a server that forgets. A folder that is deleted leaves its entries to age.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventlog.views import View

SINCE_KEY = b"X"
BLOCK_MODSEQS = 128
BLOCKS_KEPT = 1024

Span = tuple[int, int]  # first and last UID

_PREFIX = b"x"


def begin(view: View) -> None:
    """In the fold of what opens a mailbox: all expunges are noted from here on."""
    view.put(SINCE_KEY, 0)


def note(view: View, folder_id: bytes, modseq: int, uids: Iterable[int]) -> None:
    """In the fold of what expunges: these UIDs (ascending) went with that MODSEQ."""
    block = modseq // BLOCK_MODSEQS
    row = view.get(_key(block))
    if row is None:
        _forget(view, block - BLOCKS_KEPT)
    if view.get(SINCE_KEY) is None:  # of a mailbox whose expunges were not noted before
        view.put(SINCE_KEY, modseq - 1)
    entry = (folder_id, modseq, *(bound for span in spans_of(uids) for bound in span))
    view.put(_key(block), (*(row or ()), entry))


def forget_all(view: View) -> None:
    """In the fold of what closes a mailbox."""
    for key, _ in list(view.range(_PREFIX)):
        view.delete(key)
    view.delete(SINCE_KEY)


def expunged_since(view: View, folder_id: bytes, modseq: int) -> list[Span] | None:
    """UIDs of the folder that went with a MODSEQ above `modseq`: sorted and disjoint; None where that is not known."""
    since = view.peek(SINCE_KEY)
    if since is None or modseq < since:
        return None
    spans: list[Span] = []
    for _, row in view.range(_PREFIX, _key(modseq // BLOCK_MODSEQS)[1:]):
        for folder, at, *bounds in row:
            if folder == folder_id and at > modseq:
                spans += zip(bounds[::2], bounds[1::2], strict=True)
    return united(spans)


def united(spans: Iterable[Span]) -> list[Span]:
    """The same UIDs as sorted, disjoint spans; adjoining ones are put together."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def spans_of(uids: Iterable[int]) -> list[Span]:
    """Ascending UIDs as spans."""
    spans: list[Span] = []
    for uid in uids:
        if spans and uid == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], uid)
        else:
            spans.append((uid, uid))
    return spans


def _forget(view: View, oldest_kept: int) -> None:
    if oldest_kept <= 0:
        return
    old = list(view.range(_PREFIX, b"", _key(oldest_kept)[1:]))
    for key, _ in old:
        view.delete(key)
    if old:
        view.put(SINCE_KEY, oldest_kept * BLOCK_MODSEQS - 1)


def _key(block: int) -> bytes:
    return _PREFIX + block.to_bytes(8, "big")
