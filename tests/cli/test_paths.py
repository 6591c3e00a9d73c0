"""Names and queries in paths of the admin API: quoted, and put there in one place alone."""

import re
from pathlib import Path

import pytest

from cli import paths
from cli.paths import api_path, page_after

BY_HAND = re.compile(r"""f["']/v1/|["']/v1/[^"']*["'] *[+%]|\bquote\(|\burlencode\(""")
ODD = "a/../b?x#@example.test"


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (api_path("/v1/accounts/{}/state", ODD), "/v1/accounts/a%2F..%2Fb%3Fx%23%40example.test/state"),
        (api_path("/v1/log/archive/{}-{}", 1, 20), "/v1/log/archive/1-20"),
        (api_path("/v1/accounts", tenant=None), "/v1/accounts"),
        (api_path("/v1/mail", sender="a&b", to=["c d", "e"]), "/v1/mail?sender=a%26b&to=c+d&to=e"),
        (page_after("/v1/accounts", "a=b"), "/v1/accounts?after=a%3Db"),
        (page_after("/v1/accounts?limit=2", "c"), "/v1/accounts?limit=2&after=c"),
    ],
)
def test_names_are_quoted_and_what_is_none_is_left_out(made: str, path: str) -> None:
    assert made == path


def test_as_many_names_as_there_are_places() -> None:
    with pytest.raises(AssertionError):
        api_path("/v1/accounts/{}/state")


def test_no_command_makes_a_path_by_hand() -> None:
    """One that forgot to quote a name would ask for another thing than it was told."""
    found = [
        f"{file.name}: {line.strip()}"
        for file in sorted(Path(paths.__file__).parent.glob("*.py"))
        if file.name != "paths.py"
        for line in file.read_text().splitlines()
        if BY_HAND.search(line) and "api_path(" not in line
    ]
    assert found == []
