"""What can go wrong with a proposal or with the files of a node.

"It did not happen" (`Rejected`) is told from "it may have happened" (`OutcomeUnknown`); front ends map the first to a
definite refusal and the second to a temporary one that says so.
"""

import re


class LogError(Exception):
    """Base of everything that the event log raises. `code` names the kind, as in docs/reference/errors.md."""

    code: str = "log_error"

    def __init_subclass__(cls) -> None:
        """A class is called in code as it is in the program, unless it says otherwise: FoldStalled is fold_stalled."""
        if "code" not in cls.__dict__:
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class Rejected(LogError):
    """The proposal did not take effect and never will.

    `reason` is one of: expired, guard, disk_full, too_large, busy, clock, stopping, bad_record, chunk_gone, no_leader,
    feature_level, quarantined, misplaced; of a change of the members also: change_under_way, members_changed,
    is_a_member, not_a_member, was_a_member, not_a_voter, bad_name, bad_address, too_many_members, last_voter,
    no_majority.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = self.code = reason
        self.detail = detail


class OutcomeUnknown(LogError):
    """The proposal may have taken effect, or may yet: ask again under the same id, or look."""


class DamagedDatabase(LogError):
    """The LMDB file of this node can not be trusted; the node must not join its cell."""


class SyncFailed(LogError):
    """The disk did not say that it keeps a commit, which was seen already: the process must end."""


class FrameError(LogError):
    """A peer sent bytes that are not a frame of ours, or one over the limit."""


class UnknownEvent(LogError):
    """The log holds an event type, or a version of one, that this program does not know: a later program wrote it."""


class FoldStalled(LogError):
    """A record could not be folded; nothing after it is folded until it is quarantined.

    `cause` is the record's: the session that made it.
    """

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause
