"""Networks whose `build` fails, for the tests of isolation and resumption; `model._target_` refers to them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.models import families


@dataclass(frozen=True, kw_only=True)
class Aborts(families.LeNet5):
    """Aborts the process, as the converter can, for a width of 2."""

    def build(self, input_shape: families.Shape, classes: int) -> Any:
        if self.width == 2:
            os.abort()
        return super().build(input_shape, classes)


@dataclass(frozen=True, kw_only=True)
class Waits(families.LeNet5):
    """Creates `marker` and sleeps for 5 minutes, for a width of 2 and as long as the marker does not exist."""

    marker: str

    def build(self, input_shape: families.Shape, classes: int) -> Any:
        if self.width == 2 and not Path(self.marker).exists():
            Path(self.marker).touch()
            time.sleep(300)
        return super().build(input_shape, classes)


def dies(*_: object) -> None:
    """Aborts the process, as an interpreter can."""
    os.abort()
