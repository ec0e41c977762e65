"""
Start a server that dies with its parent: `python -I -S launch.py exec|watch PARENT_PID LOCK_FD COMMAND…`.

`exec` (Linux) asks the kernel for SIGTERM at the parent's death and then becomes the command. None of our code runs
between the fork and the exec of a process that may have threads. `watch` (elsewhere) stays as the command's parent and
ends it when standard input closes, which the kernel does when the parent dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1  # linux/prctl.h
KILL_AFTER_S = 2.0
INPUT_CHUNK_BYTES = 1024
ORPHANED_CODE = 1
NOT_EXECUTABLE_CODE = 127  # as shells report it


def _exec(parent: int, command: list[str]) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the call above
        os._exit(ORPHANED_CODE)
    os.umask(0o077)  # the server's files are its owner's
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"{command[0]}: cannot be run: {error.strerror}", file=sys.stderr)
        os._exit(NOT_EXECUTABLE_CODE)


def _watch(command: list[str], inherited: list[int]) -> int:
    os.umask(0o077)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=inherited)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def stop_at_end_of_input() -> None:
        while os.read(0, INPUT_CHUNK_BYTES):
            pass
        child.terminate()
        try:
            child.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    mode, parent_pid, lock_fd, *argv = sys.argv[1:]
    if mode == "exec":
        _exec(int(parent_pid), argv)
    else:
        sys.exit(_watch(argv, [int(lock_fd)]))
