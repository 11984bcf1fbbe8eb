"""Statistics: medians, paired ratios, bootstrap intervals. No normal distribution is assumed anywhere."""

import random
import statistics

RESAMPLES = 10_000


def median(values):
    return statistics.median(values)


def interval(values, seed=1):
    """The 95 % bootstrap interval of the median; the seed makes a report of the same data the same."""
    if len(values) < 2:
        return [values[0], values[0]]
    draw = random.Random(seed)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return [medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]]


def summary(values):
    low, high = interval(values)
    return {"median": median(values), "low": low, "high": high, "runs": len(values)}


def paired(ours, theirs):
    """Ratios of runs of one round, ours to theirs, with rounds that have both."""
    ratios = [ours[index] / theirs[index] for index in sorted(set(ours) & set(theirs))]
    return summary(ratios) if ratios else None


def palindrome(names, rounds):
    """The order of runs: A B C, C B A, A B C, …: what drifts with time falls on all alike (ABBA for two)."""
    return [(index, list(names) if index % 2 == 0 else list(reversed(names))) for index in range(rounds)]
