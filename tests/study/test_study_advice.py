"""The decision from given measurements, and the probe and the command on the digits."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.__main__ import main
from distbp.advise.advice import (
    CRITICAL_PER_NOISE,
    NOISE_SPREAD,
    WORTH_IT,
    Critical,
    Option,
    Placing,
    TunedSteps,
    decide,
    describe_certainty,
    estimate_critical,
    interpolate,
    keep_pace,
    learning_curve,
    seconds_of,
)
from distbp.advise.batch_comparison import CAP_FACTOR, compare_sizes
from distbp.advise.evidence import (
    PilotRun,
    choose_batch_sizes,
    choose_microbatch,
    choose_placings,
    choose_timed_sizes,
    compare,
    medians_of,
    run_pilot,
)
from distbp.advise.pilot import sampled_noise
from distbp.config import Recipe, load_config
from distbp.lab.cost_model import Measured, Setting, StepParts
from distbp.lab.gradients import GradientMeter
from distbp.lab.hyperbola import Hyperbola
from distbp.lab.trial import plan_for, run_trial
from distbp.study.batch_size.findings import Search
from distbp.study.batch_size.study import MIN_PATIENCE, propose_trial

pytestmark = pytest.mark.slow

ALONE, THREADS, RAY = Placing("local", 1, 1), Placing("local", 2, 1), Placing("ray", 4, 1)
SIZES = (16, 64, 256, 1024)
CRITICAL = Critical(200, math.log(2))


def options(example_s: float, step_s: float, ray_step_s: float) -> list[Option]:
    """One process with a cost for each step and example; Ray with a quarter of the latter and more of the former."""
    found = [Option(ALONE, size, step_s + size * example_s) for size in SIZES]
    return found + [Option(RAY, size, ray_step_s + size * example_s / 4) for size in SIZES]


def test_a_tiny_network_is_not_distributed():
    advice = decide(options(1e-6, 1e-4, 1e-3), CRITICAL, 64, 1000, 0.1)
    assert advice.option.placing == ALONE
    assert not advice.is_distributed
    assert advice.times_faster == 1


def test_a_large_network_is_distributed():
    advice = decide(options(1e-3, 1e-4, 1e-3), CRITICAL, 64, 1000, 0.1)
    assert advice.option.placing == RAY
    assert advice.is_distributed
    assert 3 < advice.times_faster < 5


def test_more_noise_asks_for_larger_batches():
    batches = [
        decide(options(1e-6, 1e-4, 1e-3), estimate_critical(scale), 64, 1000, 0.1).option.batch_size
        for scale in (1, 100, 10_000)
    ]
    assert batches == sorted(batches)
    assert batches[0] < batches[-1]


def test_what_gains_less_than_a_probe_can_tell_is_not_worth_it():
    found = [Option(ALONE, 64, 1.0), Option(THREADS, 64, 0.95), Option(RAY, 64, 0.92)]
    assert decide(found, CRITICAL, 64, 10, 0.1).option.placing == ALONE
    assert decide([*found, Option(RAY, 65, 0.5)], CRITICAL, 64, 10, 0.1).option.placing == RAY


@settings(deadline=None, max_examples=25)
@given(
    example_s=st.floats(1e-7, 1e-3), step_s=st.floats(1e-5, 1e-2), ray_s=st.floats(1e-5, 1e-1), noise=st.floats(1, 1e5)
)
def test_advice_is_within_twenty_percent_of_the_best_that_it_knows(example_s, step_s, ray_s, noise):
    found = options(example_s, step_s, ray_s)
    critical = estimate_critical(noise)
    advice = decide(found, critical, 64, 1000, 0.1)
    curve = learning_curve(critical, 64, 1000)
    assert advice.seconds <= WORTH_IT * min(seconds_of(option, curve) for option in found) + 1e-12
    assert advice.one_worker_s >= advice.seconds / WORTH_IT
    assert 0 <= advice.sure <= 1


def test_the_recipes_own_batch_needs_the_recipes_own_steps():
    curve = learning_curve(Critical(600, 0.5), 64, 1000)
    assert curve.steps(64) == pytest.approx(1000)
    assert curve.critical_batch_size == 600
    assert curve.steps(1e9) == pytest.approx(1000 / (1 + 600 / 64), rel=1e-3)


def tuned_on(curve: Hyperbola, sizes: tuple[int, ...]) -> list[TunedSteps]:
    return [TunedSteps(size, round(curve.steps(size)), 5) for size in sizes]


def test_without_trials_the_critical_batch_size_is_that_of_the_noise():
    critical = estimate_critical(40)
    assert critical.batch_size == pytest.approx(40 * CRITICAL_PER_NOISE)
    assert critical.spread == pytest.approx(NOISE_SPREAD, rel=0.01)
    assert estimate_critical(40, [TunedSteps(16, 100, 5)]) == critical  # one size says nothing about the others


@pytest.mark.parametrize("true", [20.0, 100.0, 400.0])
def test_trials_draw_the_critical_batch_size_to_what_they_saw(true):
    before, after = estimate_critical(40), estimate_critical(40, tuned_on(Hyperbola(1000, true), (16, 64, 256, 1024)))
    assert abs(math.log(after.batch_size / true)) <= 0.5 * abs(math.log(before.batch_size / true)) + 0.01
    assert after.spread < 0.7 * before.spread


def test_a_comparison_tells_what_its_trials_found():
    expected = Hyperbola(50, 100)
    found = compare_sizes(Recipe(), 0.1, expected, (16, 64, 256), 2.0)
    assert [tuned.batch_size for tuned in found] == [16, 64, 256]
    assert min(tuned.num_trials for tuned in found) > 1
    for tuned in found:
        again = Search(tuned.batch_size, 0.0, ())
        for _ in range(tuned.num_trials):
            cap = MIN_PATIENCE + int(CAP_FACTOR * expected.steps(tuned.batch_size))
            candidate, trial = propose_trial(Recipe(), again, (0.1,), cap)
            again = again.with_trial(candidate, run_trial(trial))
        assert again.fastest(0.1)[0] == tuned.steps


def test_no_trials_where_they_would_take_too_long():
    pilot = PilotRun(0.1, 100, 50.0, ((0, 10.0),), 100)
    assert compare(Recipe(), pilot, 10.0) == ()
    assert compare(Recipe(), replace(pilot, goal=None, goal_s=0.001), 10.0) == ()


def test_learning_rate_follows_the_batch_until_the_critical_size():
    assert keep_pace(0.1, 1000, 1, 2) == pytest.approx(0.2)
    assert keep_pace(0.1, 10, 1000, 100_000) == pytest.approx(0.1)
    assert keep_pace(0.1, 64, 64, 64) == pytest.approx(0.1)


def test_interpolation_meets_what_was_measured_and_stays_between():
    known = [Option(ALONE, 16, 1.0), Option(ALONE, 64, 4.0)]
    found = {option.batch_size: option.step_s for option in interpolate(known, (8, 16, 32, 64, 128))}
    assert found == {16: pytest.approx(1.0), 32: pytest.approx(2.0), 64: pytest.approx(4.0)}


def test_a_clear_case_is_surer_than_a_close_one():
    clear = decide([Option(ALONE, 64, 1.0), Option(RAY, 64, 9.0)], CRITICAL, 64, 10, 0.1)
    close = decide([Option(ALONE, 64, 1.0), Option(RAY, 64, 0.6), Option(THREADS, 64, 0.61)], CRITICAL, 64, 10, 0.1)
    assert clear.sure == 1.0
    assert close.sure < 1.0
    assert [describe_certainty(sure) for sure in (1.0, 0.9, 0.5)] == ["sure", "fairly sure", "a guess"]


def test_the_median_of_several_measurements_counts():
    def measured(backend, batch_size, step_s):
        return backend, Measured(Setting(1, 1, 100, batch_size, 8, 2), StepParts(step_s, 0, 0, 0))

    first, *others = (measured("local", 16, step_s) for step_s in (3.0, 1.0, 2.0))
    once, ray = measured("local", 64, 3.0), measured("ray", 16, 9.0)
    assert medians_of([first, once, ray, *others]) == (others[1], once, ray)
    assert medians_of([first, others[0]]) == (others[0],)


def test_servers_are_tried_only_where_the_vector_has_blocks_for_them():
    assert {p.servers for p in choose_placings(6_570, 4)} == {1}
    assert {(p.workers, p.servers) for p in choose_placings(10**6, 4) if p.backend == "ray"} == {
        (1, 1), (2, 1), (2, 2), (4, 1), (4, 4),
    }  # fmt: skip
    assert {p.backend for p in choose_placings(10**6, None)} == {"local"}


@given(num_examples=st.integers(1, 10**6))
def test_probed_batches_fit_the_data(num_examples):
    sizes = choose_batch_sizes(num_examples)
    assert sizes
    assert all(1 <= size <= num_examples for size in sizes)
    assert all(1 <= choose_microbatch(size, 2) <= size for size in sizes)
    assert all(size <= 16 * 8 or size / choose_microbatch(size, 8) >= 7 for size in sizes)


def test_batches_that_cannot_pay_are_not_timed():
    assert choose_timed_sizes(60_000, Critical(40, 0.5)) == (16, 64, 256)
    assert choose_timed_sizes(60_000, Critical(1, 0.5)) == (16, 64)
    assert choose_timed_sizes(60_000, Critical(1e6, 0.5)) == choose_batch_sizes(60_000)


@pytest.mark.slow
def test_noise_of_a_sample_is_about_that_of_all():
    meter = GradientMeter(plan_for(Recipe()).worker)
    parameters = plan_for(Recipe()).initial_state().parameters
    everything = sampled_noise(meter, parameters, np.arange(meter.num_examples))
    rng = np.random.default_rng(0)
    samples = [np.sort(rng.choice(meter.num_examples, 400, replace=False)) for _ in range(30)]
    found = [sampled_noise(meter, parameters, sample) for sample in samples]
    assert np.mean([noise.trace for noise in found]) == pytest.approx(everything.trace, rel=0.05)
    assert np.mean([noise.squared_norm for noise in found]) == pytest.approx(everything.squared_norm, rel=0.1)


def test_noise_is_read_along_the_whole_recipe_where_there_is_time():
    found = run_pilot(Recipe(epochs=2), 30.0)
    assert found.steps_trained == 46
    steps = [step for step, _ in found.noise_scales]
    assert steps[:3] == [0, 2, 6]
    assert 0 < found.goal_steps <= 46
    assert 0.05 < found.goal < 0.8


def test_learning_stops_when_the_time_is_over():
    assert run_pilot(Recipe(epochs=10_000), 0.2).steps_trained < 100_000


def test_only_noise_on_the_way_to_the_goal_counts():
    scales = ((0, 1.0), (2, 4.0), (10, 16.0), (100, 1e9))
    assert PilotRun(0.1, 10, 1.0, scales, 100).noise_scale == pytest.approx(8.0)


@pytest.mark.slow
def test_command_advises_and_its_configuration_trains(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["advise", "--seconds", "5", "--local-only", "--set", "epochs=2", "--write", "advised.yaml", "--json"]
    assert main(argv) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["headline"].startswith("do not distribute: one process is faster")
    assert not found["distribute"]
    assert len(found["why"]) == 3
    assert all(sentence.endswith(".") for sentence in found["why"])
    advised = load_config("advised.yaml")
    assert advised.recipe.global_batch_size == found["global_batch_size"]
    assert main(["train", "advised.yaml", "--json"]) == 0


@pytest.mark.ray
def test_command_tries_ray_too(capfd):
    assert main(["advise", "--seconds", "10", "--set", "epochs=1", "--set", "model.hidden=[8]", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {m["backend"] for m in found["measured"]} == {"local", "ray"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--seconds", "1"], "greater than or equal to 5"),
        (
            ["--local-only", "--seconds", "5", "--set", "epochs=1", "--write", "no/such/folder.yaml"],
            "cannot write 'no/",
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence(argv, says, capfd):
    assert main(["advise", *argv]) in (2, 4)
    assert says in capfd.readouterr().err
