"""Training. Start at `loop.fit`, the only training loop.

`goals` has the loss and its targets, `recipes` the optimizer and the learning rate schedule, `constraints` the masks and
clusters that training keeps, and `context` what a stage receives.
"""
