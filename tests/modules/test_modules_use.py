"""A run of a PyTorch module is evaluated, used, continued from and shared like any other."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import own_modules
import pyarrow.parquet
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from distbp import Config, Placement, load_run, train
from distbp.config import Model as ModelConfig
from distbp.config import Recipe
from distbp.data import prepare
from distbp.errors import CheckpointError, ConfigError, DataError
from distbp.lab.gradients import GradientMeter
from distbp.nn.build import ModelSpec, probe_model
from distbp.prediction.output import choose_writer, tabulate
from distbp.service.package import pack
from distbp.training.plan import make_plan

pytestmark = pytest.mark.slow


def with_model(recipe, **fields):
    return Recipe.model_validate(
        {**recipe.model_dump(), "model": {**recipe.model.model_dump(exclude_unset=True), **fields}}
    )


def test_a_run_is_evaluated_to_the_loss_that_it_ended_with(recipe, train_module):
    result = train_module(recipe)
    report = load_run(result.run).evaluate()
    assert report.loss == result.validation_loss
    assert report.accuracy == result.validation_accuracy
    assert report.num_examples == 12


def test_accuracy_of_sequences_is_over_the_places_that_are_learned(recipes, train_module, sources):
    for loss_per in ("example", "token"):
        run = load_run(train_module(with_model(recipes["transformer"], loss_per=loss_per), loss_per).run)
        arrays = np.load(sources["tokens"])
        predictions = run.predict(arrays["x"])
        assert predictions.outputs.shape == (60, 7, 11)
        assert np.array_equal(predictions.labels, predictions.outputs.argmax(-1))
        learned = arrays["y"] != -100
        report = run.evaluate(sources["tokens"])
        assert report.accuracy == np.mean((predictions.labels == arrays["y"])[learned])
        assert report.num_examples == 60
        assert sum(score.num_examples for score in report.classes) == learned.sum()
        hits = sum(score.recall * score.num_examples for score in report.classes)
        assert hits == pytest.approx(report.accuracy * learned.sum())
        log = np.log(np.take_along_axis(predictions.outputs, np.maximum(arrays["y"], 0)[..., None], -1))[..., 0]
        divisor = 60 if loss_per == "example" else learned.sum()
        assert report.loss == pytest.approx(-log[learned].sum() / divisor, rel=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_predictions_of_sequences_are_written_place_by_place(suffix, recipes, train_module, tmp_path, sources):
    run = load_run(train_module(recipes["transformer"]).run)
    predictions = run.predict(sources["tokens"])
    path = tmp_path / f"out{suffix}"
    choose_writer(str(path))(tabulate(predictions, run.schema, probabilities=True))
    if suffix == ".npz":
        found = dict(np.load(path))
        assert np.array_equal(found["prediction"], predictions.labels)
        assert np.array_equal(found["probability_3"], predictions.outputs[..., 3])
        return
    if suffix == ".parquet":
        columns = pyarrow.parquet.read_table(path).to_pydict()
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
    assert columns["prediction_6"] == predictions.labels[:, 6].tolist()
    assert np.allclose(columns["probability_3_2"], predictions.outputs[:, 2, 3], rtol=1e-6)
    assert len(columns) == 7 * 12


def test_examples_without_a_place_to_learn_are_refused(tmp_path, recipes, train_module):
    y = np.zeros((60, 7), np.int64)
    y[4] = -100
    np.savez(tmp_path / "empty.npz", x=np.zeros((60, 7), np.int64), y=y)
    recipe = recipes["transformer"]
    data = {**recipe.data.model_dump(), "source": str(tmp_path / "empty.npz")}
    with pytest.raises(DataError, match=r"every class of y\[4\] .* is -100.*leave such examples out"):
        train_module(Recipe.model_validate({**recipe.model_dump(), "data": data}))


def test_explain_says_why_it_cannot(recipes, train_module):
    from distbp import explain_run

    result = train_module(recipes["cnn"])
    with pytest.raises(ConfigError, match="trained the model own_modules:Cnn, which distbp cannot look into"):
        explain_run(result.run)


def checkpoint_folder(result):
    return Path(result.run) / "checkpoints" / f"step-{result.final_step:08d}"


@pytest.mark.parametrize(("name", "kind"), [("cnn", "Cnn"), ("transformer", "Transformer"), ("recurrent", "Recurrent")])
def test_pytorch_loads_a_checkpoint_strictly(name, kind, recipes, train_module, sources):
    result = train_module(recipes[name])
    state = safetensors.torch.load_file(checkpoint_folder(result) / "model.safetensors")
    run = load_run(result.run)
    names = {"num_outputs": run.schema.num_outputs, "input_shape": run.schema.input_shape}
    asked = names if kind != "Cnn" else {"num_outputs": names["num_outputs"]}
    module = getattr(own_modules, kind)(**asked)
    module.load_state_dict(state)
    if name == "cnn":
        assert state["norm.num_batches_tracked"].dtype == torch.int64
        assert state["norm.num_batches_tracked"] == result.steps
    if name == "transformer":
        assert torch.equal(state["out.weight"], state["tokens.weight"])
    module.eval()
    x = np.load(sources[recipes[name].data.source.rpartition("/")[2].removesuffix(".npz")])["x"]
    predicted = run.predict(x).outputs
    scaled = (
        x if name == "transformer" else run.schema.scaling.cast("float32", x.dtype).apply(x.reshape(60, -1), "float32")
    )
    with torch.no_grad():
        outputs = module(torch.from_numpy(scaled).reshape(60, *run.schema.input_shape)).softmax(-1)
    assert np.allclose(predicted, outputs.numpy(), rtol=0, atol=1e-6)


def test_a_checkpoint_whose_module_file_was_changed_is_damaged(recipes, train_module):
    result = train_module(recipes["cnn"])
    path = checkpoint_folder(result) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.safetensors was changed after it was written"):
        load_run(result.run)


def test_a_run_of_the_built_in_network_has_no_module_file(recipes, train_module):
    recipe = Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {}})
    folder = checkpoint_folder(train_module(recipe))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "state.safetensors"]
    assert "module" not in json.loads((folder / "manifest.json").read_text())


def first_state(result):
    return load_run(result.run, step=0).parameters


def test_a_run_starts_from_a_file_and_from_a_run(recipe, train_module):
    before = train_module(recipe, "before")
    end = load_run(before.run).parameters
    file = str(checkpoint_folder(before) / "model.safetensors")
    from_file = train_module(with_model(recipe, initial=file), "file")
    from_run = train_module(with_model(recipe, initial=before.run), "run", workers=3)
    for result in (from_file, from_run):
        assert all(np.array_equal(value, end[name]) for name, value in first_state(result).items())
    assert from_file.digest == from_run.digest != before.digest


def test_a_file_that_pytorch_wrote_is_started_from(recipes, train_module, tmp_path):
    module = own_modules.Cnn(3)
    path = tmp_path / "pretrained.safetensors"
    safetensors.torch.save_file(module.state_dict(), path)
    result = train_module(with_model(recipes["cnn"], initial=str(path)))
    assert np.array_equal(first_state(result)["conv.weight"], module.conv.weight.detach().numpy())


def test_the_built_in_network_starts_from_weights_too(recipes, train_module):
    recipe = Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {"hidden": [5]}})
    before = train_module(recipe, "before")
    after = train_module(with_model(recipe, initial=before.run), "after")
    end = load_run(before.run).parameters
    assert all(np.array_equal(value, end[name]) for name, value in first_state(after).items())


def save_changed(path, recipe, train_module, change):
    """Write the weights of a run with a change; returns a recipe that starts from them."""
    before = train_module(recipe, "before")
    state = safetensors.numpy.load_file(checkpoint_folder(before) / "model.safetensors")
    change(state)
    safetensors.numpy.save_file(state, path)
    return with_model(recipe, initial=str(path))


CHANGES = {
    "renamed": (
        lambda state: state.update({"conv.weights": state.pop("conv.weight")}),
        r"'conv.weights' is no tensor of the model, did you mean 'conv.weight'\?",
    ),
    "missing": (lambda state: state.pop("norm.running_var"), r"'norm.running_var' is missing"),
    "reshaped": (
        lambda state: state.update({"out.bias": np.zeros(4, "f4")}),
        r"'out.bias' has shape \(4,\), the model's is \(3,\)",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_weights_of_other_names_or_shapes_are_refused(name, recipes, train_module, tmp_path):
    change, words = CHANGES[name]
    recipe = save_changed(tmp_path / "w.safetensors", recipes["cnn"], train_module, change)
    with pytest.raises(ConfigError, match=words):
        train_module(recipe)


def test_tied_weights_that_differ_are_refused(recipes, train_module, tmp_path):
    def untie(state):
        state["out.weight"] = state["out.weight"] + 1

    recipe = save_changed(tmp_path / "w.safetensors", recipes["transformer"], train_module, untie)
    with pytest.raises(ConfigError, match=r"'out.weight' and 'tokens.weight' differ, and the model ties them"):
        train_module(recipe)


def test_weights_that_are_not_there_or_no_tensors_are_told(recipes, train_module, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file; check the path"):
        train_module(with_model(recipes["cnn"], initial=str(tmp_path / "none.safetensors")))
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        train_module(with_model(recipes["cnn"], initial=str(tmp_path / "text.safetensors")))
    with pytest.raises(CheckpointError):
        train_module(with_model(recipes["cnn"], initial=str(tmp_path / "no-run")))


def test_a_run_is_not_resumed_from_other_weights(recipes, train_module, tmp_path):
    from test_modules_same_bytes import stop_at

    from distbp.errors import TerminatedRunError

    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(own_modules.Cnn(3).state_dict(), path)
    recipe = with_model(recipes["cnn"], initial=str(path))
    with pytest.raises(TerminatedRunError):
        train_module(recipe, observe=stop_at(3), checkpoint_every_steps=1)
    safetensors.torch.save_file(own_modules.Cnn(3).state_dict(), path)
    with pytest.raises(CheckpointError, match="are not those that the run started from; restore them"):
        train_module(recipe)


def build(num_outputs):
    return own_modules.plain_cnn(num_outputs)


def test_a_builder_from_python_gives_the_bytes_of_its_name(recipes, train_module):
    without = Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {}})
    named = train_module(with_model(without, torch="own_modules:plain_cnn"), "named")
    given = train_module(without, "given", model=own_modules.plain_cnn, workers=2)
    assert given.digest == named.digest
    assert load_run(given.run).config.recipe.model.torch == "own_modules:plain_cnn"


def test_a_builder_that_cannot_be_imported_is_given_again_to_use_the_run(recipes, train_module):
    def local_build(num_outputs):
        return build(num_outputs)

    result = train_module(Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {}}), model=local_build)
    with pytest.raises(ConfigError, match=r"has no 'local_build'.*load_run\(run, model=\.\.\.\)"):
        load_run(result.run)
    assert load_run(result.run, model=local_build).evaluate().loss == result.validation_loss
    assert load_run(result.run, step=0, model=local_build).step == 0


@pytest.mark.parametrize("model", [lambda num_outputs: build(num_outputs), partial(build), "own_modules:Cnn"])
def test_a_builder_without_a_name_is_refused(model, recipes, train_module):
    with pytest.raises(ConfigError, match="has no name that a run could record; give a function"):
        train_module(Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {}}), model=model)


def test_a_builder_beside_another_one_in_the_recipe_is_refused(recipes, train_module):
    with pytest.raises(ConfigError, match=r"but the recipe has model.torch=own_modules:Cnn"):
        train_module(recipes["cnn"], model=build)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_builder_travels_to_ray_by_value(recipes, train_module):
    width = 5

    def local_build(num_outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.Tanh(), nn.Linear(width, num_outputs))

    recipe = Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {}})
    local = train_module(recipe, "local", model=local_build)
    assert train_module(recipe, "ray", backend="ray", workers=2, model=local_build).digest == local.digest


def test_a_loss_of_ones_own_is_used(recipes, train_module):
    plain = train_module(with_model(recipes["cnn"], torch="own_modules:plain_cnn"), "plain")
    own = train_module(
        with_model(recipes["cnn"], torch="own_modules:plain_cnn", loss="own_modules:cross_entropy_again"), "own"
    )
    assert own.digest == plain.digest
    doubled = with_model(recipes["cnn"], torch="own_modules:plain_cnn", loss="own_modules:doubled_cross_entropy")
    assert train_module(doubled, "doubled").digest != plain.digest


def test_the_users_modules_travel_with_a_job(tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "parts").mkdir(parents=True)
    (here / "my_module.py").write_text("from parts import losses\n")
    (here / "parts" / "losses.py").write_text("")
    (here / "w.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(here)
    recipe = Recipe(model=ModelConfig(torch="my_module:build", loss="parts.losses:mine", initial="w.safetensors"))
    job = tmp_path / "job"
    job.mkdir()
    pack(Config(recipe=recipe, placement=Placement(storage="s3://bucket/runs")), job)
    assert (job / "my_module.py").exists()
    assert (job / "parts" / "losses.py").exists()
    assert (job / "w.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(ModelConfig(torch="own_modules:Cnn"), 36, 3, True, "float32", (6, 6)),
        ModelSpec(ModelConfig(torch="own_modules:Transformer"), 7, 5, True, "float32", (7,), True, (7,)),
        ModelSpec(ModelConfig(torch="own_modules:Regression", loss="squared_error"), 5, 3, False, "float32", (5,)),
        ModelSpec(ModelConfig(hidden=(4,)), 36, 3, True, "float64", (6, 6)),
    ],
    ids=["cnn", "transformer", "regression", "built-in"],
)
def test_the_probe_of_a_model_repeats_and_tells_models_apart(spec):
    probe = probe_model(spec)
    assert probe_model(spec) == probe
    assert probe_model(spec, batch_size=8) != probe


def test_the_noise_of_a_modules_gradient_is_measured_example_by_example(sources):
    """Also with batch normalisation, which in training knows no single example, and without what buffers change."""
    recipe = Recipe.model_validate(
        {"data": {"source": sources["images"]}, "model": {"torch": "own_modules:batch_norm_64"}, "dtype": "float64"}
    )
    plan = make_plan(Config(recipe=recipe.model_copy(update={"global_batch_size": 8})), prepare(recipe.data, 0))
    meter, parameters = GradientMeter(plan.worker), plan.initial_state().parameters
    everything = np.arange(meter.num_examples)
    mean = meter.mean_gradient(parameters, everything)
    singles = [meter.mean_gradient(parameters, everything[i : i + 1]) for i in everything]
    assert np.allclose(np.mean(singles, axis=0), mean, rtol=0, atol=1e-12)
    assert np.allclose(meter.squared_norms(parameters, everything), [g @ g for g in singles])
    views = plan.layout.views(mean)
    assert not any(views[name].any() for name in ("2.running_mean", "2.running_var", "2.num_batches_tracked"))
    assert views["1.weight"].any()


def test_train_takes_a_builder_without_a_recipe_that_names_it(tmp_path):
    result = train(Recipe(epochs=1), Placement(storage=str(tmp_path)), model=own_modules.digits_cnn)
    assert result.validation_accuracy > 0.5
