"""From the words of a command to validated objects."""
