"""Python imports this first in a process whose PYTHONPATH names its folder: there, the wall clock can be shifted.

The shift in seconds stands in the file that MAILRAFT_CHAOS_CLOCK names, read again all the time, so that the clock can
jump while the process runs. Monotonic clocks are left alone, as by a step of NTP. See chaos/faults/clocks.py.
"""

import os
import time
from pathlib import Path

READ_EVERY_S = 0.05

_file = Path(os.environ["MAILRAFT_CHAOS_CLOCK"])
_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
_read_s, _shift_s = 0.0, 0.0


def _shift() -> float:
    global _read_s, _shift_s
    now_s = _monotonic()
    if now_s - _read_s > READ_EVERY_S:
        _read_s = now_s
        try:
            _shift_s = float(_file.read_text() or _shift_s)
        except OSError:
            _shift_s = 0.0
    return _shift_s


def shifted_time() -> float:
    return _time() + _shift()


def shifted_time_ns() -> int:
    return _time_ns() + int(_shift() * 1e9)


time.time, time.time_ns = shifted_time, shifted_time_ns
