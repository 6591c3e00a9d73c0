"""What a reader sees of an HTML text: without tags, comments, scripts and styles, with its character references read.

For searching: linear in its input, tolerant of anything, and no renderer.
"""

import html
import re

_NAME = re.compile(r"/?([A-Za-z][A-Za-z0-9]*)")
_SPACES = re.compile(r"[ \t\r\n\f]+")
_UNSEEN = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "head", "template")}
# Tags that do not part the word they stand in.
_INLINE = re.compile(
    "(a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|mark|nobr|q|s|samp|small|span|strike|strong|"
    "sub|sup|time|tt|u|var|wbr)"
)


def html_text(source: str) -> str:
    """The text, with single blanks for white space and between blocks."""
    pieces: list[str] = []
    unclosed: set[str] = set()
    at = 0
    while (opened := source.find("<", at)) >= 0:
        pieces.append(source[at:opened])
        if source.startswith("<!--", opened):
            closed = source.find("-->", opened + 4)
            at = closed + 3 if closed >= 0 else len(source)
            continue
        found = _NAME.match(source, opened + 1)
        if found is None and source[opened + 1 : opened + 2] not in ("!", "?"):
            pieces.append("<")  # no tag
            at = opened + 1
            continue
        closed = source.find(">", opened)
        if closed < 0:
            return _finished(pieces)
        name = found[1].lower() if found is not None else ""
        at = closed + 1
        if name in _UNSEEN and found is not None and not found[0].startswith("/") and name not in unclosed:
            end = _UNSEEN[name].search(source, at)
            if end is None:
                unclosed.add(name)  # never looked for again: the work stays linear
            else:
                at = end.start()
        if not _INLINE.fullmatch(name):
            pieces.append(" ")
    pieces.append(source[at:])
    return _finished(pieces)


def _finished(pieces: list[str]) -> str:
    return _SPACES.sub(" ", html.unescape("".join(pieces))).strip(" ")
