"""Distillation from a teacher, directly or through assistants.

Start in `teachers`, which has the choices of the `distill` group. `stages` has the stages that train the student, `losses`
their losses, `targets` the cached outputs of the teacher, and `attention` the attention maps.
"""
