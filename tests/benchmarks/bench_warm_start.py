"""Steps that a warm start saves: the champion's mAP after a quarter of the epochs that it took from scratch (the aim).

    python tests/benchmarks/bench_warm_start.py [--workspace FOLDER]

A batch of new images of the same shift has come; from scratch, a quarter of the epochs is the peer.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipelines.recipes import demo
from tests.benchmarks.sample_parts import Parts, map_on


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--workspace", default=".yanshan/bench-warm-start")
    parts, recipe = Parts(Path(asked.parse_args().workspace)), demo().train
    parts.take_in("day", 420, seed=1)
    day_set = parts.training_set("day_set", demo().augment)
    champion = parts.train("champion", day_set, recipe)
    champion_file = parts.export("champion", day_set)
    parts.take_in("day", 80, seed=2)
    more = parts.training_set("more", demo().augment)
    truth = parts.test_truth()
    reached = map_on(champion_file, truth)
    print(f"champion: {reached:.1f} points after {recipe.epochs} epochs from scratch", flush=True)
    rate = recipe.learning_rate * recipe.warm_start_learning_rate_share
    for epochs in (recipe.epochs // 4, recipe.epochs // 8):
        ways = {
            "from scratch": recipe.changed(epochs=epochs),
            "warm start": recipe.changed(epochs=epochs, weights=str(champion), learning_rate=rate),
        }
        for way, settings in ways.items():
            name = f"{way.replace(' ', '-')}-{epochs}"
            parts.train(name, more, settings)
            got = map_on(parts.export(name, more), truth)
            print(f"{way:12} {epochs:2} epochs: {got:.1f} points, {got - reached:+.1f} to the champion", flush=True)


if __name__ == "__main__":
    main()
