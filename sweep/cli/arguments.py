"""The command-line parser of the commands without a Hydra configuration."""

from __future__ import annotations

import argparse
from typing import NoReturn


class CommandLine(argparse.ArgumentParser):
    """A parser that ends the program with exit code 2 and one line, `error: …`, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        self.exit(2, f"error: {' '.join(message.split())}\n")
