"""Become a command that dies with its parent: ``python child.py PARENT_PID COMMAND...`` (Linux).

A parent killed with SIGKILL cannot end its children; the kernel does it for us (prctl(2), PR_SET_PDEATHSIG, which
outlives exec). Standard library only: it runs before every child.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("the parent is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
