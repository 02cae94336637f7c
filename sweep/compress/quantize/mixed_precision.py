"""Mixed precision: the sensitivity of a layer, and the bits of all layers within a budget as a multiple-choice knapsack.

After ZeroQ (Cai et al. 2020, arXiv 2001.00281, section 3.2): a layer's sensitivity is the Kullback-Leibler divergence of the
logits of the network with that layer alone quantised from those of the float network, and sensitivities add up over layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sweep.core.types import Array


class OverBudget(ValueError):
    """The fewest bits of every layer exceed the budget.

    Args:
        least: their cost, in the budget's unit.
    """

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.least = least


def divergence(expected: Array, actual: Array) -> float:
    """The mean over rows of KL(softmax(expected) || softmax(actual)).

    Args:
        expected: float (n, classes), logits.
        actual: float (n, classes), logits.

    Returns:
        Nats, at least 0 up to rounding.
    """
    from scipy.special import log_softmax

    log_expected, log_actual = log_softmax(expected.astype(float), axis=1), log_softmax(actual.astype(float), axis=1)
    return float(np.mean(np.sum(np.exp(log_expected) * (log_expected - log_actual), axis=1)))


def assignment(
    losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], cost: Callable[[int, int], int], budget: int
) -> dict[str, int]:
    """Solves the multiple-choice knapsack exactly: one bit-width for each layer, least total loss within the budget.

    Dynamic programming over the layers keeps the Pareto-optimal sums of cost and loss.

    Args:
        losses: layer name to bit-width to loss, at least one width each.
        sizes: layer name to its number of weights.
        cost: (weights, bits) to their cost, an integer of at least 0.
        budget: in the same unit.

    Returns:
        Layer name to bits, in the order of `losses`.

    Raises:
        OverBudget: when the cheapest choice exceeds the budget.
    """
    costs, lost = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[Array, Array]] = []  # of each layer: the predecessor of each state, and its bits
    for name, options in losses.items():
        widths = np.array(sorted(options))
        extra = np.array([cost(sizes[name], int(width)) for width in widths])
        more = np.array([options[int(width)] for width in widths])
        all_costs, all_lost = (costs[:, None] + extra).ravel(), (lost[:, None] + more).ravel()
        order = np.lexsort((all_lost, all_costs))
        least = np.minimum.accumulate(all_lost[order])
        better = order[np.concatenate([[True], least[1:] < least[:-1]])]
        costs, lost = all_costs[better], all_lost[better]
        steps.append((better // len(widths), widths[better % len(widths)]))
    state = int(np.searchsorted(costs, budget, side="right")) - 1
    if state < 0:
        raise OverBudget(int(costs[0]))
    chosen = []
    for came_from, widths in reversed(steps):
        chosen.append(int(widths[state]))
        state = int(came_from[state])
    return dict(zip(losses, reversed(chosen), strict=True))
