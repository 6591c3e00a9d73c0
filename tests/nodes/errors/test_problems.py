"""A problem of the API is what the registry says of its code, and its headers agree with it."""

import json

import pytest

from actors.errors import NameTaken, NoSuchTenant, OverTenantQuota, TooLarge
from eventlog.errors import FoldStalled, OutcomeUnknown, Rejected
from nodes.http.errors import ApiError, of_exception


@pytest.mark.parametrize(
    ("error", "status", "code", "category", "retry", "after_s"),
    [
        (NoSuchTenant("x"), 404, "no_such_tenant", "not_found", "never", None),
        (NameTaken("x"), 409, "name_taken", "conflict", "never", None),
        (TooLarge("x"), 422, "too_large", "refused", "never", None),
        (OverTenantQuota("messages", "x"), 422, "over_tenant_quota", "refused", "later", 3600),
        (Rejected("too_large"), 422, "too_large", "refused", "never", None),
        (Rejected("last_voter"), 409, "last_voter", "refused", "never", None),
        (Rejected("no_leader"), 503, "no_leader", "rejected", "elsewhere", 1),
        (Rejected("busy"), 503, "busy", "rejected", "later", 1),
        (OutcomeUnknown(), 504, "outcome_unknown", "unknown", "later", 5),
    ],
)
def test_what_the_lower_layers_raise_becomes_a_problem_of_its_code(
    error: Exception, status: int, code: str, category: str, retry: str, after_s: int | None
) -> None:
    known = of_exception(error)
    assert known is not None
    response = known.response()
    assert response.text is not None
    problem = json.loads(response.text)
    assert (response.status, problem["status"], problem["code"], problem["category"]) == (
        status,
        status,
        code,
        category,
    )
    assert (problem["retry"], problem["retry_after_s"]) == (retry, after_s)
    assert problem["type"] == f"urn:mailraft:problem:{code}"
    assert problem["severity"] in ("info", "warning", "error", "critical")
    assert response.headers.get("Retry-After") == (str(after_s) if status == 503 else None)


def test_a_fault_of_our_own_is_no_problem_that_shows_what_it_was() -> None:
    assert of_exception(FoldStalled("record 7: KeyError")) is None
    assert of_exception(ValueError("secret")) is None


def test_a_place_may_know_a_better_hint_and_a_longer_wait() -> None:
    error = ApiError(429, "too_many", "x", "tomorrow", code="too_many_requests", headers={"Retry-After": "77"})
    assert error.response().headers["Retry-After"] == "77"
    assert json.loads(error.response().text or "")["retry_after_s"] == 77
    assert error.hint == "tomorrow"
    assert ApiError(404, "not_found", "x", code="no_such_tenant").hint == "mailraft tenant list"
