"""The targets of a file: which files run there, how much memory and time they need, and how well they agree with LiteRT."""
