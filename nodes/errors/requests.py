"""Requests to the admin API and the pages, and log-ins of every protocol."""

from __future__ import annotations

from nodes.errors.kinds import ELSEWHERE, NEVER, ErrorKind, later

_SHOW = "an administrator's certificate (DIR/admin), or a token: mailraft token create"

WRONG = tuple(
    ErrorKind(code, "bad_request", "info", NEVER, title, hint)
    for code, title, hint in (
        ("bad_request", "The request is wrong", "/v1/openapi.json describes it"),
        ("bad_certificate", "It is no certificate with its key that could be used", ""),
        ("invalid_cursor", "That is not where a page ended", "begin without it"),
        ("invalid_request", "Fields of the request are wrong: see `errors`", "/v1/openapi.json describes it"),
        ("no_http", "It is no HTTP request", "docs/api.md"),
        ("request_too_long", "A line of the request is longer than the node reads", "a shorter path, query or header"),
        ("no_such_method", "The path has no such method", "/v1/openapi.json describes it"),
    )
)

GATE = (
    ErrorKind(
        "too_busy", "not_ready", "warning", later(1), "The node has enough requests in work", "again in a moment"
    ),
    ErrorKind(
        "too_many_requests", "too_many", "warning", later(10), "The network asks for too much at once", "again later"
    ),
)

WHO = (
    ErrorKind("unauthenticated", "unauthenticated", "info", NEVER, "Who asks is not known", _SHOW),
    ErrorKind("forbidden", "forbidden", "info", NEVER, "Whoever asks may not do it", "another role, or token"),
    ErrorKind("grant_expired", "forbidden", "warning", NEVER, "The grant has expired", "mailraft region grant"),
    ErrorKind("grant_revoked", "forbidden", "warning", NEVER, "The grant was revoked", "mailraft region grant"),
    ErrorKind(
        "diverged",
        "diverged",
        "error",
        NEVER,
        "It is not the log that was followed before",
        "docs/operations.md, Replicas in another cell",
    ),
)

LOGINS = (
    ErrorKind("wrong_credentials", "unauthenticated", "warning", NEVER, "The name or the password is wrong"),
    ErrorKind("malformed_response", "bad_request", "info", NEVER, "It is no response of the mechanism"),
    ErrorKind("login_cancelled", "bad_request", "info", NEVER, "The client gave up logging in"),
    ErrorKind("login_blocked", "too_many", "warning", later(60), "Too many wrong passwords came from there"),
    ErrorKind("login_limited", "too_many", "warning", later(60), "A limit of the account or its tenant is reached"),
    ErrorKind("login_suspended", "forbidden", "info", NEVER, "The account is closed, or its tenant is not served"),
    ErrorKind("passwords_away", "not_ready", "error", later(10), "Whoever keeps the password can not be asked now"),
    ErrorKind("overloaded", "too_many", "warning", later(1), "Too many passwords are waiting to be checked"),
    ErrorKind("code_needed", "unauthenticated", "info", NEVER, "A one-time code is needed", "the same with `code`"),
    ErrorKind(
        "password_change_needed",
        "unauthenticated",
        "info",
        NEVER,
        "The password must be changed",
        "the same with `new_password`",
    ),
    ErrorKind("auth_required", "unauthenticated", "info", NEVER, "One must log in first"),
    ErrorKind("tls_required", "forbidden", "info", NEVER, "No password goes over a connection in clear", "STARTTLS"),
)

NODE = (
    ErrorKind("internal", "internal", "error", ELSEWHERE, "The node failed at it", "read the node's log"),
    ErrorKind("check_failed", "internal", "error", later(60), "A check of mail failed itself", "read the node's log"),
    ErrorKind(
        "config_not_reloaded", "internal", "error", NEVER, "The configuration was not reloaded", "mailraft config check"
    ),
    ErrorKind(
        "certificate_unusable", "internal", "error", NEVER, "A certificate can not be used", "mailraft node doctor"
    ),
    ErrorKind(
        "certificate_not_renewed",
        "internal",
        "error",
        later(300),
        "A certificate was not renewed",
        "mailraft node doctor",
    ),
    ErrorKind(
        "directory_away",
        "internal",
        "error",
        later(10),
        "A directory of users, or an issuer of tokens, is away",
        "mailraft node doctor",
    ),
    ErrorKind(
        "following_failed",
        "internal",
        "error",
        later(60),
        "Following another cell's log has ended or failed",
        "mailraft region status",
    ),
    ErrorKind(
        "fulltext_behind", "internal", "error", later(60), "The index of texts is behind", "mailraft search status"
    ),
    ErrorKind("not_signed", "internal", "error", NEVER, "Mail was not signed", "mailraft dkim list"),
    ErrorKind("body_missing", "internal", "critical", NEVER, "A message has no body in the log", "mailraft log verify"),
    ErrorKind("filter_away", "internal", "error", later(30), "A filter does not answer", "docs/filters.md"),
    ErrorKind("unreachable", "not_ready", "warning", ELSEWHERE, "No node could do it", "mailraft cluster status DIR"),
    ErrorKind("bad_usage", "bad_request", "info", NEVER, "The command was called wrongly", "the command with --help"),
    ErrorKind("command_failed", "refused", "info", NEVER, "The command did not do what it says"),
)

KINDS = (*WRONG, *GATE, *WHO, *LOGINS, *NODE)
