"""A short sitting of chaos on hosts; a long one is `python tests/hosts/link_chaos.py --faults 20`."""

from __future__ import annotations

import pytest
from link_chaos import run_link_chaos

pytestmark = pytest.mark.ray


def test_links_that_are_cut_and_mended_at_random_change_no_byte(tmp_path):
    figures = run_link_chaos(num_faults=3, seed=2, folder=tmp_path)
    assert figures.num_faults == 3
