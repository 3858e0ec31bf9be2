"""`distbp list STORAGE`."""

from distbp.config import load_config
from distbp.run import RunDirectory
from distbp.service.storage import list_stored_runs
from distbp.training import train


def test_storage_lists_finished_and_unfinished_runs(tmp_path):
    config = load_config(None, ["epochs=1", f"placement.storage={tmp_path}"])
    result = train(config.recipe, config.placement, name="done")
    RunDirectory.create(str(tmp_path), "begun", config, {})
    begun, done = list_stored_runs(str(tmp_path))
    assert (begun.state, begun.steps, begun.digest) == ("STOPPED", 0, None)
    assert (done.state, done.digest, done.steps) == ("SUCCEEDED", result.digest, result.steps)
