r"""A progress bar on the standard error."""

from __future__ import annotations

__all__ = ["progress_bar"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(stages: int | None, *, shown: bool = True) -> Iterator[Callable[[str], None]]:
    r"""Show the current stage and the number of finished stages on standard error, if it is a terminal.

    The bar disappears at the end.

    Arguments:
        stages: The number of stages, None if unknown.
        shown: Whether to show the bar.

    Yields:
        A function to call with the name of each stage as it begins.
    """
    if not shown:
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, begun = progress.add_task("read", total=stages), 0

        def begin(stage: str) -> None:
            nonlocal begun
            progress.update(task, description=stage, completed=begun)
            begun += 1

        yield begin
