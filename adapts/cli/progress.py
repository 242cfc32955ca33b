r"""Progress bar on stderr."""

from __future__ import annotations

__all__ = ["FIT", "Progress"]

from contextlib import ExitStack
from typing import Any

from ..fitting.decision import listen

FIT = 5  # the weight of a fit relative to any other stage of a run; each stage of the fit counts one


class Progress:
    r"""Progress bar over the stages of a run, with the stages of a fit and the epochs of training.

    Arguments:
        stages: The number of stages, if known; a fit counts `FIT`.
        shown: Whether to show it if stderr is a terminal.
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
        self.completed = self.end = 0.0
        self.name_of_stage = ""
        self.open = ExitStack()

    def __enter__(self) -> Progress:
        self.bar.start()
        self.open.enter_context(listen(self.advance))
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.open.close()

    def set_total(self, stages: int | None) -> None:
        r"""Set the number of stages.

        Arguments:
            stages: The number; None if unknown.
        """
        self.bar.update(self.task, total=stages)

    def stage(self, name: str, weight: int = 1) -> None:
        r"""Begin a stage; the previous one is finished.

        Arguments:
            name: Its name.
            weight: The number of stages that it counts as.
        """
        self.completed, self.end, self.name_of_stage = self.end, self.end + weight, name
        self.bar.update(self.task, description=name, completed=self.completed)

    def advance(self, *_: object) -> None:
        r"""Advance by one stage of a fit."""
        self.completed = min(self.completed + 1, self.end)
        self.bar.update(self.task, description=self.name_of_stage, completed=self.completed)

    def trainer_options(self) -> dict[str, Any]:
        r"""Return options by which Lightning reports the progress of training to this bar, without its own."""
        from lightning.pytorch import Callback, LightningModule, Trainer

        progress = self

        class ProgressCallback(Callback):
            def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
                fraction = trainer.global_step / max(1.0, float(trainer.estimated_stepping_batches))
                description = f"{progress.name_of_stage}: epoch {trainer.current_epoch + 1}"
                progress.bar.update(
                    progress.task, description=description, completed=progress.completed + min(1.0, fraction)
                )

        return {"enable_progress_bar": False, "callbacks": [ProgressCallback()]}
