"""Time travel: one stream as it was at a position or a moment, folded from its own records into a dict."""

from collections.abc import Iterator

from eventlog.fold import Evolve, Outcome
from eventlog.record import Stamp, decode_folded
from eventlog.store import Snapshot, StoredRecord
from eventlog.uploads import CHUNKS_COLLECTED
from eventlog.views import DictView


def view_as_of(
    snapshot: Snapshot, stream: bytes, evolve: Evolve, *, position: int | None = None, at_ms: int | None = None
) -> DictView:
    """The stream's rows as of a position, or of a time in ms (all records stamped up to and including it).

    Reads only the records of that stream. With neither argument it is the present, folded again.
    """
    view = DictView(stream)
    for stored in _records(snapshot, stream, position):
        if at_ms is not None and stored.at_ms > at_ms:
            break
        fold_stream(view, stored, evolve)
    return view


def fold_stream(view: DictView, stored: StoredRecord, evolve: Evolve) -> None:
    """Folds what one record says of the view's stream."""
    if stored.outcome != Outcome.COMMITTED:
        return
    record = decode_folded(stored.data)
    stamp = Stamp(stored.position, stored.at_ms, stored.term, record.id, record.by, record.cause)
    for event in record.events:
        if event.stream == view.stream and event.type != CHUNKS_COLLECTED:
            evolve(view.at(stored.position), event, stamp)


def _records(snapshot: Snapshot, stream: bytes, last: int | None) -> Iterator[StoredRecord]:
    for position in snapshot.stream_positions(stream, last):
        stored = snapshot.record(position)
        if stored is not None:
            yield stored
