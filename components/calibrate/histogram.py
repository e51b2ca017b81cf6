"""What was seen of one activation: its largest absolute value, and how often which size occurred."""

import math

import numpy as np

BINS = 2048
SAMPLES = 1 << 13
"""Values of one tensor and image that are counted; the largest value is looked for among all of them."""
LEVELS = 127
PERCENTILES = {"percentile-99.99": 99.99, "percentile-99.999": 99.999}
METHODS = ("min-max", *PERCENTILES, "mse", "entropy")


class Histogram:
    """Counts of absolute values in equal bins over [0, width].

    The width is a power of two and doubles when a larger value comes, two bins becoming one: one pass is enough,
    and the order of the images does not matter.
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self.width = 0.0
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: np.ndarray, turn: int) -> None:
        """Count `values` (float32, contiguous); of many, every n-th, starting elsewhere each `turn`."""
        largest = max(float(values.max()), -float(values.min()))
        if not math.isfinite(largest):
            self.largest = largest
            return
        self.largest = max(self.largest, largest)
        self._widen(largest)
        step = max(1, values.size // SAMPLES)
        sizes = np.abs(values.reshape(-1)[turn % step :: step])
        places = np.minimum((sizes * np.float32(BINS / (self.width or 1.0))).astype(np.int32), BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)

    def _widen(self, largest: float) -> None:
        if largest <= self.width:
            return
        width = 2.0 ** math.ceil(math.log2(largest))
        if not self.width:
            self.width = width
        while self.width < width:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.width *= 2

    def limit(self, method: str) -> float:
        """Absolute value that becomes 127 by one of METHODS; what is larger is clipped to it."""
        if not self.largest:
            return 1.0
        if method == "min-max":
            return self.largest
        if method in PERCENTILES:
            limit = self._percentile(PERCENTILES[method])
        else:
            limit = {"mse": self._least_squares, "entropy": self._least_divergence}[method]()
        return min(limit, self.largest)

    def _percentile(self, percent: float) -> float:
        share = np.cumsum(self.counts) / self.counts.sum()
        return float(np.searchsorted(share, percent / 100) + 1) * self.width / BINS

    def _least_squares(self) -> float:
        """The limit with the least mean squared error of rounding and clipping."""
        centres = (np.arange(BINS) + 0.5) * self.width / BINS
        limits = np.linspace(0.1, 1, 91) * self.largest
        steps = limits[:, None] / LEVELS
        errors = centres - np.minimum(np.rint(centres / steps), LEVELS) * steps
        return float(limits[np.argmin((errors**2 * self.counts).sum(axis=1))])

    def _least_divergence(self) -> float:
        """The limit whose 128 levels keep most of the distribution.

        Source: S. Migacz, 8-bit Inference with TensorRT, GTC 2017.
        """
        used = int(np.ceil(self.largest * BINS / self.width))
        best, chosen = math.inf, used
        for kept in range(LEVELS + 1, used + 1, max(1, (used - LEVELS) // 100)):
            divergence = _divergence(self.counts, kept)
            if divergence < best:
                best, chosen = divergence, kept
        return chosen * self.width / BINS


def _divergence(counts: np.ndarray, kept: int) -> float:
    """Kullback-Leibler divergence of the counts clipped to `kept` bins from their form in 128 levels."""
    reference = counts[:kept].astype(np.float64)
    present = reference > 0
    level = np.arange(kept) * (LEVELS + 1) // kept
    sums = np.bincount(level, reference, LEVELS + 1)
    filled = np.bincount(level, present, LEVELS + 1)
    candidate = np.where(present, (sums / np.maximum(filled, 1))[level], 0)
    reference[-1] += counts[kept:].sum()
    reference, candidate = reference / reference.sum(), candidate / max(candidate.sum(), 1)
    both = (reference > 0) & (candidate > 0)
    missed = reference[(reference > 0) & ~both].sum()
    return float((reference[both] * np.log(reference[both] / candidate[both])).sum() + 10 * missed)
