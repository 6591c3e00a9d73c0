"""Whatever can be changed shows an ETag, and is left alone under If-Match where it is not what the client has seen.

Every declared endpoint that changes something stands here: with a change that is tried, or with why it has no version.
"""

import io
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from chaos.cluster import free_base_port
from cli import layout
from nodes.http.admin import endpoints
from nodes.http.openapi import openapi_path
from tests.nodes.http.one_node import Run
from tests.nodes.http.test_credentials import code_of
from tests.nodes.http.test_once import Site, during
from tests.peers import certificates

TENANT, ALICE = "/v1/tenants/example", "/v1/accounts/alice@example.test"
CREDENTIALS, DKIM, RIGHTS = f"{ALICE}/credentials", "/v1/dkim/example.test", "/v1/shared/alice@example.test"
HELD = "/v1/roles/held?address=bob@example.test"
MADE: dict[str, str] = {}  # what the site told while it was set up


class Change(NamedTuple):
    """Where the thing is shown, what changes it, and what must be done before. Without a body: none is sent."""

    shown: str
    path: str
    body: Any = None
    before: Callable[[Site], Any] = lambda _: None


def post(path: str, body: Any = None) -> Callable[[Site], Any]:
    return lambda site: site.change("POST", path, body if body is not None else {})


def allow_apop(site: Site) -> None:
    site.change("PUT", f"{TENANT}/policy", {"set": {"pop3_apop": "on"}})


def new_codes(site: Site) -> None:
    MADE["secret"] = site.change("POST", f"{ALICE}/totp")["secret"]


def new_key(site: Site) -> None:
    MADE["key"] = site.change("POST", "/v1/cluster-keys", {"key": secrets.token_hex(32)})["keys"][-1]["id"]
    while not site.get("/v1/cluster-keys")["keys"][-1]["holders"]:
        time.sleep(0.05)  # the node says in the log that it has it


def new_dkim_key(site: Site) -> None:
    site.change("POST", f"{DKIM}/keys", {"selector": "spare", "algorithms": ["ed25519-sha256"]})


def new_join_token(site: Site) -> None:
    MADE["join"] = site.change("POST", "/v1/cluster/tokens", {"name": "n9"})["id"]


def cell_authority(site: Site) -> dict[str, str]:
    authority = site.cluster.folder / "ca"
    return {"certificate": (authority / "ca.pem").read_text(), "key": (authority / "ca.key").read_text()}


