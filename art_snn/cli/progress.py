"""How far a long command is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from art_snn.terminal import check_interrupt


@contextmanager
def progress() -> Iterator[tuple[Callable[[str, int], None], Callable[[], None]]]:
    """A progress bar on the error stream, one line a stage.

    :return: How to start a stage, and how to advance it.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console) as bars:

        def start(what: str, total: int) -> None:
            check_interrupt()
            for task in bars.tasks:
                bars.update(task.id, completed=task.total)
            bars.add_task(what, total=total)
            if not console.is_terminal:  # a file shows the bars in the end only
                console.print(f"{what}: {total} steps", highlight=False)

        def advance() -> None:
            check_interrupt()
            bars.advance(bars.tasks[-1].id)

        yield start, advance
