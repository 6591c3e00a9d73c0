"""Paths of the admin API: the one place that knows how names are put into them."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def api_path(path: str, *names: object, **query: object) -> str:
    """A path with names in the place of its `{}`, and a query of what is not None, a list item by item."""
    assert path.count("{}") == len(names), path
    filled = path.format(*(quote(str(name), safe="") for name in names))
    asked = [
        (key, one)
        for key, value in query.items()
        for one in (value if isinstance(value, list | tuple) else (value,))
        if one is not None
    ]
    return f"{filled}?{urlencode(asked)}" if asked else filled


def page_after(path: str, mark: str) -> str:
    """The next page of a list, as the page before says."""
    return f"{path}{'&' if '?' in path else '?'}{urlencode({'after': mark})}"
