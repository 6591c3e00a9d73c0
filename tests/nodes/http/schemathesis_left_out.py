"""What schemathesis does not ask a node for, each with the reason (test_schemathesis.py)."""

# at no time
NEVER = {
    "PUT /v1/acme/account": "the node would ask authorities on the internet, at addresses that are made up",
    "POST /v1/members": "the node would dial addresses that are made up, and learners that never come would pile up",
    "POST /v1/cluster/authority/succession/promote": "the node would show a certificate that is not trusted here",
}
# only in a long run: each takes a process of its own, or makes keys, for a second or so
SLOW = {
    "POST /v1/log/archive/compact": "the database is written anew",
    "POST /v1/log/archive/verify": "a job over the archive",
    "POST /v1/log/records": "a job over the log",
    "POST /v1/log/verify": "a job over the log",
    "POST /v1/log/rebuild": "a job over the log",
    "POST /v1/log/what-if": "a job over the log",
    "GET /v1/mailboxes/{address}": "the past is folded by a job",
    "POST /v1/mailboxes/{address}/restore": "the past is folded by a job",
    "GET /v1/checkpoint": "the whole database is sent",
    "POST /v1/log/tables": "all tables are sent",
    "POST /v1/redactions": "what is erased is erased from the file, which is written anew",
    "POST /v1/dkim/{domain}/keys": "RSA keys are made",
    "POST /v1/dkim/{domain}/rotate": "RSA keys are made",
    "POST /v1/dkim/{domain}/validate": "name servers are asked",
    "GET /v1/doctor/{domain}": "name servers are asked",
    "POST /v1/login": "passwords are hashed",
    "POST /v1/search/rebuild": "the index is made anew",
}
