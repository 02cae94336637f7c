"""Mixed precision: what a network's answers lose by a layer's bits, and the best bits for all layers under a budget.

After ZeroQ (Cai et al. 2020, arXiv 2001.00281, section 3.2): a layer's sensitivity is the Kullback-Leibler divergence of the
network's answers with that layer alone on few bits, and those of several layers add up. Which answers, and of which images, is
the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sweep.core.types import Array


class OverBudget(ValueError):
    """Not even the fewest bits of every layer fit.

    Args:
        least: what they take, in the budget's own unit.
    """

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.least = least


def divergence(expected: Array, found: Array) -> float:
    """KL(softmax(expected) || softmax(found)) in nats, its mean over rows of logits: float (n, classes) each."""
    from scipy.special import log_softmax

    log_expected, log_found = log_softmax(expected.astype(float), axis=1), log_softmax(found.astype(float), axis=1)
    return float(np.mean(np.sum(np.exp(log_expected) * (log_expected - log_found), axis=1)))


def assignment(
    losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], cost: Callable[[int, int], int], budget: int
) -> dict[str, int]:
    """The bits of each layer that lose least in sum, exactly, at a cost of at most `budget` in all.

    A multiple-choice knapsack: from layer to layer goes every sum that no other undercuts in both cost and loss.

    Args:
        losses: layer name to what each of its possible bit-widths loses.
        sizes: layer name to its number of weights.
        cost: (weights, bits) to what they cost.
        budget: in the same unit.

    Raises:
        OverBudget: when nothing fits.
    """
    costs, lost = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[Array, Array]] = []  # of each layer: where each state came from, and the bits it took
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
