"""Lists whom an LDAP directory has, page by page (RFC 2696). Blocking, in threads, as ldap_directory.py.

A listing is whole or none: whoever is missing from it is taken for gone, so an answer that is cut short, by a limit of
the server say, is DirectoryAway. Entries that have no address in the directory's domains are nobody's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ldap3

from actors.errors import InvalidName
from actors.names import normalise_address, normalise_domain
from nodes.config.ldap import PLACES, LdapDirectory
from nodes.logins.ldap_directory import SUCCESS, Directory, DirectoryAway

PAGE = 500
MOST_ENTRIES = 200_000
_PAGED = "1.2.840.113556.1.4.319"


class Entry(NamedTuple):
    """Somebody in the directory. `quota_bytes` None: it says nothing of that."""

    address: str
    disabled: bool
    quota_bytes: int | None


def listed(directory: Directory, config: LdapDirectory) -> list[Entry]:
    """Everybody, one entry for each address of theirs that is first in a domain of the directory; the same address
    twice where two have it. Raises DirectoryAway."""
    everybody = PLACES.sub("*", config.filter)
    attributes = [one for one in (config.address_attribute, config.quota_attribute) if one]
    with directory.bound() as connection:
        found = _search(connection, config, everybody, attributes)
        closed = frozenset[str]()
        if config.disabled_filter:
            filter_ = f"(&{everybody}{config.disabled_filter})"
            closed = frozenset(dn for dn, _ in _search(connection, config, filter_, [ldap3.NO_ATTRIBUTES]))
    domains = frozenset(map(normalise_domain, config.domains))
    entries = []
    for dn, values in found:
        address = _address(values.get(config.address_attribute.casefold(), ()), domains)
        if address is not None:
            entries.append(Entry(address, dn in closed, _quota(values.get(config.quota_attribute.casefold(), ()))))
    return entries


def _search(
    connection: ldap3.Connection, config: LdapDirectory, filter_: str, attributes: list[str]
) -> list[tuple[str, dict[str, list[bytes]]]]:
    """Name and values of each entry. Raises DirectoryAway where that is not all of them."""
    found: list[tuple[str, dict[str, list[bytes]]]] = []
    cookie: Any = None
    while True:
        connection.search(
            config.base,
            filter_,
            ldap3.SUBTREE,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=attributes,
            paged_size=PAGE,
            paged_cookie=cookie,
        )
        if connection.result["result"] != SUCCESS:
            raise DirectoryAway(f"users can not be listed: {connection.result['description']}")
        for one in connection.response or ():
            if one["type"] == "searchResEntry":
                values = {name.casefold(): list(held) for name, held in one["raw_attributes"].items()}
                found.append((str(one["dn"]), values))
        if len(found) > MOST_ENTRIES:
            raise DirectoryAway(f"it has more than {MOST_ENTRIES} users")
        cookie = connection.result.get("controls", {}).get(_PAGED, {}).get("value", {}).get("cookie")
        if not cookie:
            return found


def _address(values: Any, domains: frozenset[str]) -> str | None:
    for value in values:
        try:
            address = normalise_address(value.decode())
        except (InvalidName, UnicodeDecodeError):
            continue
        if address.rpartition("@")[2] in domains:
            return address
    return None


def _quota(values: Any) -> int | None:
    """Octets."""
    for value in values:
        if value.isdigit() and len(value) < 16:
            return int(value)
    return None
