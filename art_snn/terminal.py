"""What a command needs of the terminal: output that no letter can stop, and an interrupt that nothing swallows."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_interrupted = False


def replace_unencodable() -> None:
    """Have the standard streams write ? for a letter that their encoding lacks, such as λ in Windows' cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None without a console; something else where a test captures it
            stream.reconfigure(errors="replace")


@contextmanager
def noting_interrupts() -> Iterator[None]:
    """Note an interrupt (Ctrl-C) inside the block, besides raising `KeyboardInterrupt` as Python does.

    A library may swallow the exception: with `except BaseException` or a bare `except` while it is imported, in
    `__del__`, in C. The note stays, and :func:`check_interrupt` raises it again. Where interrupts are ignored (`nohup`)
    or handled by someone else, they stay so.
    """
    global _interrupted
    _interrupted = False
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check_interrupt() -> None:
    """
    :raises KeyboardInterrupt: If there was an interrupt since :func:`noting_interrupts`, swallowed or not.
    """
    if _interrupted:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt
