"""The progress display of a trial on stderr: a line for each finished stage, and a bar for the running one.

On a terminal the bar is redrawn in place; elsewhere (a file, CI) only the lines are printed. The supervising process receives
the stages too (`sweep.core.process_status`).
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from sweep.core import process_status
from sweep.core.types import Progress


class Terminal(Progress):
    """Progress on stderr, as a context manager around one trial.

    Args:
        folder: the folder of the trial, reported to the supervising process.
        label: a prefix of every line, for trials that share a terminal.
    """

    def __init__(self, folder: Path, label: str = "") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("  {task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: Any = None
        self._folder = folder
        self._unit = ""
        self._label = f"  {label}" if label else ""

    def __enter__(self) -> Terminal:
        process_status.begin(self._folder)
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def stage(self, name: str, unit: str = "epoch") -> None:
        """Shows an empty bar for a stage, whose work is counted in `unit`."""
        process_status.set_stage(f"during {name}")
        self._clear()
        self._unit = unit
        self._task = self._bars.add_task(name, total=None, note="", left="")

    def advance(self, done: float, total: float, note: str) -> None:
        """Moves the bar to `done` of `total` units."""
        if self._task is not None:
            where = f"{self._unit} {min(int(done) + 1, int(total))}/{int(total)}"
            self._bars.update(self._task, completed=done, total=total, note=f"{where} {note}", left="left")

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        """Replaces the bar by a line."""
        process_status.set_stage(f"after {name}")
        self.say(f"{name:<10} reused, saved {seconds:.1f} s" if reused else f"{name:<10} done in {seconds:.1f} s")

    def say(self, line: str) -> None:
        """Replaces the bar by a line of text."""
        self._clear()
        self._console.print(f"{self._label}  {line}", markup=False)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
