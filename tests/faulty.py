"""What goes wrong while a process works: networks for the tests of isolation and resumption, named by `model._target_`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.models import families


@dataclass(frozen=True, kw_only=True)
class Aborts(families.LeNet5):
    """Takes the process down, as the converter can, when its width is 2."""

    def build(self, input_shape: families.Shape, classes: int) -> Any:
        if self.width == 2:
            os.abort()
        return super().build(input_shape, classes)


@dataclass(frozen=True, kw_only=True)
class Waits(families.LeNet5):
    """Says in `marker` that it is under way, then takes its time, when its width is 2 and the marker is not there yet."""

    marker: str

    def build(self, input_shape: families.Shape, classes: int) -> Any:
        if self.width == 2 and not Path(self.marker).exists():
            Path(self.marker).touch()
            time.sleep(300)
        return super().build(input_shape, classes)


def dies(*_: object) -> None:
    """Takes the process down, as an interpreter can."""
    os.abort()
