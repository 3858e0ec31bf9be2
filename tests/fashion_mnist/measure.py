"""Train the configurations in this folder with three seeds each and print their test accuracy beside the published.

Of simple-cnn, which needs PyTorch, the published figure is the goal of Shallue et al. 2019.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from distbp import Placement, load_config, train

PUBLISHED = {"softmax": 0.842, "relu-100": 0.871, "tanh-100": 0.868, "relu-256-128-100": 0.8833, "simple-cnn": 0.90}
SEEDS = (0, 1, 2)


def measure(name: str, seed: int, storage: str) -> float:
    """Return the accuracy on the 10,000 test images, which the configuration uses for validation."""
    config = load_config(Path(__file__).parent / f"{name}.yaml", [f"recipe.seed={seed}"])
    accuracy = train(config.recipe, Placement(workers=1, storage=storage)).validation_accuracy
    assert accuracy is not None
    return accuracy


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as storage:
        for name, published in PUBLISHED.items():
            accuracies = [measure(name, seed, storage) for seed in SEEDS]
            mean = statistics.mean(accuracies)
            print(f"{name:20} published {published:.4f}  distbp {mean:.4f}  {accuracies}", flush=True)


if __name__ == "__main__":
    main()
