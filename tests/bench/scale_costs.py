"""The costs with which the simulation computes: of messages by themselves, of all else from two small groups."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from scale_simulation import Costs

from distbp.group.links import Link, Switchboard, call
from distbp.group.partials import PartialsHeader

NUM_MESSAGES = 3000
HEADER = PartialsHeader(((0, 1, 0.5, 1, (), None),), (0,), 0.001, 0.0)


def measure_message(kind: str) -> float:
    """Return the seconds of a core that sending or receiving one small message takes. kind: "unix" or "tcp"."""
    board = Switchboard("127.0.0.1", b"secret")
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(board.accept, kind, 10.0)
        caller = call(board.addresses[kind], b"secret", 10.0)
        other = answered.result()
    began = time.process_time()
    for _ in range(NUM_MESSAGES):
        _say(caller, other)
    seconds = (time.process_time() - began) / NUM_MESSAGES / 2
    for end in (caller, other, board):
        end.close()
    return seconds


def _say(sender: Link, receiver: Link) -> None:
    sender.send(HEADER)
    receiver.receive()


def find_costs(small: dict[str, float], larger: dict[str, float]) -> Costs:
    """Return the costs from groups of 2 and 8 members on one node, with one server, as `scale.py` measures them."""
    near_s, far_s = measure_message("unix"), measure_message("tcp")
    order_s = 1e-6 * larger["driver CPU us a member"] / larger["orders a step and member"]
    ordered_s = order_s * small["orders a step and member"]
    step_s = 1e-3 * small["CPU ms, worker"] - 2 * near_s - ordered_s
    a_worker_s = 1e-3 * (larger["CPU ms, server"] - small["CPU ms, server"]) / 6
    partial_s = max(0.0, a_worker_s - 2 * near_s)
    commit_s = 1e-3 * small["CPU ms, server"] - ordered_s - step_s - 2 * near_s - 2 * partial_s
    return Costs(near_s, far_s, step_s, max(0.0, commit_s), partial_s, order_s)