# as they are declared; in an order in which each can be done after those before it
CHANGES: dict[str, Change] = {
    "PATCH /v1/tenants/{name}": Change(TENANT, TENANT, {"time_travel": False}),
    "PUT /v1/tenants/{name}/details": Change(TENANT, f"{TENANT}/details", {"title": "Example Ltd"}),
    "POST /v1/tenants/{name}/domains": Change(TENANT, f"{TENANT}/domains", {"domain": "second.test"}),
    "DELETE /v1/tenants/{name}/domains/{domain}": Change(TENANT, f"{TENANT}/domains/second.test"),
    "POST /v1/tenants/{name}/suspension": Change(TENANT, f"{TENANT}/suspension", {"reason": "a test"}),
    "DELETE /v1/tenants/{name}/suspension": Change(TENANT, f"{TENANT}/suspension"),
    "POST /v1/tenants/{name}/deletion": Change(TENANT, f"{TENANT}/deletion", {"grace_ms": 86_400_000}),
    "DELETE /v1/tenants/{name}/deletion": Change(TENANT, f"{TENANT}/deletion"),
    "PUT /v1/tenants/{name}/quotas": Change(f"{TENANT}/quotas", f"{TENANT}/quotas", {"set": {"accounts": 90}}),
    "PUT /v1/tenants/{name}/policy": Change(f"{TENANT}/policy", f"{TENANT}/policy", {"set": {"dmarc": "mark"}}),
    "PUT /v1/verdicts/tenants/{name}": Change(f"{TENANT}/policy", "/v1/verdicts/tenants/example", {"dmarc": "enforce"}),
    "PUT /v1/verdicts": Change("/v1/verdicts", "/v1/verdicts", {"dmarc": "mark"}),
    "PUT /v1/reports/settings": Change("/v1/reports/settings", "/v1/reports/settings", {"organisation": "One"}),
    "PUT /v1/accounts/{address}/password": Change(ALICE, f"{ALICE}/password", {"password": "another horse"}),
    "PUT /v1/accounts/{address}/quota": Change(ALICE, f"{ALICE}/quota", {"quota_bytes": 1 << 30}),
    "PATCH /v1/accounts/{address}/state": Change(f"{ALICE}/state", f"{ALICE}/state", {"disabled": True}),
    "DELETE /v1/accounts/{address}/app-passwords/{name}": Change(
        CREDENTIALS,
        f"{ALICE}/app-passwords/phone",
        None,
        post(f"{ALICE}/app-passwords", {"name": "phone", "scopes": ["imap"]}),
    ),
    "POST /v1/accounts/{address}/totp": Change(CREDENTIALS, f"{ALICE}/totp", {}),
    "PUT /v1/accounts/{address}/totp": Change(
        CREDENTIALS, f"{ALICE}/totp", lambda _: {"code": code_of(MADE["secret"], 0)}, new_codes
    ),
    "DELETE /v1/accounts/{address}/totp": Change(CREDENTIALS, f"{ALICE}/totp"),
    "PUT /v1/accounts/{address}/apop": Change(
        CREDENTIALS, f"{ALICE}/apop", {"secret": "correct horse battery"}, allow_apop
    ),
    "DELETE /v1/accounts/{address}/apop": Change(CREDENTIALS, f"{ALICE}/apop"),
    "PUT /v1/roles": Change(HELD, "/v1/roles", {"address": "bob@example.test", "role": "help-desk"}),
    "DELETE /v1/roles": Change(HELD, "/v1/roles?address=bob@example.test"),
    "DELETE /v1/tokens/{id}": Change("/v1/tokens/TOKEN", "/v1/tokens/TOKEN"),
    "PATCH /v1/groups/{address}": Change(
        "/v1/groups/all@example.test", "/v1/groups/all@example.test", {"add": ["alice@example.test"]}
    ),
    "DELETE /v1/groups/{address}": Change("/v1/groups/all@example.test", "/v1/groups/all@example.test"),
    "DELETE /v1/aliases/{address}": Change("/v1/aliases/info@example.test", "/v1/aliases/info@example.test"),
    "PUT /v1/shared/{place}/rights": Change(
        RIGHTS, f"{RIGHTS}/rights", {"name": "INBOX", "whom": "bob@example.test", "rights": "lr"}
    ),
    "PUT /v1/accounts/{address}/senders": Change(
        f"{ALICE}/senders", f"{ALICE}/senders", {"whom": "bob@example.test", "how": "send-as"}
    ),
    "POST /v1/tenants/{name}/folders": Change("/v1/shared/example", f"{TENANT}/folders", {"name": "News"}),
    "DELETE /v1/tenants/{name}/folders": Change("/v1/shared/example", f"{TENANT}/folders?name=News"),
    "PUT /v1/routes": Change("/v1/routes/default", "/v1/routes", {"for": "default", "host": "two.example.test"}),
    "DELETE /v1/routes/{match}": Change("/v1/routes/default", "/v1/routes/default"),
    "POST /v1/dkim/{domain}/keys": Change(DKIM, f"{DKIM}/keys", {"algorithms": ["ed25519-sha256"], "active": True}),
    "POST /v1/dkim/{domain}/rotate": Change(DKIM, f"{DKIM}/rotate", {"active": True}),
    "PUT /v1/dkim/{domain}/schedule": Change(DKIM, f"{DKIM}/schedule", {"every_ms": 90 * 86_400_000, "overlap_ms": 1}),
    "DELETE /v1/dkim/{domain}/keys/{selector}": Change(DKIM, f"{DKIM}/keys/spare", None, new_dkim_key),
    "PUT /v1/cluster-settings": Change(
        "/v1/cluster-settings", "/v1/cluster-settings", {"set": {"limits.recipients": 200}}
    ),
    "PUT /v1/cluster/authority": Change("/v1/cluster/authority", "/v1/cluster/authority", cell_authority),
    "DELETE /v1/cluster/tokens/{id}": Change("/v1/cluster/tokens", "/v1/cluster/tokens/JOIN", None, new_join_token),
    "DELETE /v1/certificates/{wanted}": Change(
        "/v1/certificates/mail.example.test", "/v1/certificates/mail.example.test"
    ),
    "PUT /v1/client-authorities/{name}": Change(
        "/v1/client-authorities",
        "/v1/client-authorities/staff",
        lambda _: {"certificates": certificates.authority().pem.decode()},
    ),
    "DELETE /v1/client-authorities/{name}": Change("/v1/client-authorities", "/v1/client-authorities/staff"),
    "DELETE /v1/accounts/{address}": Change(ALICE, ALICE),
    # the last: whatever is sealed is sealed anew by it, and is then something else
    "PUT /v1/cluster-keys": Change("/v1/cluster-keys", "/v1/cluster-keys", lambda _: {"id": MADE["key"]}, new_key),
}
# what takes another party, which is not here: that it is refused under an old ETag is tried
REFUSED_ONLY: dict[str, Change] = {
    "PUT /v1/acme/account": Change(
        "/v1/acme", "/v1/acme/account", {"directory": "https://acme.test/", "contacts": [], "agreed": True}
    ),
    "DELETE /v1/acme/kept/{name}": Change("/v1/acme", "/v1/acme/kept/mail.example.test"),
    "DELETE /v1/region/grants/{name}": Change("/v1/region/grants", "/v1/region/grants/north"),
    "DELETE /v1/region/follows/{name}": Change("/v1/region/follows", "/v1/region/follows/north"),
}
WITHOUT_VERSION = {
    "PUT /v1/mail": "a message is new each time",
    "PUT /v1/log/archive/{first}-{last}": "a segment is proven against the chain, and is what it is or nothing",
    "PUT /v1/cluster/authority/succession/next": "a step is taken in its turn or not at all, whoever asks for it",
    "DELETE /v1/members/{name}": "members are the consensus's own, not rows; a name is used once",
}


