"""The search of a sweep: its space, its study, its loop and its worker processes."""
