"""What the event log says of a proposal (the reasons of `Rejected`, an unknown outcome), and how it can fail itself."""

from __future__ import annotations

from nodes.errors.kinds import ELSEWHERE, NEVER, ErrorKind, later

_AGAIN = "the command again"
_SOON = "the command again in a moment"
_UNTOUCHED = "look at its disk; mailraft log verify --data FOLDER; mailraft cluster replace-node NAME"

# another node, or the same one a little later, may do it
REJECTED = tuple(
    ErrorKind(code, "rejected", severity, retry, title, hint)
    for code, severity, retry, title, hint in (
        ("rejected", "warning", later(1), "The log refused it: nothing was done", _SOON),
        ("bad_record", "error", NEVER, "The record is not one that the log takes", ""),
        ("busy", "warning", later(1), "More is being written than the node takes at once", _SOON),
        ("change_under_way", "info", later(5), "Another change of the members is under way", _SOON),
        ("chunk_gone", "info", later(1), "A part of a large body was collected before it was claimed", _AGAIN),
        ("clock", "error", ELSEWHERE, "The node's clock is off", "set the node's clock (NTP)"),
        ("disk_full", "critical", ELSEWHERE, "The node's disk is full", "make room on the node's disk"),
        ("expired", "warning", later(1), "It took too long to be written", _SOON),
        ("guard", "info", later(1), "Something else changed the same thing", _AGAIN),
        ("members_changed", "info", later(1), "The members of the cell have changed meanwhile", _AGAIN),
        ("misplaced", "warning", ELSEWHERE, "The proposal reached a node that does not lead", _SOON),
        ("no_leader", "warning", ELSEWHERE, "The cell has no leader now", "mailraft cluster status DIR"),
        ("no_tls", "error", NEVER, "The node was opened without certificates, so it can have no peers", ""),
        ("stopping", "info", ELSEWHERE, "The node is stopping", "another node of the cell"),
    )
)

# refused by the leader for what it is: another node would say the same
MEMBERS = tuple(
    ErrorKind(code, "refused", "info", NEVER, title, hint, 409)
    for code, title, hint in (
        ("bad_address", "The address of a member is not well formed, or is another's", ""),
        ("bad_name", "The name of a member is not well formed", ""),
        (
            "feature_level",
            "Not every node writes that yet",
            "mailraft cluster upgrade, once every node runs this version",
        ),
        ("is_a_member", "It is a member of the cell already", ""),
        ("last_voter", "It is the last member that votes", "add another node first"),
        ("no_majority", "The cell would have no majority", "start more nodes, or remove one that is down first"),
        ("not_a_member", "It is no member of the cell", "mailraft cluster status DIR"),
        ("not_a_voter", "It is a member that does not vote", ""),
        ("too_many_members", "The cell has as many members as it may", ""),
        ("was_a_member", "It was a member before: a name is used once", "another name"),
    )
)

NOT_HERE = (
    ErrorKind(
        "outcome_unknown",
        "unknown",
        "warning",
        later(5),
        "No majority answered in time: it may have been done, or may yet be",
        "mailraft log tail tells whether it was done; look before you do it again",
    ),
    ErrorKind(
        "no_majority_answers", "not_ready", "error", ELSEWHERE, "No majority of the cell answers", "start more nodes"
    ),
    ErrorKind(
        "not_ready", "not_ready", "info", ELSEWHERE, "The node starts, or can not do it", "another node of the cell"
    ),
    ErrorKind(
        "quarantined", "quarantined", "critical", ELSEWHERE, "The node takes no part: its file is damaged", _UNTOUCHED
    ),
)

FAILURES = tuple(
    ErrorKind(code, "internal", severity, retry, title, hint)
    for code, severity, retry, title, hint in (
        ("log_error", "error", ELSEWHERE, "The event log failed", "read the node's log"),
        ("consensus_ended", "critical", ELSEWHERE, "The thread of the log has ended, and the node with it", _UNTOUCHED),
        ("consensus_violation", "critical", ELSEWHERE, "The rules of consensus were broken", _UNTOUCHED),
        ("damaged_database", "critical", ELSEWHERE, "The node's database can not be trusted", _UNTOUCHED),
        (
            "fold_stalled",
            "critical",
            NEVER,
            "A record could not be folded; nothing after it is folded",
            "mailraft log show POSITION; a newer version, or mailraft log quarantine POSITION",
        ),
        ("frame_error", "warning", NEVER, "A peer sent what is no frame of ours", "look at the peer's version"),
        ("peer_refused", "warning", NEVER, "Somebody without this cell's certificate came as a peer", "who is it?"),
        (
            "not_writable",
            "critical",
            ELSEWHERE,
            "A turn of the log could not be written",
            "make room on the node's disk",
        ),
        ("sync_failed", "critical", ELSEWHERE, "The disk did not take what was written", _UNTOUCHED),
        ("removed", "error", NEVER, "The node was removed from its cell", "stop it; a new node in its place"),
        ("subscriber_failed", "error", NEVER, "A part of the node failed at what it was told of the log", "report it"),
        (
            "unknown_event",
            "critical",
            NEVER,
            "The log holds what this version does not know: a later one wrote it",
            "the later version, on this node too",
        ),
    )
)

KEEPING = tuple(
    ErrorKind(code, "internal", severity, retry, title, hint)
    for code, severity, retry, title, hint in (
        (
            "archive_damaged",
            "error",
            ELSEWHERE,
            "A segment of the archive is damaged, or is not there",
            "mailraft log archive repair; or another node: --node",
        ),
        (
            "archive_failed",
            "error",
            later(60),
            "The archive could not be written",
            "room on its disk; it is tried again",
        ),
        ("backup_failed", "error", NEVER, "A backup is damaged, or is not one", "mailraft backup verify"),
        ("checkpoint_failed", "error", ELSEWHERE, "A checkpoint could not be sent, or used", "it is tried again"),
        (
            "erasure_failed",
            "error",
            later(60),
            "What was redacted is not erased from the file yet",
            "it is tried again",
        ),
        ("head_not_signed", "error", later(60), "The head of the log could not be signed", "it is tried again"),
        ("restore_failed", "error", NEVER, "A backup could not be restored", "read what it says"),
        (
            "secret_not_opened",
            "error",
            NEVER,
            "A secret was sealed with a key that the node does not have",
            "docs/tls.md",
        ),
        ("tenant_not_deleted", "error", later(60), "A tenant could not be deleted yet", "it is tried again"),
    )
)

KINDS = (*REJECTED, *MEMBERS, *NOT_HERE, *FAILURES, *KEEPING)
