"""Time travel: one stream as it was at a position or a moment, folded from its own records into a dict."""

from eventlog.fold import Evolve
from eventlog.record import Stamp, decode_events
from eventlog.store import LOG_HEAD, Snapshot
from eventlog.uploads import CHUNKS_COLLECTED
from eventlog.views import DictView


def view_as_of(
    snapshot: Snapshot, stream: bytes, evolve: Evolve, *, position: int | None = None, at_ms: int | None = None
) -> DictView:
    """The stream's rows as of a position, or of a time in ms (all records stamped up to and including it).

    Reads only the records of that stream. With neither argument it is the present, folded again.
    """
    view = DictView(stream)
    for found, value in snapshot.stream_entries(stream, position):
        term, _, stamped_ms = LOG_HEAD.unpack_from(value)
        if at_ms is not None and stamped_ms > at_ms:
            break
        record_id, by, cause, events = decode_events(value[LOG_HEAD.size :], stream)
        stamp = Stamp(found, stamped_ms, term, record_id, by, cause)
        for event in events:
            if event.type != CHUNKS_COLLECTED:
                evolve(view.at(found), event, stamp)
    return view
