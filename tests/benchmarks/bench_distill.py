"""Does a teacher help? A small student with and without one, the same steps, three seeds, on the frozen test set.

python tests/benchmarks/bench_distill.py [--student pico] [--workspace FOLDER]
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
    asked.add_argument("--student", default="pico")
    asked.add_argument("--epochs", type=int, default=16)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--workspace", default=".yanshan/bench-distill")
    options = asked.parse_args()
    parts = Parts(Path(options.workspace))
    parts.take_in("day", 420, seed=1)
    training_set, truth = parts.training_set("training_set", demo().augment), parts.test_truth()
    teacher = parts.train("teacher", training_set, demo().train.changed(epochs=36))
    print(f"teacher, yolov8n: {map_on(parts.export('teacher', training_set), truth):.1f} points on {len(truth.images)}")
    student = demo().train.changed(architecture=options.student, epochs=options.epochs)
    gains = []
    for seed in range(options.seeds):
        scores = []
        for name, teacher_of in (("alone", ""), ("taught", str(teacher))):
            parts.train(f"{name}-{seed}", training_set, student.changed(seed=seed, teacher=teacher_of))
            scores.append(map_on(parts.export(f"{name}-{seed}", training_set), truth))
        gains.append(scores[1] - scores[0])
        print(f"{options.student}, seed {seed}: alone {scores[0]:.1f}, with the teacher {scores[1]:.1f}", flush=True)
    print(f"the teacher is worth {np.mean(gains):+.1f} points, spread over seeds {np.std(gains, ddof=1):.1f}")


if __name__ == "__main__":
    main()
