"""Networks. Start in `families`, which has the choices of the `model` group.

`contract` validates a built network, `checkpoints` converts between Keras models and checkpoints, `equivalence` compares the
logits before and after a rewrite, and `layers` and `layer_names` find and rename layers.
"""
