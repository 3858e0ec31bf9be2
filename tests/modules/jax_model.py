"""A JAX function as a model of one's own: `model.function: jax_model:build`, through distbp's gradient protocol.

What has to be pinned, and how: XLA on a CPU may split one operation over threads and then add in another order
(https://github.com/jax-ml/jax/issues/39741), so it gets one thread, by a variable that is read when jax is imported.
The matmul precision is set, 64-bit numbers are enabled only where asked for, and each microbatch of another size is
compiled once for itself. Random numbers come from keys that follow from the generator that distbp hands over.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np

from distbp.nn.layout import Entry, Layout
from distbp.nn.model import Sums

HIDDEN = 9
DROPPED = 0.1


def logits(parameters, x):
    """A hidden layer: (B, K)."""
    return jnp.tanh(x @ parameters["W1"] + parameters["b1"]) @ parameters["W2"] + parameters["b2"]


def losses(parameters, x, y):
    """-log softmax_y, (B,)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits(parameters, x)), y[:, None], axis=1)[:, 0]


def noisy_loss(parameters, x, y, key):
    """The summed loss with some of the inputs dropped."""
    kept = jax.random.bernoulli(key, 1 - DROPPED, x.shape)
    return losses(parameters, jnp.where(kept, x / (1 - DROPPED), 0), y).sum()


loss_and_gradient = jax.jit(jax.value_and_grad(noisy_loss))
evaluate = jax.jit(lambda parameters, x, y: (losses(parameters, x, y).sum(), logits(parameters, x).argmax(1)))
probabilities = jax.jit(lambda parameters, x: jax.nn.softmax(logits(parameters, x)))


class JaxModel:
    """Hands arrays to JAX and takes gradients back; it keeps nothing between calls."""

    def __init__(self, num_inputs: int, num_outputs: int):
        self.layout = Layout(
            (
                Entry("W1", (num_inputs, HIDDEN)),
                Entry("b1", (HIDDEN,), decays=False),
                Entry("W2", (HIDDEN, num_outputs)),
                Entry("b2", (num_outputs,), decays=False),
            )
        )

    def init(self, parameters, rng):
        for name, view in parameters.items():
            view[...] = 0.3 * rng.standard_normal(view.shape) if name.startswith("W") else 0

    def gradient_sums(self, parameters, x, y, gradient, rng):
        key = jax.random.key(int(rng.integers(1 << 31)))
        loss, found = loss_and_gradient(copied(parameters), x, y, key)
        for name, view in gradient.items():
            view[...] = found[name]
        return Sums(float(loss), len(x))

    def loss_sums(self, parameters, x, y):
        loss, predicted = evaluate(copied(parameters), x, y)
        return Sums(float(loss), len(x), int((np.asarray(predicted) == y).sum()))

    def predict(self, parameters, x):
        return np.asarray(probabilities(copied(parameters), x))


def copied(parameters):
    """In JAX's own memory: it may take an array as it lies, which is aligned otherwise in other processes."""
    return {name: jnp.array(view, copy=True) for name, view in parameters.items()}


def build(num_inputs: int, num_outputs: int) -> JaxModel:
    return JaxModel(num_inputs, num_outputs)
