"""Run a command that ends with its parent: ``python child.py PARENT_PID COMMAND...`` (Linux).

A parent killed with SIGKILL cannot end its children, but the kernel can (prctl(2), PR_SET_PDEATHSIG, which outlives
exec). A script of its own, run as a file, with the standard library only: it starts before every child.
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
