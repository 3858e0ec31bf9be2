"""What a step, a group and a death cost as members grow: many members on this machine, whose gradient costs nothing.

Without Ray, to see distbp's own part. Seconds are of members that share this machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scale_costs import find_costs
from scale_crew import Crew, Task, place
from scale_simulation import Costs, simulate

from distbp.protocol.recovery import GroupLostError

WARMUP_STEPS, NUM_STEPS = 8, 40
KILL_AFTER_S = 0.3
COUNTED = ("near messages", "near bytes", "far messages", "far bytes", "cpu s")


def measure_steps(crew: Crew) -> dict[str, float]:
    """Return seconds, messages and bytes of one step: of a worker without a server, of server 0, and the driver's."""
    crew.run(0, WARMUP_STEPS)
    before, sent, calls = crew.count(), crew.driver_bytes, crew.num_calls
    cpu, began = time.process_time(), time.perf_counter()
    crew.run(WARMUP_STEPS, WARMUP_STEPS + NUM_STEPS)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    sent, calls, after = crew.driver_bytes - sent, crew.num_calls - calls, crew.count()
    used = [{key: (a[key] - b[key]) / NUM_STEPS for key in COUNTED} for b, a in zip(before, after, strict=True)]
    num, servers = len(used), crew.roster.num_servers
    found = {"ms a step": 1e3 * seconds / NUM_STEPS}
    for key in ("near messages", "far messages"):
        found[f"{key}, worker"] = statistics.mean(one[key] for one in used[servers:] or used)
        found[f"{key}, server"] = used[0][key]
    found["CPU ms, worker"] = 1e3 * statistics.mean(one["cpu s"] for one in used[servers:] or used)
    found["CPU ms, server"] = 1e3 * statistics.mean(one["cpu s"] for one in used[:servers])
    found["far bytes, all, of 2 n (S-1)/S a node"] = sum(one["far bytes"] for one in used) / bound(crew)
    found["driver CPU us a member"] = 1e6 * cpu / NUM_STEPS / num
    found["orders a step and member"] = calls / NUM_STEPS / num
    found["driver bytes a member"] = sent / NUM_STEPS / num
    found["sockets, worker"], found["sockets, server"] = after[-1]["sockets"], after[0]["sockets"]
    found["threads, server"] = after[0]["threads"]
    return found


def bound(crew: Crew) -> float:
    """Return the bytes that all nodes together send if each sends 2 n (S-1)/S values, S nodes with equal slices."""
    nodes = len(crew.roster.leaders)
    return max(1.0, nodes * 2 * crew.task.state.parameters.nbytes * (nodes - 1) / nodes)


def measure_changes(crew: Crew, last: int) -> dict[str, float]:
    """Return the seconds to notice the death of the last worker, to stand again without it, and to grow by one."""
    killed: list[float] = []
    timer = threading.Timer(
        KILL_AFTER_S, lambda: killed.append(time.perf_counter()) or crew.lose(len(crew.members) - 1)
    )
    timer.start()
    try:
        crew.run(last, last + 1_000_000)
        raise SystemExit("nobody noticed that a member is gone")
    except GroupLostError:
        noticed_s = time.perf_counter() - killed[0]
        timer.join()
    shrunk_s = _form_again(crew)
    crew.add(crew.roster.members[-1].node)
    return {
        "s to notice a death": noticed_s,
        "s to rescue, form again and step": shrunk_s,
        "s to grow by one and step": _form_again(crew),
    }


def _form_again(crew: Crew) -> float:
    began, state = time.perf_counter(), crew.rescue().state
    crew.form(state)
    crew.run(state.step, state.step + 1)
    return time.perf_counter() - began


def measure(num_members: int, per_node: int, num_servers: int, size: int) -> dict[str, float]:
    """Return all that is measured of a group; "failed" where it could not be formed."""
    crew = Crew(Task.of(num_members, size), place(num_members, per_node), num_servers)
    try:
        found = {"s to form": crew.form(crew.task.state)}
        found |= measure_steps(crew)
        return found | measure_changes(crew, WARMUP_STEPS + NUM_STEPS)
    except GroupLostError as error:
        print(f"{num_members} members, {per_node} a node, {num_servers} servers: {error}", file=sys.stderr)
        return {}
    finally:
        crew.close()


def predict(costs: Costs, counts: list[int], options: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Return the milliseconds a step that virtual time gives: on this machine, and on nodes of their own."""
    found: dict[int, dict[str, float]] = {}
    own = replace(costs, latency_s=5e-5, bytes_per_s=1.25e9)
    for count in counts:
        nodes, steps = place(count, options.per_node), 24 if count <= 256 else 8
        world = (nodes, options.servers, options.size)
        found[count] = {"ms a step, own nodes": 1e3 * simulate(own, *world, 8, False, steps).step_s}
        if count <= 256:
            here = simulate(costs, *world, os.cpu_count() or 1, True, steps)
            found[count]["ms a step, this machine"] = 1e3 * here.step_s
        print(f"{count} members, predicted: {found[count]}", file=sys.stderr)
    return found


def show(title: str, found: dict[int, dict[str, float]]) -> None:
    """Print one row for each measure, one column for each number of members."""
    table = Table("members", *map(str, found), title=title)
    for name in dict.fromkeys(key for one in found.values() for key in one):
        table.add_row(name, *(f"{one[name]:.4g}" if name in one else "-" for one in found.values()))
    Console(width=130).print(table)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", default="4,16,64,128,256")
    parser.add_argument("--per-node", type=int, default=8)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--size", type=int, default=4096, help="parameters; a server takes blocks of 65,536")
    parser.add_argument("--predict", default="", help="further numbers of members, in virtual time: 1024,4096")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = {}
    for count in map(int, options.members.split(",")):
        found[count] = measure(count, options.per_node, options.servers, options.size)
        print(f"{count} members: {found[count]}", file=sys.stderr)
    predicted = {}
    if options.predict:
        costs = find_costs(measure(2, 2, 1, options.size), measure(8, 8, 1, options.size))
        print(costs, file=sys.stderr)
        predicted = predict(costs, [*found, *map(int, options.predict.split(","))], options)
    title = f"{options.per_node} members a node, {options.servers} servers, {options.size} parameters"
    show(f"{title}; {os.cpu_count()} cores, {soft} files", found)
    if predicted:
        show("predicted in virtual time", predicted)
    if options.json:
        report = {"machine": platform.platform(), "options": title, "found": found, "predicted": predicted}
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
