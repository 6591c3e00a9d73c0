"""Who may do what over the admin API: roles, scopes and tenants against each other."""

from __future__ import annotations

import dataclasses

import pytest

from actors import roles
from eventlog.record import By
from nodes.logins import callers
from nodes.logins.callers import CLUSTER_TOPICS, PERMISSIONS, ROLES, Caller, administrator, expand, knows, permits

ONE, OTHER, ALICE, BOB = b"one", b"other", b"alice", b"bob"


def _caller(role: str, tenant: bytes | None = ONE, *scopes: str, account: bytes | None = None) -> Caller:
    return Caller("somebody", role, tenant, frozenset(scopes), By("admin", b"", "test"), account)


def test_an_administrators_certificate_may_do_everything_everywhere() -> None:
    root = administrator("root", "192.0.2.1")
    assert all(permits(root, one, tenant) for one in PERMISSIONS for tenant in (None, ONE, OTHER))
    assert root.by.origin == "admin root 192.0.2.1"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_nobody_of_a_tenant_may_do_anything_in_another_or_in_the_cluster(role: str) -> None:
    caller = _caller(role, ONE, account=ALICE)
    assert not any(permits(caller, one, tenant, ALICE) for one in PERMISSIONS for tenant in (None, OTHER))


def test_a_tenants_administrator_may_do_everything_in_it_but_what_is_the_clusters() -> None:
    may = {one for one in PERMISSIONS if permits(_caller("tenant-admin"), one, ONE)}
    assert may == {one for one in PERMISSIONS if one.partition(":")[0] not in CLUSTER_TOPICS}


def test_the_help_desk_sets_passwords_and_reads_no_mail() -> None:
    desk = _caller("help-desk")
    assert permits(desk, "credentials:write", ONE)
    assert permits(desk, "accounts:read", ONE)
    assert not any(permits(desk, one, ONE) for one in ("accounts:write", "mailboxes:read", "search:read", "log:read"))


def test_an_auditor_reads_the_log_changes_nothing_and_reads_no_mail() -> None:
    auditor = _caller("auditor")
    assert permits(auditor, "log:read", ONE)
    assert permits(auditor, "roles:read", ONE)
    assert not any(permits(auditor, one, ONE) for one in PERMISSIONS if one.endswith(":write"))
    assert not permits(auditor, "mailboxes:read", ONE)
    assert not permits(auditor, "search:read", ONE)


def test_a_user_reaches_its_own_account_alone() -> None:
    alice = _caller("user", ONE, account=ALICE)
    assert permits(alice, "credentials:write", ONE, ALICE)
    assert not permits(alice, "credentials:write", ONE, BOB)
    assert not permits(alice, "credentials:write", ONE)
    assert not permits(alice, "accounts:write", ONE, ALICE)
    assert not permits(_caller("user"), "accounts:read", ONE)


def test_scopes_narrow_a_role_and_never_widen_it() -> None:
    desk = _caller("help-desk", ONE, "accounts:read", "log:read")
    assert permits(desk, "accounts:read", ONE)
    assert not permits(desk, "credentials:write", ONE)
    assert not permits(desk, "log:read", ONE)
    assert callers.permissions(desk) == {"accounts:read"}


def test_a_role_or_a_permission_that_nobody_knows_permits_nothing() -> None:
    assert not any(permits(_caller("owner", None), one, None) for one in PERMISSIONS)
    assert not permits(administrator("root", ""), "accounts:delete", ONE)


def test_what_another_tenant_has_is_not_known_and_what_the_cluster_has_is() -> None:
    admin = _caller("tenant-admin")
    assert knows(admin, ONE)
    assert knows(admin, None)
    assert not knows(admin, OTHER)
    assert knows(dataclasses.replace(admin, tenant=None), OTHER)


def test_scopes_are_written_with_stars_and_a_wrong_one_is_named() -> None:
    assert expand(["accounts:read"]) == {"accounts:read"}
    assert expand(["accounts:*", " log:read "]) == {"accounts:read", "accounts:write", "log:read"}
    assert len(expand(["*:read"])) == len(PERMISSIONS) // 2
    for wrong in ("accounts", "acounts:read", "accounts:delete", ""):
        with pytest.raises(ValueError, match=wrong or "^$"):
            expand([wrong])


def test_what_is_granted_in_a_tenant_and_in_the_cluster_are_roles_that_there_are() -> None:
    assert set(ROLES) == {*roles.OF_A_TENANT, *roles.OF_THE_CLUSTER}
    assert callers.permissions(_caller("auditor")) < callers.permissions(_caller("auditor", None))


def test_nobody_gives_what_they_do_not_have() -> None:
    admin, desk = _caller("tenant-admin"), _caller("help-desk")
    assert callers.covers(admin, "auditor", frozenset(), ONE)
    assert not callers.covers(admin, "auditor", frozenset(), None)
    assert not callers.covers(admin, "auditor", frozenset(), OTHER)
    assert not callers.covers(desk, "tenant-admin", frozenset(), ONE)
    assert callers.covers(desk, "tenant-admin", frozenset({"accounts:read"}), ONE)
    assert not callers.covers(_caller("tenant-admin", ONE, "tokens:write"), "tenant-admin", frozenset(), ONE)
    assert callers.covers(administrator("root", ""), "cluster-admin", frozenset(), None)
