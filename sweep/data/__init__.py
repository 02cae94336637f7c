"""Data sets: read or downloaded, checked, split, augmented."""
