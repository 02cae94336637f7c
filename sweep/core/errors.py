"""The one error for bad input, and the checks that raise it."""

from __future__ import annotations

import math


def shortened(text: str, limit: int = 300) -> str:
    """The text on one line, what cannot be printed escaped, the middle of a long one left out for a …."""
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
    if len(line) <= limit:
        return line
    end = (limit - 1) // 2
    return f"{line[: limit - 1 - end]}…{line[-end:]}"


class ConfigError(ValueError):
    """A value that the user gave and that cannot be used: what was expected, what was received, and where.

    Args:
        where: the configuration key (or the file) at fault.
        expected: what would have been accepted.
        received: what was there.
    """

    def __init__(self, where: str, expected: str, received: object) -> None:
        super().__init__(where, expected, received)
        self.where, self.expected, self.received = where, expected, received

    def under(self, prefix: str) -> ConfigError:
        """The same error with its key placed below `prefix` (`sparsity` under `prune` is `prune.sparsity`)."""
        return ConfigError(f"{prefix}.{self.where}" if self.where else prefix, self.expected, self.received)

    def __str__(self) -> str:
        received = self.received if isinstance(self.received, str) else repr(self.received)
        return f"{shortened(self.where)}: expected {shortened(self.expected, 1000)}; received {shortened(received)}".rstrip()


# What float32 arithmetic takes, its products with a weight and a gradient included.
LEARNING_RATES = (1e-30, 1e30)
MOST_EPOCHS = 100_000
MOST_CHANNELS = 65_536


def require_learning_rate(where: str, value: object) -> None:
    """Refuse what is not a learning rate above 0 that float32 arithmetic takes.

    Raises:
        ConfigError: as `require_number`.
    """
    require_number(where, value, *LEARNING_RATES)


def require_epochs(where: str, value: object, least: int) -> None:
    """Refuse what is not a number of epochs, of at least `least`.

    Raises:
        ConfigError: as `require_integer`.
    """
    require_integer(where, value, least, MOST_EPOCHS)


def require_number(
    where: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Refuse what is not a finite number in [low, high]; `open_low` and `open_high` leave the ends out.

    Raises:
        ConfigError: for another type (a bool too), NaN, or a number outside.
    """
    if high == math.inf:
        bounds = f"above {low:g}" if open_low else f"of at least {low:g}"
    else:
        bounds = f"in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not number or isinstance(value, bool) or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(where, f"a number {bounds}", repr(value))
    if (open_low and value == low) or (open_high and value == high):
        raise ConfigError(where, f"a number {bounds}", repr(value))


def require_integer(where: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse what is not an integer in [low, high].

    Raises:
        ConfigError: for another type (a bool too) or an integer outside.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        most = f" and at most {high}" if high is not None else ""
        raise ConfigError(where, f"an integer of at least {low}{most}", repr(value))


def require_choice(where: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is not one of `choices`.

    Raises:
        ConfigError: with the choices listed.
    """
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        shown = value if any(isinstance(choice, str) for choice in choices) else repr(value)
        raise ConfigError(where, f"one of {', '.join(map(str, choices))}", shown)


def require_text(where: str, value: object) -> None:
    """Refuse what is not a text with something in it.

    Raises:
        ConfigError: for another type or an empty text.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(where, "a text", repr(value))
