"""Paths of the admin API: the one place that knows how names are put into them."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from cli.output import CommandError, printable


def api_path(path: str, *names: object, **query: object) -> str:
    """A path with names in the place of its `{}`, and a query of what is not None, a list item by item.

    Raises CommandError for what the shell gave in another encoding than UTF-8.
    """
    assert path.count("{}") == len(names), path
    try:
        return _filled(path, names, query)
    except UnicodeEncodeError as error:
        raise CommandError(f"{printable(error.object)} is not text in UTF-8", "the same in UTF-8") from None


def _filled(path: str, names: tuple[object, ...], query: dict[str, object]) -> str:
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
