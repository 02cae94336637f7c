"""The command line of the commands that compose no configuration: a mistake on it is reported in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class CommandLine(argparse.ArgumentParser):
    """A parser that ends the program with exit code 2 and one line, `error: …`, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, after one line."""
        self.exit(2, f"error: {' '.join(message.split())}\n")
