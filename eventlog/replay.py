"""Time travel: one stream as it was at a position or a moment, folded from its own records into a dict."""

from eventlog import levels, members
from eventlog.fold import Evolve
from eventlog.record import Event, Stamp, decode_events
from eventlog.store import LOG_HEAD, Snapshot
from eventlog.uploads import CHUNKS_COLLECTED
from eventlog.views import DictView, View


def view_as_of(
    snapshot: Snapshot, stream: bytes, evolve: Evolve, *, position: int | None = None, at_ms: int | None = None
) -> DictView:
    """The stream's rows as of a position, or of a time in ms (all records stamped up to and including it).

    Reads only the records of that stream. With neither argument it is the present, folded again.
    """
    view = DictView(stream)
    raised = levels.history(snapshot, position)
    for found, value in snapshot.stream_entries(stream, position):
        term, _, stamped_ms = LOG_HEAD.unpack_from(value)
        if at_ms is not None and stamped_ms > at_ms:
            break
        record_id, by, cause, events = decode_events(value[LOG_HEAD.size :], stream)
        stamp = Stamp(found, stamped_ms, term, record_id, by, cause, levels.at(raised, found))
        for event in events:
            _fold(view.at(found), event, stamp, evolve)
    return view


def _fold(view: View, event: Event, stamp: Stamp, evolve: Evolve) -> None:
    """The log's own events are not the actors' to fold; what is collected was never in a stream's rows."""
    if event.type == members.MEMBERS_CHANGED:
        members.evolve(view, event, stamp.position, stamp.at_ms)
    elif event.type == levels.FEATURE_LEVEL_RAISED:
        levels.evolve(view, event)
    elif event.type != CHUNKS_COLLECTED:
        evolve(view, event, stamp)
