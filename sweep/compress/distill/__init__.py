"""Distillation from a teacher, directly or through assistants."""
