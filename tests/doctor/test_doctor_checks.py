"""From facts to findings: each bad fact is told, with what to do, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distbp.doctor import Diagnosis
from distbp.doctor.cluster_checks import (
    ClusterNode,
    check_alike,
    check_authentication,
    check_clocks,
    check_cluster,
    check_kernels,
    check_shared,
)
from distbp.doctor.demand import Demand
from distbp.doctor.findings import block, ok, warn
from distbp.doctor.machine_checks import check_blas, check_cores, check_memory, check_storage
from distbp.doctor.node import Blas, NodeFacts, find_memory_bytes, measure_gflops, weigh_portable_kernels
from distbp.doctor.storage_trial import StorageFacts
from distbp.machine.cores import count_cores

NODE = NodeFacts(
    host="n1",
    python="3.11.7",
    numpy="2.4.6",
    ray="2.60.0",
    distbp="0.1.0",
    blas=(Blas("openblas", "0.3.31", "SkylakeX", 2),),
    openblas_coretype=None,
    simd=("X86_V3", "X86_V4"),
    probe="a" * 64,
    gflops=100.0,
    cores=4,
    load=0.1,
    memory_bytes=8_000_000_000,
    storage_error=None,
    sees_mark=True,
)
DEMAND = Demand(
    max_workers=4,
    min_workers=2,
    threads=1,
    parameter_bytes=40_000_000,
    array_bytes=300_000_000,
    num_microbatches=8,
    keep_checkpoints=3,
)
STORAGE = StorageFacts("s", True, "m/mark", None, 0.002, 1e8, True, 10**12)
FIRST = ClusterNode("10.0.0.1", 4, 10**9, NODE, None, 0.0)
OTHER = replace(FIRST, address="10.0.0.2")


def judge(findings) -> list[tuple[str, str]]:
    """The topics that are not fine, and how bad they are."""
    return [(finding.topic, finding.level) for finding in findings if finding.level != "ok"]


def test_a_good_machine_gives_no_warning():
    assert judge(check_blas(NODE)) == []
    assert judge(check_cores(NODE, DEMAND)) == []
    assert judge(check_memory(NODE, DEMAND)) == []
    assert judge(check_storage(STORAGE, DEMAND)) == []


def test_a_good_cluster_gives_no_warning():
    nodes = [FIRST, OTHER]
    assert judge(check_cluster(nodes, DEMAND)) == []
    assert judge(check_alike(NODE, nodes)) == []
    assert judge(check_shared(STORAGE, nodes)) == []
    assert judge(check_clocks(nodes)) == []
    assert check_authentication(asks_for_token=True, is_private=False).level == "ok"
    assert check_authentication(asks_for_token=False, is_private=True).level == "ok"


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"blas": ()}, "BLAS"),
        ({"openblas_coretype": "Haswell"}, "BLAS kernel"),
        ({"cores": 3}, "cores"),
        ({"load": 2.5}, "load"),
        ({"memory_bytes": 500_000_000}, "memory"),
    ],
)
def test_each_flaw_of_a_machine_is_a_warning(changes, topic):
    node = replace(NODE, **changes)
    findings = [*check_blas(node), *check_cores(node, DEMAND), *check_memory(node, DEMAND)]
    assert judge(findings) == [(topic, "warning")]


@pytest.mark.parametrize(
    ("changes", "topic", "level"),
    [
        ({"error": "cannot write 's': full"}, "storage", "problem"),
        ({"small_s": 0.9}, "storage speed", "warning"),
        ({"admits_one": False}, "storage lock", "warning"),
        ({"free_bytes": 399_000_000}, "disk space", "warning"),
    ],
)
def test_each_flaw_of_storage_is_told(changes, topic, level):
    assert judge(check_storage(replace(STORAGE, **changes), DEMAND)) == [(topic, level)]


def test_too_many_workers_are_told_how_many_fit():
    (finding,) = [f for f in check_cores(NODE, replace(DEMAND, max_workers=3, threads=2)) if f.topic == "cores"]
    assert finding.fact == "3 workers of 2 threads on 4 cores: they take turns"
    assert "at most workers=2" in finding.advice


@pytest.mark.parametrize(
    ("changes", "topic", "level", "exit_code"),
    [
        ({"facts": None, "error": "ModuleNotFoundError: No module named 'distbp'"}, "node 10.0.0.2", "problem", 7),
        ({"object_store_bytes": 10**8}, "node 10.0.0.2 object store", "warning", 0),
        ({"facts": replace(NODE, memory_bytes=10**8)}, "node 10.0.0.2 memory", "warning", 0),
        ({"facts": replace(NODE, numpy="2.0.0")}, "versions", "warning", 0),
        ({"facts": replace(NODE, probe="b" * 64)}, "numerics", "problem", 8),
        ({"facts": replace(NODE, sees_mark=False)}, "shared storage", "warning", 0),
        ({"skew_s": 70.0}, "node 10.0.0.2 clock", "warning", 0),
    ],
)
def test_each_flaw_of_one_node_is_told_with_its_address(changes, topic, level, exit_code):
    nodes = [FIRST, replace(OTHER, **changes)]
    findings = (
        *check_cluster(nodes, DEMAND),
        *check_alike(NODE, nodes),
        *check_shared(STORAGE, nodes),
        *check_clocks(nodes),
    )
    assert judge(findings) == [(topic, level)]
    assert Diagnosis(findings).exit_code == exit_code
    (finding,) = [finding for finding in findings if finding.topic == topic]
    assert "10.0.0.2" in finding.topic + finding.fact
    assert finding.advice


@pytest.mark.parametrize(("here", "there"), [("2.13.0", "2.6.0"), ("2.13.0", None), (None, "2.13.0")])
def test_another_torch_on_a_node_is_told_where_the_run_uses_it(here, there):
    ours, members = replace(NODE, torch=here), [replace(OTHER, facts=replace(NODE, torch=there))]
    assert judge(check_alike(ours, members)) == []
    assert judge(check_alike(ours, members, uses_torch=True)) == [("versions", "warning")]
    (finding,) = [f for f in check_alike(ours, members, uses_torch=True) if f.level == "warning"]
    assert finding.advice == "install torch 2.13.0 on every node"
    assert f"torch is {here or 'missing'} here and {there or 'missing'} on 10.0.0.2" in finding.fact


def test_unlike_processors_are_told_which_variables_pytorch_reads():
    members = [replace(OTHER, facts=replace(NODE, probe="b" * 64))]
    (finding,) = [f for f in check_alike(NODE, members, uses_torch=True) if f.topic == "numerics"]
    assert all(name in finding.advice for name in ("portable", "ATEN_CPU_CAPABILITY", "MKL_CBWR"))


def test_a_cluster_that_is_too_small_is_a_problem_only_below_the_minimum():
    small = replace(FIRST, num_cpus=1)
    assert judge(check_cluster([small], DEMAND)) == [("cluster", "problem")]
    assert judge(check_cluster([small, small, small], DEMAND)) == [("cluster", "warning")]


def test_a_cluster_that_asks_for_no_token_is_a_warning():
    assert check_authentication(asks_for_token=False, is_private=False).level == "warning"


def test_the_first_problem_gives_the_exit_code():
    findings = (ok("a", "b"), warn("a", "b", "c"), block("a", "b", "c", 4), block("a", "b", "c", 8))
    assert Diagnosis(findings).exit_code == 4
    assert Diagnosis(findings[:2]).exit_code == 0


def test_a_containers_limits_count(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    5000 kB\n")
    assert count_cores(tmp_path) == 1
    assert find_memory_bytes(tmp_path, tmp_path / "meminfo") == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert find_memory_bytes(tmp_path, tmp_path / "meminfo") == 5_120_000
    assert find_memory_bytes(tmp_path / "none", tmp_path / "none") is None


def test_the_speed_of_matrix_products_is_measured():
    assert 0.5 < measure_gflops() < 2000


def other_kernels(**fields) -> list[ClusterNode]:
    return [FIRST, replace(OTHER, facts=replace(NODE, **fields))]


@pytest.mark.parametrize(
    "fields", [{"simd": ("X86_V3",)}, {"blas": (Blas("openblas", "0.3.31", "Haswell", 2),)}], ids=["NumPy", "OpenBLAS"]
)
def test_the_node_with_other_kernels_is_named_with_the_switch_and_its_price(fields):
    (finding,) = check_kernels(NODE, other_kernels(**fields), False, lambda: (100.0, 60.0))
    assert finding.level == "warning"
    assert "on 10.0.0.2" in finding.fact
    assert "portable kernels reach 60 GFLOP/s a core on this machine, its own 100" in finding.fact
    assert "placement.portable=true" in finding.advice


def test_equal_kernels_are_not_weighed():
    def weigh():
        raise AssertionError

    assert list(check_kernels(NODE, [FIRST, OTHER], False, weigh)) == []


def test_a_portable_run_is_told_its_price():
    (finding,) = check_kernels(NODE, [FIRST, OTHER], True, lambda: (100.0, 60.0))
    assert (finding.level, "60 GFLOP/s" in finding.fact) == ("ok", True)


@pytest.mark.slow
def test_the_price_is_measured_in_processes_with_both_kernels():
    found = weigh_portable_kernels()
    assert found is None or min(found) > 0


def test_a_portable_run_is_not_warned_of_the_variable_that_makes_it_so():
    chosen = replace(NODE, openblas_coretype="Haswell")
    assert judge(check_blas(chosen)) == [("BLAS kernel", "warning")]
    assert judge(check_blas(chosen, is_portable=True)) == []
