"""Certificates, orders and join tokens: what is decided, and what is left when they go."""

from __future__ import annotations

import pytest

from actors import acme, cell_authority, certificates
from actors.acme import FailOrder, FinishOrder, Manage, PlaceOrder, PlanRenewal, Release, SetAccount
from actors.cell_authority import CallForCertificates, IssueToken, KeepAuthority, RevokeToken, UseToken
from actors.certificates import AddCertificate, RemoveCertificate, covers_name, shown_for
from actors.errors import NameTaken, NoSuchCertificate, NotAllowed, TooLarge
from eventlog.record import NO_TENANT
from tests.actors.stage import START_MS, TENANT, Stage

ONE, TWO = b"1" * 32, b"2" * 32
ID = b"i" * 16
HOUR_MS = 3600_000
ORDER = "https://acme.test/order/1"


def certificate(mark: bytes, *names: str, tenant: bytes = TENANT) -> AddCertificate:
    return AddCertificate(tenant, mark, names, "chain", b"sealed", "given", 1, 2)


def shown(stage: Stage, name: str) -> bytes | None:
    found = shown_for(stage.view, name)
    return found.fingerprint if found else None


def test_the_newest_certificate_of_a_name_is_shown_and_an_older_one_when_it_goes(stage: Stage) -> None:
    stage.do(certificate(ONE, "a.test", "b.test"))
    stage.do(certificate(TWO, "a.test"))
    assert (shown(stage, "a.test"), shown(stage, "b.test")) == (TWO, ONE)
    stage.do(RemoveCertificate(TWO))
    assert (shown(stage, "a.test"), shown(stage, "b.test")) == (ONE, ONE)
    stage.do(RemoveCertificate(ONE))
    assert (shown(stage, "a.test"), shown(stage, "b.test")) == (None, None)
    with pytest.raises(NoSuchCertificate):
        stage.decide(RemoveCertificate(ONE))


def test_a_certificate_takes_the_place_of_those_whose_names_it_covers(stage: Stage) -> None:
    stage.do(certificate(ONE, "a.test"))
    stage.do(certificate(TWO, "a.test", "b.test"))
    assert [one.fingerprint for one in certificates.all_certificates(stage.view)] == [TWO]


def test_a_name_goes_before_a_wildcard_which_stands_for_one_label(stage: Stage) -> None:
    stage.do(certificate(ONE, "*.a.test"))
    stage.do(certificate(TWO, "mail.a.test"))
    assert [shown(stage, name) for name in ("mail.a.test", "x.a.test", "a.test", "y.x.a.test")] == [
        TWO,
        ONE,
        None,
        None,
    ]
    assert covers_name("*.a.test", "x.a.test")
    assert not covers_name("*.a.test", ".a.test")


def test_a_name_of_one_tenant_is_not_taken_by_another(stage: Stage) -> None:
    stage.do(certificate(ONE, "a.test"))
    for other in (b"o" * 16, NO_TENANT):
        with pytest.raises(NameTaken):
            stage.decide(certificate(TWO, "a.test", tenant=other))


def managing(stage: Stage) -> acme.Managed:
    stage.do(SetAccount("https://acme.test/dir", (), "https://acme.test/acct", b"sealed"))
    stage.do(Manage(ID, TENANT, ("a.test",), "http-01"))
    return acme.managed(stage.view)[0]


def test_an_order_is_gone_on_with_until_it_ends_and_its_answers_go_with_it(stage: Stage) -> None:
    assert managing(stage).due_ms == 0
    stage.do(PlaceOrder(ID, ORDER, b"key", (("a.test", "token", "answer"),)))
    assert acme.authorization(stage.view, "token") == "answer"
    with pytest.raises(NotAllowed, match="another order is under way"):
        stage.decide(PlaceOrder(ID, "https://acme.test/order/2", b"key", ()))
    stage.do(FinishOrder(ID, ORDER, ONE, 99))
    found = acme.managed(stage.view)[0]
    assert (found.order, found.sealed, found.fingerprint, found.due_ms) == ("", b"", ONE, 99)
    assert acme.authorization(stage.view, "token") is None
    with pytest.raises(NotAllowed):
        stage.decide(FinishOrder(ID, ORDER, TWO, 99))


def test_what_fails_is_tried_again_later_and_later_and_daily_in_the_end(stage: Stage) -> None:
    managing(stage)
    waits = []
    for _ in range(14):
        stage.do(FailOrder(ID, "", "no"))
        waits.append(acme.managed(stage.view)[0].due_ms - stage.at_ms)
    assert waits[:3] == [60_000, 120_000, 240_000]
    assert waits[-1] == 24 * HOUR_MS
    stage.do(PlanRenewal(ID, 5))
    assert acme.managed(stage.view)[0].due_ms == 5


def test_what_is_kept_no_more_leaves_nothing(stage: Stage) -> None:
    managing(stage)
    stage.do(PlaceOrder(ID, ORDER, b"key", (("a.test", "token", "answer"),)))
    stage.do(Release(ID))
    assert acme.managed(stage.view) == []
    assert acme.authorization(stage.view, "token") is None


def test_only_what_can_be_validated_is_kept(stage: Stage) -> None:
    with pytest.raises(NotAllowed, match="no account"):
        stage.decide(Manage(ID, TENANT, ("a.test",), "http-01"))
    managing(stage)
    with pytest.raises(NotAllowed, match="over DNS only"):
        stage.decide(Manage(TWO[:16], TENANT, ("*.a.test",), "http-01"))
    with pytest.raises(NameTaken):
        stage.decide(Manage(TWO[:16], TENANT, ("a.test",), "http-01"))
    with pytest.raises(TooLarge):
        stage.decide(Manage(TWO[:16], TENANT, (), "http-01"))


def test_a_token_is_good_once_for_its_time_and_with_its_secret(stage: Stage) -> None:
    issue = IssueToken(ID, "n4", ONE, START_MS + HOUR_MS, START_MS)
    with pytest.raises(NotAllowed, match="not in its log"):
        stage.decide(issue)
    stage.do(KeepAuthority("certificate", b"sealed"))
    stage.do(issue)
    for wrong in (UseToken(ID, TWO, b"", START_MS), UseToken(ID, ONE, b"", START_MS + HOUR_MS)):
        with pytest.raises(NotAllowed, match="the token is not good"):
            stage.decide(wrong)
    stage.do(UseToken(ID, ONE, b"", START_MS))
    with pytest.raises(NotAllowed, match="the token is not good"):
        stage.decide(UseToken(ID, ONE, b"", START_MS))
    stage.do(issue)
    stage.do(RevokeToken(ID))
    assert cell_authority.tokens(stage.view) == []


def test_new_certificates_are_called_for_at_a_time(stage: Stage) -> None:
    stage.do(KeepAuthority("certificate", b"sealed"))
    assert cell_authority.called_ms(stage.view) == 0
    stage.do(CallForCertificates())
    assert cell_authority.called_ms(stage.view) == stage.at_ms
