"""Commands that an actor refuses (actors/errors.py and its kin), and what the API adds for itself: nothing was done."""

from __future__ import annotations

from nodes.errors.kinds import NEVER, ErrorKind, later

_ADD_DOMAIN = "add the domain first: mailraft tenant add NAME --domain DOMAIN, or tenant add-domain NAME DOMAIN"
_AGAIN = "the command again"
_LOOK = "look at what is now"

NOT_THERE = tuple(
    ErrorKind(code, "not_found", "info", NEVER, title, hint)
    for code, title, hint in (
        ("not_found", "There is no such thing", ""),
        ("no_such_account", "The account does not exist, or is closed", "mailraft account list"),
        ("no_such_alias", "The alias does not exist", "mailraft alias list"),
        (
            "no_such_certificate",
            "No certificate of that fingerprint, name or order is there",
            "mailraft certificate list",
        ),
        (
            "no_such_credential",
            "The account has no such app password, or no one-time codes",
            "mailraft account app-password list ADDRESS, or account totp status ADDRESS",
        ),
        ("no_such_domain", "The domain is not one of the tenant's", _ADD_DOMAIN),
        ("no_such_folder", "The folder does not exist", ""),
        ("no_such_follow", "Nothing is followed under that name", "mailraft region status"),
        ("no_such_grant", "Nobody was granted to follow this log under that name", "mailraft region grants"),
        ("no_such_group", "The group does not exist", "mailraft group list"),
        ("no_such_item", "The queue holds no such item", "mailraft queue list"),
        ("no_such_key", "The domain has no key of that selector", "mailraft dkim list"),
        ("no_such_message", "None of the messages exists any more", ""),
        ("no_such_path", "The API has no such path", "/v1/openapi.json describes it"),
        ("no_such_position", "The log has no such position", "mailraft log tail"),
        ("no_such_report", "There is no such report", "mailraft report list"),
        ("no_such_role", "The account or administrator holds no role that could be taken", "mailraft role list"),
        ("no_such_route", "There is no route for that", "mailraft route list"),
        ("no_such_setting", "It is not set for the cluster", "mailraft config cluster show"),
        ("no_such_tenant", "The tenant does not exist", "mailraft tenant list"),
        ("no_such_token", "There is no token of that id", "mailraft token list"),
        ("no_explorer", "The pages that explore the API are not installed", "pip install 'mailraft[explorer]'"),
        ("unknown_key", "The configuration has no such key", "mailraft config show --all"),
        ("nobody_there", "The address that was named leads to nobody here", "mailraft account list"),
        ("not_local", "The address belongs to a domain that is not ours", _ADD_DOMAIN),
        ("nothing_to_redact", "Nothing of that is in the log", ""),
        ("was_an_alias", "The address was an alias then, and has no mailbox", "mailraft alias list"),
    )
)

IN_THE_WAY = tuple(
    ErrorKind(code, "conflict", "info", retry, title, hint)
    for code, retry, title, hint in (
        ("conflict", NEVER, "It is taken, or not in the state for that", _LOOK),
        ("already_carried_out", NEVER, "The request was carried out before, under the same key", _LOOK),
        (
            "answer_not_kept",
            NEVER,
            "The request was carried out before, and its answer held what is told once",
            "revoke what was made, and ask with another key",
        ),
        ("folder_exists", NEVER, "A folder of that name exists", "another name"),
        (
            "name_taken",
            NEVER,
            "A tenant name, domain or address is held by another",
            "another name; mailraft account list, alias list and tenant list tell who has it",
        ),
        ("no_index", NEVER, "There is no index of texts", "pip install 'mailraft[search]'"),
        ("not_stalled", NEVER, "The fold is not stalled", "mailraft cluster health"),
        ("stalled_elsewhere", NEVER, "The fold is stalled at another position", "mailraft cluster health"),
        ("superseded", later(1), "Something else was committed first: what the command stood on is past", _AGAIN),
    )
)

NOT_AS_THINGS_ARE = tuple(
    ErrorKind(code, "refused", "info", retry, title, hint)
    for code, retry, title, hint in (
        ("refused", NEVER, "It can not be done as things are", ""),
        ("command_refused", NEVER, "The command can not be carried out in the present state", ""),
        ("acme_failed", later(300), "The certificate authority refused the order", "mailraft certificate show NAME"),
        ("invalid_name", NEVER, "A name, address or domain is not well formed", ""),
        ("is_replica", NEVER, "It has its home in another cell", "the command on the cell that is its home"),
        ("key_reused", NEVER, "The idempotency key was used for another request", "another key"),
        ("maildrop_in_use", later(30), "Another session has the maildrop open, alone", ""),
        ("key_not_in_a_file", NEVER, "The file of the cluster key can not be used", "mailraft cluster rotate-key DIR"),
        ("key_not_held", later(60), "Not every node holds the new cluster key", "mailraft cluster rotate-key DIR"),
        (
            "sealing_key_missing",
            NEVER,
            "A key that sealed what is to be restored is not in the file of the cluster key",
            "mailraft cluster restore --cluster-key FILE",
        ),
        ("no_right", NEVER, "Another's mailbox, and not among the rights to it", "ask its owner"),
        ("not_allowed", NEVER, "The state forbids it", ""),
        ("not_reloaded", NEVER, "The configuration was not reloaded: everything is as it was", "mailraft config check"),
        ("over_quota", later(3600), "The mailbox is full", "remove messages, or mailraft account quota"),
        (
            "over_tenant_quota",
            later(3600),
            "The tenant has used up one of its quotas",
            "mailraft quota show TENANT; mailraft quota set TENANT raises it",
        ),
        ("tenant_inactive", NEVER, "The tenant is suspended, or is being deleted", "mailraft tenant show NAME"),
        ("too_large", NEVER, "It is beyond a fixed limit", "less at once"),
        ("too_many_annotations", NEVER, "The account has as many annotations as it may", "remove some"),
        ("config_wrong", NEVER, "A value of the configuration is not allowed", "mailraft config explain KEY"),
    )
)

CHANGED = (
    ErrorKind("has_changed", "precondition", "info", NEVER, "It has changed since it was read", "read it again"),
    ErrorKind("no_version", "precondition", "info", NEVER, "It has no version to compare with", "leave out If-Match"),
)

KINDS = (*NOT_THERE, *IN_THE_WAY, *NOT_AS_THINGS_ARE, *CHANGED)
