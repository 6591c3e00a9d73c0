"""Makes one thread's writes to disk slow: it is stopped at the entry of each fsync for as long as a disk would take.

ptrace(2), as strace's fault injection uses it, needs neither root nor a compiler: a process may trace its descendants,
which the nodes of a scenario are. Only the thread that syncs is traced; the node's other threads run as ever. Linux on
the machines in SYNCS.
"""

import ctypes
import errno
import os
import platform
import struct
import threading
import time
from pathlib import Path

SYNCS = {  # numbers of fsync, fdatasync and msync; include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls
    "x86_64": frozenset((74, 75, 26)),
    "aarch64": frozenset((82, 83, 227)),
}
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
DESCENDANTS = 1  # of YAMA: a process may trace those that it started

_SEIZE, _INTERRUPT, _SYSCALL, _DETACH, _SYSCALL_INFO = 0x4206, 0x4207, 24, 17, 0x420E
_TRACESYSGOOD = 1
_SYSCALL_STOP = 0x80 | 5  # SIGTRAP, marked as TRACESYSGOOD asks
_EVENT_STOP = 128
_ENTRY = 1
_INFO = struct.Struct("=B3xIQQQ")  # struct ptrace_syscall_info up to entry.nr
_OWN_TRACEES = 0x40000000 | 0x20000000  # __WALL, and __WNOTHREAD: no child of another thread is waited for
FIND_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


def missing() -> str:
    """Why it can not be done here, "" if it can."""
    if platform.machine() not in SYNCS:
        return f"system calls of {platform.machine()} are not known to it"
    scope = int(YAMA.read_text()) if YAMA.exists() else 0
    if scope > DESCENDANTS and os.geteuid() != 0:
        return f"{YAMA} is {scope}, which forbids to trace one's own processes"
    return ""


class SlowSyncs:
    """`start()` finds the thread of `pid` that syncs, and makes each sync last `delay_s` longer until `stop()`."""

    def __init__(self, pid: int, delay_s: float) -> None:
        self._pid, self._delay_s = pid, delay_s
        self._numbers = SYNCS[platform.machine()]
        self._found = threading.Event()
        self._stopping = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._trace, daemon=True)
        self.delayed = 0

    def start(self) -> None:
        """Blocking, until a sync was seen. Raises OSError; TimeoutError if there was none."""
        self._thread.start()
        seen = self._found.wait(FIND_TIMEOUT_S)
        if self._error is not None:
            raise self._error
        if not seen:
            self._stopping.set()
            raise TimeoutError(f"no thread of process {self._pid} wrote to disk within {FIND_TIMEOUT_S:.0f} s")

    def stop(self) -> None:
        """The thread runs as ever afterwards."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S)  # it is in no hurry if the process is asleep

    def _trace(self) -> None:
        """The body of the tracing thread: when it ends, the kernel lets go of what it traced."""
        try:
            threads = {int(task.name) for task in Path(f"/proc/{self._pid}/task").iterdir()}
            for tid in threads:
                _seize(tid)
            self._serve(threads)
        except OSError as error:
            self._error = error
            self._found.set()

    def _serve(self, threads: set[int]) -> None:
        """Lets each run from stop to stop; once the one that syncs is known, the others are let go."""
        while not self._stopping.is_set():
            tid, stop = _next_stop()
            if tid == 0:
                return
            if self._found.is_set() and tid not in threads:
                _ptrace(_DETACH, tid, 0, 0)
                continue
            if self._is_sync(tid, stop):
                if not self._found.is_set():
                    self._only(tid, threads)
                self.delayed += 1
                time.sleep(self._delay_s)
            _go_on(tid, stop)

    def _only(self, tid: int, threads: set[int]) -> None:
        for other in threads - {tid}:
            _ptrace(_INTERRUPT, other, 0, 0)  # it is let go when it stops
        threads &= {tid}
        self._found.set()

    def _is_sync(self, tid: int, stop: int) -> bool:
        if stop != _SYSCALL_STOP:
            return False
        info = ctypes.create_string_buffer(_INFO.size)
        if _ptrace(_SYSCALL_INFO, tid, _INFO.size, ctypes.addressof(info)) <= 0:
            return False
        operation, _, _, _, number = _INFO.unpack(info.raw)
        return operation == _ENTRY and number in self._numbers


def _seize(tid: int) -> None:
    """From now on the calling thread traces `tid`, which stops at each system call. A thread that ended is no error."""
    if _ptrace(_SEIZE, tid, 0, _TRACESYSGOOD) == 0:
        _ptrace(_INTERRUPT, tid, 0, 0)


def _next_stop() -> tuple[int, int]:
    """(thread, its signal with the kind of event above) of the next traced thread that stopped; 0: nothing is left."""
    while True:
        try:
            tid, status = os.waitpid(-1, _OWN_TRACEES)
        except ChildProcessError:
            return 0, 0
        if os.WIFSTOPPED(status):
            return tid, status >> 8


def _go_on(tid: int, stop: int) -> None:
    """Lets it run to its next system call; a signal that it was about to get is delivered."""
    is_signal = stop != _SYSCALL_STOP and stop >> 8 != _EVENT_STOP
    _ptrace(_SYSCALL, tid, 0, stop & 0xFF if is_signal else 0)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request: int, tid: int, address: int, data: int) -> int:
    """Raises OSError; -1 if the thread has ended meanwhile."""
    result: int = _libc.ptrace(request, tid, address, data)
    if result == -1 and (code := ctypes.get_errno()) not in (0, errno.ESRCH):
        raise OSError(code, f"ptrace: {os.strerror(code)}")
    return result
