"""What a night of new images costs the old ones: the night shift learned with and without replay of the day's images.

python tests/benchmarks/bench_replay.py [--workspace FOLDER]
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipelines.recipes import demo
from tests.benchmarks.sample_parts import Parts, map_on


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--workspace", default=".yanshan/bench-replay")
    options = asked.parse_args()
    parts, recipe = Parts(Path(options.workspace)), demo()
    parts.take_in("day", 420, seed=1)
    day_set = parts.training_set("day_set", recipe.augment)
    champion = parts.train("champion", day_set, recipe.train)
    file = parts.export("champion", day_set)
    parts.take_in("night", 300, seed=2)
    truths = {shift: parts.test_truth(shift) for shift in ("day", "night")}
    before = {shift: map_on(file, truth) for shift, truth in truths.items()}
    print(f"champion of the day: {before['day']:.1f} points by day, {before['night']:.1f} by night", flush=True)
    # As a warm start trains: the champion's weights, its epochs and its rate.
    warm = recipe.train.changed(
        weights=str(champion),
        epochs=recipe.train.warm_start_epochs,
        learning_rate=recipe.train.learning_rate * recipe.train.warm_start_learning_rate_share,
    )
    for name, share in (("replay of all", 1.0), ("replay of a quarter", 0.25), ("no replay", 0.0)):
        folder = parts.training_set(f"set-{share}", recipe.augment.changed(replay_share=share))
        change: dict[str, list[float]] = {"day": [], "night": []}
        for seed in range(options.seeds):
            parts.train(f"after-{share}-{seed}", folder, warm.changed(seed=seed))
            file = parts.export(f"after-{share}-{seed}", folder)
            for shift, truth in truths.items():
                change[shift].append(map_on(file, truth) - before[shift])
        told = (f"{s} {np.mean(c):+.1f} (spread {np.std(c, ddof=1):.1f})" for s, c in change.items())
        print(f"{name:20} {', '.join(told)} points over {options.seeds} seeds", flush=True)


if __name__ == "__main__":
    main()
