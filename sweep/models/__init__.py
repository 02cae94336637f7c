"""Networks: the families, what a network must be, and checkpoints."""
