r"""How far a run has come: a bar on stderr."""

from __future__ import annotations

__all__ = ["FIT", "Progress"]

from contextlib import ExitStack
from typing import Any

from ..fitting.decision import listen

FIT = 5  # how long a fit takes beside any other stage of a run: each of its own stages counts one


class Progress:
    r"""A bar over the stages of a run; inside a fit it moves with the fit's own stages, and with epochs of training.

    Arguments:
        stages: How many stages there will be, if that is known; a fit counts `FIT`.
        shown: Whether to show it, where stderr is a terminal.
    """

    def __init__(self, stages: int | None, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        console = Console(stderr=True)
        self.shown = shown and console.is_terminal
        self.bar = Bar(*columns, console=console, transient=True, disable=not self.shown)
        self.task = self.bar.add_task("", total=stages)
        self.begun = self.end = 0.0
        self.name_of_stage = ""
        self.open = ExitStack()

    def __enter__(self) -> Progress:
        self.bar.start()
        self.open.enter_context(listen(self.fitted))
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.open.close()

    def expect(self, stages: int | None) -> None:
        r"""Says how many stages there will be.

        Arguments:
            stages: The number; None if it is not known.
        """
        self.bar.update(self.task, total=stages)

    def stage(self, name: str, weight: int = 1) -> None:
        r"""Begins a stage; the one before it is done.

        Arguments:
            name: Its name.
            weight: How many stages it counts.
        """
        self.begun, self.end, self.name_of_stage = self.end, self.end + weight, name
        self.bar.update(self.task, description=name, completed=self.begun)

    def fitted(self, *_: object) -> None:
        r"""Moves on by one of the stages of a fit."""
        self.begun = min(self.begun + 1, self.end)
        self.bar.update(self.task, description=self.name_of_stage, completed=self.begun)

    def trainer_options(self) -> dict[str, Any]:
        r"""Returns options by which Lightning tells this bar, not one of its own, how far training has come."""
        from lightning.pytorch import Callback, LightningModule, Trainer

        progress = self

        class Tell(Callback):
            def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
                share = trainer.global_step / max(1.0, float(trainer.estimated_stepping_batches))
                about = f"{progress.name_of_stage}: epoch {trainer.current_epoch + 1}"
                progress.bar.update(progress.task, description=about, completed=progress.begun + min(1.0, share))

        return {"enable_progress_bar": False, "callbacks": [Tell()]}
