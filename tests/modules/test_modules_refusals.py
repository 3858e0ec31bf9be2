"""What cannot keep the promise is refused before training, in one sentence that says what and what to do."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from distbp import train
from distbp.config import Recipe
from distbp.errors import ConfigError

pytestmark = pytest.mark.slow

REFUSED = {
    "NoDeterministicForm": r"uses put_, an operation that has no deterministic form.*replace it",
    "ChangesParameter": r"forward pass changes 'out.weight'; only buffers",
    "ReplacesParameter": r"forward pass changes 'out.weight'; only buffers",
    "ChangesAttribute": r"forward pass changes 'num_calls'; only buffers",
    "GrowsList": r"forward pass changes 'log'",
    "ChangesMask": r"forward pass changes 'mask'",
    "SwitchesMode": r"forward pass changes 'Dropout.training'",
    "PythonRandom": r"draws from Python's random or numpy.random.*use torch's",
    "NumpyRandom": r"draws from Python's random or numpy.random.*use torch's",
    "OwnGenerator": r"other gradients when the same microbatch is computed again",
    "TellsTheTime": r"other gradients when the same microbatch is computed again.*time",
    "Remembers": r"other gradients when the same microbatch is computed again; it keeps something",
    "SparseGradient": r"gradient of 'table.weight' is sparse; build it with sparse=False",
    "ComplexParameter": r"parameter 'phase' is complex64; distbp trains float32 and float64",
    "IntegerParameter": r"parameter 'levels' is int64",
    "HalfPrecision": r"parameter 'out.weight' is float16 and the recipe's dtype is float32; convert",
    "SharesModule": r"two calls of the builder share modules.*make new ones in every call",
    "SharesBuffer": r"two calls of the builder share modules, parameters or buffers",
    "LooksAtNeighbours": r"loss of an example depends on the examples beside it",
    "SetsThreads": r"changes torch's num_threads to 2; leave it to distbp",
    "SwitchesDeterminismOff": r"changes torch's deterministic to False; leave it to distbp",
    "WrongOutputs": r"outputs of shape \(7, 2\) for 7 examples; expected \(7, 3\)",
    "TwoOutputs": r"returned tuple; expected one tensor",
    "Detaches": r"loss does not depend on the module's parameters; leave out detach",
    "Fails": r"failed in 'out' \(Linear\) on 7 examples: RuntimeError: mat1 and mat2 shapes",
    "NothingToTrain": r"no parameter to train; give it one with requires_grad=True",
    "ExtraState": r"state_dict has '_extra_state' beside its parameters and buffers",
    "HalfBuffer": r"buffer 'small' is bfloat16",
    "NormalisesBatch": r"Expected more than 1 value per channel.*last microbatch of a batch has as few as 1",
    "random_beginning": r"two builds of the module have different initial values",
    "no_module": r"builder returned dict; expected a torch.nn.Module",
    "unknown_argument": r"calling the builder with \(num_outputs=3\) failed: TypeError: .*width",
    "missing": r"'rule_breakers' has no 'missing'",
}


@pytest.fixture
def break_rules(sources, train_module):
    def call(source="images", data=None, **model):
        recipe = Recipe.model_validate(
            {
                "data": {"source": sources[source], **(data or {})},
                "model": model,
                "global_batch_size": 15,
                "microbatch_size": 7,
                "epochs": 1,
            }
        )
        return train_module(recipe, workers=2)

    return call


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_breaks_the_rules_is_refused_before_training(name, break_rules, tmp_path):
    with pytest.raises(ConfigError, match=REFUSED[name]) as caught:
        break_rules(torch=f"rule_breakers:{name}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_module_that_keeps_the_rules_is_not_refused(break_rules):
    assert break_rules(torch="rule_breakers:Base").steps == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mean_loss", r"loss has shape \(\) for 7 examples; return one loss per example.*reduction='none'"),
        ("broadcast_loss", r"loss has shape \(7, 3\) for targets of shape \(7,\)"),
        ("no_tensor_loss", r"loss returned list; expected a tensor with one loss per example"),
    ],
)
def test_a_loss_of_the_wrong_shape_is_refused(name, words, break_rules):
    with pytest.raises(ConfigError, match=words):
        break_rules(torch="rule_breakers:Base", loss=f"rule_breakers:{name}")


def test_a_token_beyond_the_embedding_is_told_with_the_embeddings_name(break_rules):
    with pytest.raises(ConfigError, match=r"failed in 'tokens' \(Embedding\).*not below its number of embeddings"):
        break_rules("tokens", {"scaling": "none", "task": "classification"}, torch="rule_breakers:FewTokens")


def test_tokens_that_float32_cannot_tell_apart_are_refused(tmp_path):
    x = np.zeros((60, 4), np.int64)
    x[5, 2] = 2**24 + 1
    np.savez(tmp_path / "large.npz", x=x, y=np.arange(60) % 3)
    recipe = {
        "data": {"source": str(tmp_path / "large.npz"), "scaling": "none"},
        "model": {"torch": "rule_breakers:Base"},
        "global_batch_size": 15,
    }
    with pytest.raises(ConfigError, match=r"16,777,217, and float32 holds them exactly up to 16,777,216.*float64"):
        train(Recipe.model_validate(recipe))


def test_without_torch_one_sentence_says_what_to_install(break_rules, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("distbp.nn.modules")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"needs PyTorch, which is not installed here; pip install 'distbp\[torch\]'"):
        break_rules(torch="own_modules:Cnn")
