"""Find the smallest neural network that is still good enough: distil, prune, quantise, and measure the file that ships."""

__version__ = "0.1.0"
