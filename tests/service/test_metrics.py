"""A real Prometheus scrapes a real job, and every query of the Grafana dashboard has an answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from lifeline import ending_with_the_tests
from ray_head import find_free_port
from waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
RUN = "measured"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: prometheus)"),
]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str):
        self._address = address

    def ask(self, query: str) -> list[dict]:
        """Return what a query gives now."""
        url = f"{self._address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def value(self, query: str) -> float | None:
        """Return the one number that a query gives, None if it gives nothing."""
        found = self.ask(query)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def is_up(self) -> bool:
        try:
            return self.ask("1") != []
        except OSError:
            return False


@pytest.fixture(scope="module")
def prometheus(service, tmp_path_factory):
    """Reads deploy/prometheus.yaml, but for the place of the file in which Ray lists the nodes, and faster."""
    folder, port = tmp_path_factory.mktemp("prometheus"), find_free_port()
    config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    config["global"]["scrape_interval"] = "1s"
    [job] = config["scrape_configs"]
    [source] = job["file_sd_configs"]
    name = Path(source["files"][0]).name
    source["files"] = [str(service.temp_dir / "ray" / name)]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    argv = ["prometheus", f"--config.file={folder}/config.yaml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*argv, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    with ending_with_the_tests(process):
        try:
            found = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(found.is_up, 30)
            yield found
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def scraped(service, prometheus, tmp_path_factory):
    """A job that lasted long enough to be scraped; yields its result."""
    storage = tmp_path_factory.mktemp("runs")
    argv = ["--storage", storage, "--name", RUN, "--address", service.address]
    done = service.distbp("submit", "--set", "epochs=1500", *argv)
    assert done.code == 0, done
    wait_until(lambda: (prometheus.value(f'sum(ray_distbp_steps_total{{run="{RUN}"}})') or 0) > 100)
    wait_until(lambda: prometheus.ask(f'rate(ray_distbp_steps_total{{run="{RUN}"}}[10s]) > 0'))
    yield
    service.distbp("stop", RUN, "--wait", "--address", service.address)


@pytest.fixture
def fill_in():
    """Returns a dashboard's query as Grafana sends it."""

    def call(query: str) -> str:
        return query.replace("$run", ".*").replace("$__rate_interval", "15s")

    return call


def list_queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.usefixtures("scraped")
@pytest.mark.parametrize("query", list_queries())
def test_query_of_the_dashboard_has_an_answer(query, prometheus, fill_in):
    assert prometheus.ask(fill_in(query)), query


@pytest.mark.usefixtures("scraped")
def test_numbers_are_those_of_the_run(prometheus):
    tags = f'{{run="{RUN}"}}'
    steps, step = prometheus.value(f"ray_distbp_steps_total{tags}"), prometheus.value(f"ray_distbp_step{tags}")
    assert steps == pytest.approx(step, rel=0.5)
    assert prometheus.value(f"ray_distbp_planned_steps{tags}") == 1500 * 23
    assert prometheus.value(f"ray_distbp_workers{tags}") == 2
    assert 0.9 < prometheus.value(f"ray_distbp_validation_accuracy{tags}") <= 1
    assert 0 < prometheus.value(f"ray_distbp_goodput{tags}") <= 1
    assert prometheus.value(f"ray_distbp_workers_lost{tags}") == 0
    phases = {one["metric"]["phase"] for one in prometheus.ask(f"ray_distbp_step_seconds_total{tags}")}
    assert phases == {"compute", "transfer", "commit"}
