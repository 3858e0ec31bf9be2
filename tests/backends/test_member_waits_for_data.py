"""A member that waits for data leaves its group as quickly as one that waits for others."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from waiting import wait_until

from distbp.config import Data, Recipe
from distbp.data import prepare
from distbp.data.blocks.fetch import PATIENCE_S
from distbp.errors import DataError
from distbp.group.lines import PeerLostError
from distbp.group.links import Switchboard
from distbp.group.member import Member
from distbp.group.roster import Membership, Roster
from distbp.nn.build import ModelSpec
from distbp.protocol.messages import TrainState, WorkerTask
from distbp.protocol.planning import lane_order, server_slices
from distbp.protocol.supply import Course
from distbp.training.plan import server_task

pytestmark = pytest.mark.slow

SECRET = b"only for this test"
COUNT = 40
RECIPE = Recipe(model={"hidden": (4,)}, global_batch_size=10, microbatch_size=5)


@pytest.fixture
def member(faults):
    """The only member of a group, whose data are on storage that refuses from now on; and a first order."""
    filesystem = fsspec.filesystem("faulty")
    content = io.BytesIO()
    x = np.arange(COUNT, dtype=np.float32)[:, None]
    np.savez(content, x=x, y=x[:, 0])
    filesystem.pipe_file("faulty://bucket/0.npz", content.getvalue())
    data = prepare(Data(source="faulty://bucket", task="regression", validation=0, scaling="none"), 3)
    supply = data.train.along(Course(10, 5, 1, 4, 1 << 20, 0))
    spec = ModelSpec(RECIPE.model, 1, 1, False, "float32")
    layout = spec.build().layout
    state = TrainState(0, np.zeros(layout.num_parameters, np.float32), (np.zeros(layout.num_parameters, np.float32),))
    board = Switchboard(None, SECRET)
    who = Membership("a", "a", 0, "", addresses=board.addresses)
    roster = Roster((who,), server_slices(layout.num_parameters, 1), SECRET, 20.0)
    member = Member(0, roster, WorkerTask(spec, supply, None, 0, 5, 1), server_task(RECIPE, layout), state)
    member.connect(board, state)
    faults.refuse(ConnectionError("reset"), ("cat_file",))
    yield member
    member.close()


def test_a_member_that_is_cut_waits_no_longer_for_storage_that_refuses(member, faults):
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(member.run, [lane_order(RECIPE, 0, COUNT)])
        wait_until(lambda: faults.num_met > 1)
        member.cut()
        assert isinstance(running.exception(timeout=PATIENCE_S / 2), PeerLostError)


def test_a_member_that_stays_says_what_storage_refused(member, faults):
    faults.refuse(PermissionError("Access Denied"), ("cat_file",))
    with pytest.raises(DataError, match="permission denied"):
        member.run([lane_order(RECIPE, 0, COUNT)])
