"""A process that ends with its parent, however that ends: the parent holds the other end of its stdin."""

import os
import sys
import threading


def end_with_parent() -> None:
    """Watch the parent from a thread; as soon as it has ended, so does this process."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a lock held here would stop the interpreter from ending
        pass
    os._exit(1)
