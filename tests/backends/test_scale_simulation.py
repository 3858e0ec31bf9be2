"""In virtual time: what members and driver say to each other in a step, counted, for more members than fit here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from scale_crew import place
from scale_simulation import Costs, simulate

COSTS = Costs(near_s=1e-5, far_s=2e-5, step_s=1e-4, commit_s=1e-4, partial_s=1e-5, order_s=1e-4)
SIZE = 4096
PER_NODE = 8


@pytest.mark.parametrize("num_members", [16, 256])
def test_members_send_one_message_to_the_server_and_get_one_of_it_or_their_leader(num_members):
    found = simulate(COSTS, place(num_members, PER_NODE), 1, SIZE)
    assert found.num_messages == pytest.approx(2 * (num_members - 1))


def test_bytes_between_nodes_are_those_of_every_far_gradient_and_one_set_of_parameters_a_node():
    num_nodes = 8
    found = simulate(COSTS, place(num_nodes * PER_NODE, PER_NODE), 1, SIZE)
    arrays = (num_nodes - 1) * (PER_NODE + 1)
    assert 4 * SIZE * arrays <= found.far_bytes <= 4 * SIZE * arrays + 300 * arrays  # and a short message with each


def test_a_step_takes_as_long_as_its_parts_one_after_the_other():
    """One member, which is the server too, on one core: the sum by hand."""
    found = simulate(COSTS, ["a"], 1, SIZE, num_cores=1, num_steps=200)
    assert found.step_s == pytest.approx(COSTS.step_s + COSTS.commit_s + COSTS.partial_s, rel=0.05)


def test_the_same_group_gives_the_same_seconds_again():
    first, second = (simulate(COSTS, place(32, PER_NODE), 4, 1 << 18) for _ in range(2))
    assert first == second


def test_nodes_of_their_own_are_faster_than_one_machine_for_all():
    nodes = place(64, PER_NODE)
    together = simulate(COSTS, nodes, 1, SIZE)
    apart = simulate(COSTS, nodes, 1, SIZE, num_cores=8, is_one_machine=False)
    assert apart.step_s < together.step_s
    assert apart.num_messages == together.num_messages
