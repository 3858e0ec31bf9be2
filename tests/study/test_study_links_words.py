"""What the links study concludes, and that its page says so in words that it has explained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distbp.lab.curves import CurvePoint
from distbp.lab.trial import TrialResult
from distbp.study.links.cost import Links, Way
from distbp.study.links.findings import Choice, LinksFindings, Tried, WayFinding, find_way
from distbp.study.links.report import conclude, describe, write_links_report

NUM_PARAMETERS, PART_S = 669_706, {512: 0.0154, 128: 0.007}
FEW, MANY, NEVER = (0.9, 0.1), (0.9, 0.5, 0.4, 0.1), (0.9, 0.5)


def find(way: Way, links: Links, errors: tuple[float, ...]) -> WayFinding:
    points = tuple(CurvePoint(300 * number, error, error) for number, error in enumerate(errors))
    tried = Tried(way, PART_S[way.part], (Choice(0.1),), (TrialResult(points, "cut", points[-1].step),))
    return find_way(tried, 0.2, 4 * NUM_PARAMETERS, links)


def findings(mbit_s: float, one: tuple[float, ...] = MANY, rounds: tuple[float, ...] = MANY) -> LinksFindings:
    links = Links(4, mbit_s)
    return LinksFindings(
        source="digits",
        network="784-512-512-10 relu",
        num_parameters=NUM_PARAMETERS,
        num_bytes=4 * NUM_PARAMETERS,
        num_examples=60_000,
        num_validation=10_000,
        batch_size=512,
        epochs=8,
        links=links,
        goal=0.2,
        one_host=(find(Way(512, 1), links, one),),
        every_step=find(Way(512, 4), links, one),
        rounds=(find(Way(512, 4, 20, 4), links, rounds),),
        processor="",
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (findings(10), "do not distribute: one host is 11 times faster than the best rounds"),
        (findings(1000), "rounds are 1.8 times faster than one host; they change the numbers"),
        (findings(100_000), "no rounds are needed: 4 hosts that commit every step are 2 times faster than one host"),
        (findings(50, one=NEVER), "no comparison: one host never reached the goal"),
        (findings(50, rounds=NEVER), "no comparison: no rounds ever reached the goal"),
    ],
)
def test_the_fastest_way_decides(found, expected):
    if expected.startswith("no rounds are needed"):
        found = replace(found, rounds=(replace(found.rounds[0], seconds=100.0),))
    assert conclude(found).startswith(expected)
    assert describe(found)["so"] == conclude(found)


def test_one_host_commits_to_nobody():
    assert "commits" not in describe(findings(50))["one host"]
    assert "45 commits" in describe(findings(50))["rounds"]


@pytest.mark.parametrize(("mbit_s", "tile"), [(10, "times slower than one host"), (1000, "times faster than one host")])
def test_the_page_says_faster_or_slower_and_explains_before_it_shows(mbit_s, tile, tmp_path):
    found = findings(mbit_s)
    page = write_links_report(found, tmp_path).read_text()
    assert f"<span>{tile} are the best rounds</span>" in page
    assert f"So here: {conclude(found)}." in page
    assert page.index("means that 4 replicas each take 20 steps apart") < page.index("<td>4 hosts, 4 x 20 steps</td>")
    assert "<td>nothing</td>" in page
