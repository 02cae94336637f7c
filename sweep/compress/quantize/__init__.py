"""Quantisation after training (PTQ) and with training (QAT)."""
