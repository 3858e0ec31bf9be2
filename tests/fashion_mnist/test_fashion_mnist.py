"""The configurations for Fashion-MNIST are sound; measure.py in this folder measures what they reach."""

from pathlib import Path

import pytest

from distbp import Placement, load_config, train

pytestmark = pytest.mark.slow

CONFIGS = sorted(Path(__file__).parent.glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_configuration_is_valid(path):
    assert load_config(path).recipe.global_batch_size == 128


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").exists(), reason="needs Debian's package dataset-fashion-mnist"
)
def test_softmax_regression_comes_near_the_published_accuracy_in_five_epochs(tmp_path):
    config = load_config(Path(__file__).parent / "softmax.yaml", ["recipe.epochs=5"])
    result = train(config.recipe, Placement(workers=1, storage=str(tmp_path)))
    assert result.validation_accuracy > 0.83
