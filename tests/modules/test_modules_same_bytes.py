"""A PyTorch module gives the same bytes on any number of workers, threads and servers, after any stop and fault."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch

from distbp import verify
from distbp.errors import TerminatedRunError

pytestmark = pytest.mark.slow


def stop_at(step):
    def observe(progress):
        if progress.position.step == step:
            signal.raise_signal(signal.SIGTERM)

    return observe


def test_digest_does_not_depend_on_workers_and_threads(recipe, train_module):
    one = train_module(recipe, "one")
    others = [train_module(recipe, f"local-{workers}", workers=workers) for workers in (2, 3, 7)]
    others.append(train_module(recipe, "threads", workers=2, threads_per_worker=3))
    assert {other.digest for other in others} == {one.digest}
    assert all(verify(one.run, other.run).first_difference is None for other in others)
    assert {(other.train_loss, other.validation_loss) for other in others} == {(one.train_loss, one.validation_loss)}


def test_digest_does_not_depend_on_threads_that_compute_at_once(recipe, train_module):
    from distbp.backends.local import LocalBackend

    def in_threads(placement):
        return LocalBackend(placement.max_workers, num_threads=4)

    digests = {train_module(recipe, f"threads-{i}", workers=4, connect=in_threads).digest for i in range(3)}
    assert digests == {train_module(recipe, "one").digest}


def test_a_run_stopped_and_resumed_at_odd_steps_ends_like_an_undisturbed_one(recipe, train_module):
    for step, workers in ((1, 2), (3, 1), (5, 3)):
        with pytest.raises(TerminatedRunError, match=f"stopped after step {step} of 6"):
            train_module(recipe, "run", observe=stop_at(step), workers=workers, checkpoint_every_steps=1)
    assert train_module(recipe, "run", resume="must").digest == train_module(recipe, "whole").digest


def test_torch_is_as_before_after_a_run(recipes, train_module):
    torch.set_num_threads(2)
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
    train_module(recipes["cnn"], workers=2)
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state(legacy=False)) == str(before[2])


def test_digest_does_not_depend_on_torchs_settings(recipes, train_module):
    recipe = recipes["cnn"]
    plain = train_module(recipe, "plain")
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(3)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(77)
    try:
        with torch.no_grad(), torch.autocast("cpu"):
            other = train_module(recipe, "other", workers=2)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
    assert other.digest == plain.digest


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestOnRay:
    def test_ray_gives_the_bytes_of_one_process(self, recipe, train_module):
        local = train_module(recipe, "local")
        for workers in (1, 2, 3):
            on_ray = train_module(recipe, f"ray-{workers}", backend="ray", workers=workers, servers=workers)
            assert verify(local.run, on_ray.run).first_difference is None
            assert on_ray.digest == local.digest
            assert on_ray.validation_loss == local.validation_loss

    @pytest.mark.parametrize("optimizer", [{"kind": "adamw", "learning_rate": 0.001}, {"momentum": 0.5}])
    def test_several_servers_give_the_bytes_of_one(self, optimizer, recipes, train_module):
        """More than two blocks of parameters, with buffers in the last of them."""
        model = {"torch": "own_modules:wide_cnn", "options": {"width": 600}}
        recipe = recipes["cnn"].model_copy(update={"epochs": 1})
        recipe = type(recipe).model_validate({**recipe.model_dump(), "model": model, "optimizer": optimizer})
        local = train_module(recipe, "local")
        assert local.num_parameters > 2 * 65536
        on_ray = train_module(recipe, "ray", backend="ray", workers=3, servers=3, threads_per_worker=2)
        assert on_ray.digest == local.digest == train_module(recipe, "threads", workers=3).digest

    @pytest.mark.parametrize("ranks", [pytest.param((1,), id="worker"), pytest.param((0,), id="server")])
    def test_a_run_whose_actors_were_killed_ends_like_an_undisturbed_one(
        self, ranks, recipe, train_module, monkeypatch
    ):
        from distbp.backends.ray.backend import RayBackend

        backends, hit = [], []
        start = RayBackend.start

        def watch(backend, *group):
            backends.append(backend)
            return start(backend, *group)

        def kill(progress):
            if progress.position.step == 3 and not hit:
                hit.extend(backends[-1].processes[rank].pid for rank in ranks)
                for pid in hit:
                    os.kill(pid, signal.SIGKILL)

        monkeypatch.setattr(RayBackend, "start", watch)
        recipe = recipe.model_copy(update={"epochs": 4})
        disturbed = train_module(
            recipe, "disturbed", observe=kill, backend="ray", workers=2, servers=1, checkpoint_every_steps=2
        )
        assert len(hit) == len(ranks)
        assert disturbed.recoveries >= 1
        assert disturbed.digest == train_module(recipe, "whole").digest