def test_whatever_changes_something_has_a_version_or_a_reason() -> None:
    changing = {
        f"{one.method} {openapi_path(one.path)}": one for one in endpoints() if one.method in ("PUT", "PATCH", "DELETE")
    }
    versioned = {
        f"{one.method} {openapi_path(one.path)}"
        for one in endpoints()
        if one.method != "GET" and one.made_of is not None
    }
    assert versioned == set(CHANGES) | set(REFUSED_ONLY)
    assert {name for name, one in changing.items() if one.made_of is None} == set(WITHOUT_VERSION)


def test_what_is_changed_under_an_etag_is_shown_with_it_at_one_place() -> None:
    for one in endpoints():
        if one.made_of is not None:
            shown = [other.path for other in endpoints() if other.method == "GET" and other.made_of is one.made_of]
            assert len(shown) == 1, (one.path, shown)


@pytest.fixture
def cell(tmp_path: Any) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def set_up(site: Site) -> None:
    site.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    for name in ("alice", "bob"):
        site.change("POST", "/v1/accounts", {"address": f"{name}@example.test", "password": "correct horse"})
    site.change("POST", "/v1/aliases", {"address": "info@example.test", "targets": ["bob@example.test"]})
    site.change("POST", "/v1/groups", {"address": "all@example.test", "members": ["bob@example.test"]})
    site.change("PUT", "/v1/roles", {"address": "bob@example.test", "role": "auditor"})
    site.change("PUT", "/v1/routes", {"for": "default", "host": "one.example.test"})
    MADE["token"] = site.change("POST", "/v1/tokens", {"tenant": "example"})["id"]
    pair = certificates.server("mail.example.test")
    site.change("POST", "/v1/certificates", {"chain": pair.pem.decode(), "key": pair.key_pem.decode()})


def filled(site: Site, change: Change) -> Change:
    change.before(site)
    names = (("TOKEN", MADE.get("token", "")), ("JOIN", MADE.get("join", "")))
    shown, path = change.shown, change.path
    for name, value in names:
        shown, path = shown.replace(name, value), path.replace(name, value)
    return Change(shown, path, change.body(site) if callable(change.body) else change.body)


def test_each_thing_is_changed_under_its_etag_and_under_no_other(run: Run, cell: layout.Cluster) -> None:
    def story(site: Site) -> None:
        set_up(site)
        wrong: list[tuple[Any, ...]] = []
        for name, change in CHANGES.items():
            method, one = name.partition(" ")[0], filled(site, change)
            before = site.etag(one.shown)
            stale = site.matching('"0000.0000"', one.path, one.body, method)
            if (stale[0], stale[1].get("code")) != (412, "has_changed") or site.etag(one.shown) != before:
                wrong.append((name, "stale", stale))
            done = site.matching(f'"x", {before}', one.path, one.body, method)
            if done[0] >= 300:
                wrong.append((name, "right", done))
            again = site.matching(before, one.path, one.body, method)
            if (again[0], again[1].get("code")) != (412, "has_changed") and again[0] != 404:
                wrong.append((name, "again", again))
        for name, change in REFUSED_ONLY.items():
            stale = site.matching('"0000.0000"', change.path, change.body, name.partition(" ")[0])
            if (stale[0], stale[1].get("code")) != (412, "has_changed"):
                wrong.append((name, "stale", stale))
        assert not wrong, "\n".join(map(str, wrong))

    during(run, cell, story)


def test_of_many_who_have_seen_the_same_one_changes_it(run: Run, cell: layout.Cluster) -> None:
    def story(site: Site) -> None:
        set_up(site)
        etag = site.etag(TENANT)

        def change(number: int) -> int:
            return site.matching(etag, f"{TENANT}/details", {"title": f"number {number}"})[0]

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(change, range(8))) == [200] + [412] * 7

    during(run, cell, story)


def test_a_change_of_several_records_is_done_whole_and_what_is_only_used_keeps_nobody_from_it(
    run: Run, cell: layout.Cluster
) -> None:
    def story(site: Site) -> None:
        set_up(site)
        etags = {path: site.etag(path) for path in (TENANT, f"{TENANT}/quotas", ALICE)}
        before = site.get(ALICE)
        site.upload("/v1/mail?sender=bob@example.test&to=alice@example.test", "n1", io.BytesIO(b"Subject: x\r\n\r\nx"))
        assert site.get(ALICE) != before
        assert site.etag(ALICE) != etags[ALICE]  # what it shows is another thing, what can be changed is not
        assert site.matching(etags[ALICE], f"{ALICE}/quota", {"quota_bytes": 1 << 30})[0] == 200
        assert site.matching(etags[f"{TENANT}/quotas"], f"{TENANT}/quotas", {"set": {"accounts": 9}})[0] == 200
        both = site.matching(etags[TENANT], f"{TENANT}/details", {"title": "Another", "name": "another"})
        assert (both[0], both[1]["title"], both[1]["name"]) == (200, "Another", "another")

    during(run, cell, story)
