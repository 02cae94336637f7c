"""How a command starts, shows its progress, tells an error in one line, and ends."""
