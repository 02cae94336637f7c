"""How a command starts, shows its progress, reports an error in one line, and ends."""
