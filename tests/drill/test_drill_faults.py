"""How people write faults, and what they are told when they mistype one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.drill.faults import Fault, check_ranks, check_steps, parse_fault
from distbp.errors import ConfigError


@pytest.mark.parametrize(
    ("action", "text", "fault"),
    [
        ("kill", "worker:1@40", Fault("kill", "worker", 1, 40)),
        ("kill", "server@60", Fault("kill", "server", 0, 60)),
        ("kill", "server:2@60", Fault("kill", "server", 2, 60)),
        ("kill", " driver@0 ", Fault("kill", "driver", 0, 0)),
        ("hang", "worker:2@30", Fault("hang", "worker", 2, 30)),
        ("slow", "worker:0@20x10", Fault("slow", "worker", 0, 20, 10.0)),
        ("slow", "server@20x2.5", Fault("slow", "server", 0, 20, 2.5)),
    ],
)
def test_faults_are_read_as_they_are_written(action, text, fault):
    assert parse_fault(action, text) == fault


@pytest.mark.parametrize(
    ("action", "text", "fragment"),
    [
        ("kill", "", "expected who@step, such as worker:1@40"),
        ("kill", "worker:1", "expected who@step"),
        ("kill", "wroker:1@4", "expected who@step"),
        ("kill", "worker:1@-4", "expected who@step"),
        ("kill", "worker@4", "which worker? Write for example worker:0@4"),
        ("kill", "driver:1@4", "there is one driver"),
        ("hang", "driver@4", "it can only be killed, as in --kill driver@80"),
        ("slow", "driver@4x2", "it can only be killed"),
        ("slow", "worker:0@4", "how many times slower? Write a factor above 1, such as worker:0@20x10"),
        ("slow", "worker:0@4x1", "how many times slower?"),
        ("kill", "worker:0@4x2", "x2 is for --slow; leave it out"),
    ],
)
def test_mistakes_are_named_with_what_to_write(action, text, fragment):
    with pytest.raises(ConfigError) as caught:
        parse_fault(action, text)
    assert str(caught.value).startswith(f"--{action} {text}: ")
    assert fragment in str(caught.value)


@given(action=st.sampled_from(["kill", "hang", "slow"]), text=st.text(max_size=20))
def test_no_text_is_more_than_a_fault_or_a_configuration_error(action, text):
    try:
        fault = parse_fault(action, text)
    except ConfigError:
        return
    assert parse_fault(action, str(fault).removeprefix(f"{action} ")) == fault


def test_faults_that_cannot_happen_are_refused():
    check_steps([Fault("kill", "driver", 0, 9)], 10)
    with pytest.raises(ConfigError, match="the run has 10 steps; use a step from 0 to 9"):
        check_steps([Fault("kill", "driver", 0, 10)], 10)
    check_ranks([Fault("kill", "worker", 1, 3), Fault("kill", "driver", 0, 3)], 2)
    with pytest.raises(ConfigError, match="has workers 0 to 1; use one of them, or --workers 3"):
        check_ranks([Fault("kill", "worker", 2, 3)], 2)
