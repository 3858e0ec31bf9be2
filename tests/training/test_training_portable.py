"""placement.portable: the command line begins again with the kernels, Python is told what to type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import environment_without, run_distbp

from distbp.errors import ConfigError
from distbp.nn.kernels import CORETYPE, DISABLED, is_portable, portable_variables

pytestmark = pytest.mark.slow


@pytest.fixture
def variables() -> dict[str, str]:
    try:
        return portable_variables()
    except ConfigError as error:
        pytest.skip(str(error))


def run_train(folder: Path, name: str, *options: str, **variables: str) -> dict:
    argv = ["train", "--set", "recipe.epochs=2", "--storage", str(folder), "--name", name, "--json", *options]
    done = run_distbp(*argv, env=environment_without(CORETYPE, DISABLED) | variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_line_takes_the_portable_kernels_by_itself(tmp_path, variables):
    by_itself = run_train(tmp_path, "switch", "--set", "placement.portable=true")
    by_hand = run_train(tmp_path, "hand", **variables)
    assert by_itself["digest"] == by_hand["digest"]
    numerics = [json.loads((tmp_path / name / "numerics.json").read_text()) for name in ("switch", "hand")]
    assert numerics[0] == numerics[1]
    assert numerics[0]["blas"][0]["architecture"] == "Haswell"


def test_python_is_told_what_to_type_and_no_run_begins(tmp_path, variables, train_toy):
    if is_portable():
        pytest.skip("this process is portable")
    with pytest.raises(ConfigError, match=rf"placement\.portable=true needs .* env {CORETYPE}={variables[CORETYPE]} "):
        train_toy(portable=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("variables")
def test_ray_gives_the_portable_bytes_of_one_process(tmp_path):
    portable = ["--set", "placement.portable=true"]
    local = run_train(tmp_path, "local", *portable)
    on_ray = run_train(tmp_path, "ray", "--backend", "ray", *portable)
    assert on_ray["digest"] == local["digest"]
