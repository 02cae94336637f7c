"""Pruning of weights, of patterns of them, and of whole filters."""
