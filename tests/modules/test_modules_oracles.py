"""Gradients, updates and buffers against plain PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from distbp import load_run
from distbp.config import Config, Recipe
from distbp.config import Model as ModelConfig
from distbp.data import prepare
from distbp.lab.trial import start_one_worker
from distbp.nn.build import ModelSpec
from distbp.nn.schedules import learning_rate
from distbp.nn.streams import Purpose, epoch_order, stream
from distbp.protocol.planning import step_order
from distbp.training.plan import make_plan, model_spec

pytestmark = pytest.mark.slow

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def open_model(recipe):
    """The model of a recipe, its data and initial parameters."""
    data = prepare(recipe.data, recipe.seed)
    model = model_spec(recipe, data.schema).build()
    flat = np.zeros(model.layout.num_parameters, recipe.dtype)
    model.init(model.layout.views(flat), stream(recipe.seed, Purpose.INIT))
    return model, data.train.ready(recipe.dtype), flat


def as_torch(x, y, recipe, module_input):
    inputs = torch.from_numpy(x).reshape(len(x), *module_input)
    if recipe.data.task == "classification":
        inputs = inputs.long()
    return inputs, torch.from_numpy(y if recipe.model.loss == "squared_error" else y.astype(np.int64))


def plain_losses(outputs, y):
    if y.is_floating_point():
        return (outputs - y).square().sum(1)
    return functional.cross_entropy(outputs.movedim(-1, 1), y, reduction="none", ignore_index=-100)


def without_chance(recipe):
    """The recipe without dropout and batch normalisation, which have no gradient over the whole batch."""
    kind = recipe.model.torch.partition(":")[2]
    options = {"Cnn": {"torch": "own_modules:plain_cnn"}, "Transformer": {"options": {"dropout": 0.0}}}.get(kind, {})
    model = {**recipe.model.model_dump(exclude_unset=True), **options}
    return Recipe.model_validate({**recipe.model_dump(), "model": model})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_batchs_gradient_is_that_of_plain_pytorch_on_the_whole_batch(recipe, dtype):
    recipe = without_chance(Recipe.model_validate({**recipe.model_dump(), "dtype": dtype}))
    if dtype == "float64":
        recipe = Recipe.model_validate(
            {**recipe.model_dump(), "model": {**recipe.model.model_dump(), "torch": f"{recipe.model.torch}_64"}}
        )
    model, train, flat = open_model(recipe)
    views = model.layout.views(flat)
    total, count = np.zeros_like(flat), 0
    for start in range(0, 18, 4):
        gradient = np.empty_like(flat)
        x, y = train.take(slice(start, min(start + 4, 18)), dtype)
        count += model.gradient_sums(views, x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT)).num_examples
        total += gradient
    x, y = train.take(slice(0, 18), dtype)
    inputs, targets = as_torch(x, y, recipe, model.form.input_shape)
    losses = plain_losses(model.module(inputs), targets)
    wanted = torch.autograd.grad(losses.sum() / count, [p for p in model.module.parameters() if p.requires_grad])
    found = model.layout.views(total / count)
    assert count == (18 if recipe.model.loss_per == "example" else 18 * 6)
    for (name, _), expected in zip(model.module.named_parameters(), wanted, strict=True):
        assert np.allclose(found[name], expected.numpy(), rtol=0, atol=TOLERANCE[dtype] / 10), name


OPTIMIZERS = [
    pytest.param({"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01}, id="sgd"),
    pytest.param({"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "clip_norm": 0.1}, id="nesterov, clipped"),
    pytest.param(
        {"kind": "adamw", "learning_rate": 0.002, "weight_decay": 0.1, "decay_groups": {"*0.bias": 0.03}}, id="adamw"
    ),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_epoch_follows_plain_pytorch_step_by_step(dtype, optimizer, sources):
    builder = "own_modules:plain_cnn" + ("_64" if dtype == "float64" else "")
    recipe = Recipe.model_validate(
        {
            "data": {"source": sources["images"]},
            "model": {"torch": builder},
            "optimizer": optimizer,
            "schedule": {"kind": "cosine", "warmup_steps": 2},
            "global_batch_size": 7,
            "microbatch_size": 3,
            "epochs": 1,
            "dtype": dtype,
        }
    )
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    states = follow(recipe)
    with start_one_worker(plan) as backend:
        for step, state in enumerate(states):
            list(backend.run(iter([step_order(recipe, step, len(plan.worker.train))])))
            found = plan.layout.views(backend.snapshot().state.parameters)
            for name, value in state.items():
                assert np.allclose(found[name], value, rtol=0, atol=TOLERANCE[dtype]), (step, name)
    assert len(states) == 7


def follow(recipe):
    """Plain PyTorch on one process: the parameters after every step."""
    model, train, flat = open_model(recipe)
    module = model.build(0)
    module.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in model.layout.state_dict(flat).items()})
    chosen = recipe.optimizer
    decays = {
        name: 0.03 if chosen.decay_groups and name == "0.bias" else chosen.weight_decay * (p.ndim > 1)
        for name, p in module.named_parameters()
    }
    groups = [{"params": [p], "weight_decay": decays[name]} for name, p in module.named_parameters()]
    if chosen.kind == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=1.0, betas=chosen.betas, eps=chosen.eps)
    else:
        optimizer = torch.optim.SGD(groups, lr=1.0, momentum=chosen.momentum, nesterov=chosen.nesterov)
    order = epoch_order(recipe.seed, 0, len(train))
    num_steps = -(-len(train) // recipe.global_batch_size)
    states = []
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, num_steps)
        batch = order[step * recipe.global_batch_size : (step + 1) * recipe.global_batch_size]
        x, y = train.take(np.sort(batch), recipe.dtype)
        loss = plain_losses(module(torch.from_numpy(x).reshape(-1, 6, 6)), torch.from_numpy(y)).mean()
        optimizer.zero_grad()
        loss.backward()
        if chosen.largest_norm is not None:
            clip(list(module.parameters()), chosen.largest_norm)
        optimizer.step()
        states.append({name: p.detach().numpy().copy() for name, p in module.named_parameters()})
    return states


def clip(parameters, most):
    """nn.utils.clip_grad_norm_ without the 1e-6 that it adds to the norm."""
    norm = sum(p.grad.square().sum() for p in parameters).sqrt()
    for p in parameters:
        p.grad *= min(1.0, most / norm)


def test_batch_normalisation_is_that_of_microbatches_with_averaged_buffers(sources, train_module):
    """Ghost batch normalisation (Hoffer et al. 2017), against a loop written by hand."""
    recipe = Recipe.model_validate(
        {
            "data": {"source": sources["images"]},
            "model": {"torch": "own_modules:batch_norm_64"},
            "optimizer": {"learning_rate": 0.1, "momentum": 0.0},
            "global_batch_size": 10,
            "microbatch_size": 4,
            "epochs": 1,
            "dtype": "float64",
        }
    )
    parameters = load_run(train_module(recipe).run).parameters
    model, train, flat = open_model(recipe)
    p = {name: torch.from_numpy(view.copy()) for name, view in model.layout.views(flat).items()}
    trained = [name for name, _ in model.module.named_parameters()]
    order = epoch_order(recipe.seed, 0, len(train))
    for start in range(0, len(train), 10):
        batch = np.sort(order[start : start + 10])
        gradients = dict.fromkeys(trained, 0.0)
        means, variances = [], []
        for begin in range(0, len(batch), 4):
            x, y = (torch.from_numpy(a) for a in train.take(batch[begin : begin + 4], "float64"))
            leaves = {name: p[name].clone().requires_grad_() for name in trained}
            z = x @ leaves["1.weight"].T + leaves["1.bias"]
            mean, variance = z.mean(0), z.var(0, unbiased=False)
            a = (z - mean) / (variance + 1e-5).sqrt() * leaves["2.weight"] + leaves["2.bias"]
            loss = functional.cross_entropy(a, y, reduction="sum")
            for name, gradient in zip(trained, torch.autograd.grad(loss, list(leaves.values())), strict=True):
                gradients[name] = gradients[name] + gradient
            weight = len(x) / len(batch)
            means.append(weight * (0.9 * p["2.running_mean"] + 0.1 * mean.detach()))
            variances.append(weight * (0.9 * p["2.running_var"] + 0.1 * z.var(0).detach()))
        for name in trained:
            p[name] = p[name] - 0.1 * gradients[name] / len(batch)
        p["2.running_mean"], p["2.running_var"] = sum(means), sum(variances)
    p["2.num_batches_tracked"] += -(-len(train) // 10)
    for name, value in p.items():
        assert np.allclose(parameters[name], value.numpy(), rtol=0, atol=1e-12), name


def test_frozen_parameters_stay_and_get_no_decay(sources, train_module):
    recipe = Recipe.model_validate(
        {
            "data": {"source": sources["images"]},
            "model": {"torch": "own_modules:half_frozen"},
            "optimizer": {"kind": "adamw", "weight_decay": 0.5, "decay_groups": {"*": 0.5}},
            "global_batch_size": 16,
            "epochs": 1,
        }
    )
    run = train_module(recipe).run
    first, last = load_run(run, step=0).parameters, load_run(run).parameters
    assert np.array_equal(first["1.weight"], last["1.weight"])
    assert np.array_equal(first["1.bias"], last["1.bias"])
    assert not np.array_equal(first["3.weight"], last["3.weight"])


def test_tied_weights_are_one_tensor_with_the_gradient_of_both_uses(recipes):
    recipe = without_chance(recipes["transformer"])
    model, train, flat = open_model(recipe)
    names = [entry.name for entry in model.layout.entries]
    assert "tokens.weight" in names
    assert "out.weight" not in names
    assert dict(model.layout.aliases) == {"out.weight": "tokens.weight"}
    gradient = np.empty_like(flat)
    x, y = train.take(slice(0, 5), "float32")
    model.gradient_sums(model.layout.views(flat), x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT))
    module = model.module
    untied = nn.Linear(8, module.out.out_features, bias=False)
    untied.weight.data.copy_(module.tokens.weight)
    module.out = untied
    inputs, targets = as_torch(x, y, recipe, (7,))
    loss = plain_losses(module(inputs), targets).sum()
    uses = torch.autograd.grad(loss, [module.tokens.weight, module.out.weight])
    found = model.layout.views(gradient)["tokens.weight"]
    assert np.allclose(found, sum(uses).numpy(), rtol=0, atol=1e-5)


def test_lazy_layers_get_their_shapes_and_untouched_buffers(sources, train_module):
    recipe = Recipe.model_validate(
        {
            "data": {"source": sources["images"]},
            "model": {"torch": "own_modules:lazy"},
            "global_batch_size": 16,
            "epochs": 1,
        }
    )
    result = train_module(recipe)
    before = load_run(result.run, step=0).parameters
    assert before["1.weight"].shape == (5, 36)
    assert np.array_equal(before["2.running_mean"], np.zeros(5))
    assert before["2.num_batches_tracked"] == 0
    assert result.digest == train_module(recipe, "two", workers=2).digest


def test_what_a_module_draws_follows_from_step_and_microbatch_alone(recipes):
    model, train, flat = open_model(recipes["cnn"])
    x, y = train.take(slice(0, 4), "float32")

    def gradient(step, microbatch):
        found = np.empty_like(flat)
        views = model.layout.views(found)
        model.gradient_sums(model.layout.views(flat), x, y, views, stream(0, Purpose.DROPOUT, step, microbatch))
        return found.tobytes()

    first = gradient(0, 0)
    assert len({first, gradient(0, 1), gradient(1, 0)}) == 3
    assert gradient(0, 0) == first


def test_buffers_that_forward_leaves_alone_keep_their_bits():
    spec = ModelSpec(ModelConfig(torch="own_modules:with_constant"), 4, 2, True, "float32", (4,))
    model = spec.build()
    flat = np.zeros(model.layout.num_parameters, "float32")
    model.init(model.layout.views(flat), stream(0, Purpose.INIT))
    gradient = np.empty_like(flat)
    x, y = np.ones((3, 4), "float32"), np.zeros(3, np.int64)
    model.gradient_sums(model.layout.views(flat), x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT))
    assert np.array_equal(model.layout.views(flat)["scale"], np.array([0.1, np.inf, -0.0, 3e-39], "float32"))
    assert not model.layout.views(gradient)["scale"].any()
