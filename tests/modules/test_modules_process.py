"""What torch keeps for a whole process is pinned while it is needed, given back afterwards, and shared by threads."""

from __future__ import annotations

import threading

import pytest
import torch

from distbp.backends.local import LocalBackend
from distbp.config import Recipe
from distbp.nn.modules import process

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_settings_come_back_when_the_last_of_several_users_has_gone():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with process.pinned():
            entered.set()
            assert leave.wait(30)

    thread = threading.Thread(target=other)
    with process.pinned():
        thread.start()
        assert entered.wait(30)
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, True)
    assert torch.are_deterministic_algorithms_enabled()  # the other one still needs them
    leave.set()
    thread.join()
    assert not torch.are_deterministic_algorithms_enabled()
    fresh = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [2]


def test_settings_come_back_after_an_error():
    with pytest.raises(ZeroDivisionError), process.computing():
        1 // (torch.get_num_threads() - 1)
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_draws_are_those_of_the_seed_and_leave_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    before = torch.get_rng_state()
    with process.drawing_from(3):
        assert torch.equal(torch.rand(4), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_draws_waits_until_nothing_else_computes():
    computing, drew, end = threading.Event(), threading.Event(), threading.Event()

    def compute():
        computing.set()
        assert end.wait(30)
        return drew.is_set()

    found = []
    other = threading.Thread(target=lambda: found.append(process.try_without_drawing(compute)))
    other.start()
    assert computing.wait(30)

    def draw():
        with process.drawing_from(1):
            drew.set()

    drawing = threading.Thread(target=draw)
    drawing.start()
    assert not drew.wait(0.05)  # it may not, however long one waits
    end.set()
    drawing.join()
    other.join()
    assert found == [False]
    assert drew.is_set()


def test_a_module_that_draws_only_now_and_then_keeps_its_bytes_in_threads(recipes, train_module):
    recipe = Recipe.model_validate({**recipes["cnn"].model_dump(), "model": {"torch": "own_modules:draws_sometimes"}})
    recipe = recipe.model_copy(update={"epochs": 6})

    def in_threads(placement):
        return LocalBackend(placement.max_workers, num_threads=4)

    digests = {train_module(recipe, f"threads-{i}", workers=4, connect=in_threads).digest for i in range(3)}
    assert digests == {train_module(recipe, "one").digest}
