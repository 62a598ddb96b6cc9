"""Ctrl-C ends every command with one line and one status, whatever the code that it hits makes of it.

An extension module that is being imported, for one, turns a KeyboardInterrupt into an ImportError. So a handler notes
that Ctrl-C was pressed, and from then on every exception is taken for an interruption.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

STATUS = 130

_pressed = False


def watch() -> None:
    """Note Ctrl-C from now on; for the process whose only job is the command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is not where SIGINT is ignored
        signal.signal(signal.SIGINT, _note)


def pressed() -> bool:
    """Whether Ctrl-C was pressed since `watch`."""
    return _pressed


def finish(error: BaseException) -> None:
    """Before the process ends by `error`: if that is an interruption, say so and exit in the way of one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
    if isinstance(error, KeyboardInterrupt) or (_pressed and not isinstance(error, SystemExit)):
        print("error: interrupted", file=sys.stderr)
        sys.exit(STATUS)


def _note(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    signal.default_int_handler(number, frame)
