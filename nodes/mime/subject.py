"""The base subject of RFC 5256 2.1: a subject without what replies, forwards and mailing lists put around it."""

import re

SUBJECT_LIMIT = 4000  # characters; what is longer is cut before it is looked at

_SPACES = re.compile(r"[ \t\r\n]+")
_BLOB = re.compile(r"\[[^\[\]]*\][ \t]*")
_REFWD = re.compile(r"(?:re|fwd?)[ \t]*(?:\[[^\[\]]*\][ \t]*)?:", re.IGNORECASE)
_FORWARDED = re.compile(r"\[fwd:", re.IGNORECASE)


def base_subject(subject: str) -> tuple[str, bool]:
    """The base of a decoded subject, and whether it is a reply or forward."""
    text = _SPACES.sub(" ", subject[:SUBJECT_LIMIT])
    is_reply = False
    while True:
        text, found = _without_trailers(text)
        is_reply = is_reply or found
        text, found = _without_leaders(text)
        is_reply = is_reply or found
        forwarded = _FORWARDED.match(text)
        if forwarded is None or not text.endswith("]"):
            return text, is_reply
        text, is_reply = text[forwarded.end() : -1], True


def _without_trailers(text: str) -> tuple[str, bool]:
    """Step 2: `(fwd)` and blanks at the end."""
    found = False
    while True:
        text = text.rstrip(" ")
        if text[-5:].lower() != "(fwd)":
            return text, found
        text, found = text[:-5], True


def _without_leaders(text: str) -> tuple[str, bool]:
    """Steps 3 to 5: `Re:`, `Fwd [list]:` and the like, then one `[blob]` if something stays, again and again."""
    is_reply = False
    at = 0
    while True:
        while text[at : at + 1] == " ":
            at += 1
        leader = _leader(text, at)
        if leader is None:
            return text[_behind_blobs(text, at) :], is_reply
        at, is_reply = leader, True


def _behind_blobs(text: str, at: int) -> int:
    """Where the blobs end that begin here, but for one with nothing behind it: no `Re:` follows these."""
    while (blob := _BLOB.match(text, at)) is not None and blob.end() < len(text):
        at = blob.end()
    return at


def _leader(text: str, at: int) -> int | None:
    """Where *subj-blob subj-refwd that begins here ends."""
    while (blob := _BLOB.match(text, at)) is not None:
        at = blob.end()
    found = _REFWD.match(text, at)
    return found.end() if found else None
