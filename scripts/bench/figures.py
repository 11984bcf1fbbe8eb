"""Statistics: medians, paired ratios, bootstrap intervals. No normal distribution is assumed anywhere."""

import json
import random
import re
import statistics

RESAMPLES = 10_000


def median(values):
    return statistics.median(values)


def mean(values):
    return statistics.fmean(values)


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


def write_json(path, results):
    """With a line for every second of a run, not for each of its figures."""
    text = re.sub(r"\{[^{}\[\]]*\}", lambda found: re.sub(r"\s+", " ", found[0]), json.dumps(results, indent=1))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
