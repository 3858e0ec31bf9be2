"""`distbp train`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from typer import Option

from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import open_terminal

Backend = Annotated[
    str | None, Option(metavar="local|ray", show_default=False, help="Threads in this process, or Ray actors")
]
Workers = Annotated[str | None, Option(metavar="N|N:M", show_default=False, help="Workers that compute gradients")]
Name = Annotated[
    str | None,
    Option(metavar="NAME", show_default=False, help="Name of the run. Without: made from the data and the recipe"),
]
Storage = Annotated[
    str | None, Option(metavar="URL", show_default=False, help="Where runs are kept: a path or any fsspec URL")
]
Resume = Annotated[
    Literal["auto", "never", "must"],
    Option(help="Continue an unfinished run of this recipe if there is one, never, or fail if there is none"),
]
TensorBoard = Annotated[
    str | None,
    Option(metavar="DIR", show_default=False, help=r"Write TensorBoard files to DIR/NAME; needs distbp\[tensorboard]"),
]

Mlflow = Annotated[
    str | None,
    Option(
        "--mlflow", metavar="URI", show_default=False, help=r"Log the run to an MLflow server; needs distbp\[mlflow]"
    ),
]


def train(
    context: typer.Context,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    backend: Backend = None,
    workers: Workers = None,
    name: Name = None,
    storage: Storage = None,
    resume: Resume = "auto",
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a network, by default a small one on the digits that ship with distbp, in a few seconds.

    Ctrl-C or SIGTERM: the step under way is finished, a checkpoint written, and the same command resumes.
    """
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.next_steps import format_next_steps, format_resume_command
        from distbp.cli.observers import track_run, watch_run
        from distbp.cli.tables import format_result
        from distbp.errors import InterruptedRunError
        from distbp.installation import describe_version
        from distbp.training import train as train_run

        placement = {"backend": backend, "workers": workers, "storage": storage}
        config = load_config_for_run(config_file, [*(overrides or []), *override_placement(placement)])
        if config.placement.backend == "ray":  # on a cluster it need not be the version that is installed there
            terminal.note(describe_version())
        try:
            with track_run(mlflow, config) as tracking:
                with watch_run(terminal.notes, config.placement.backend == "ray", tensorboard, tracking) as observe:
                    result = train_run(config.recipe, config.placement, name=name, resume=resume, observe=observe)
                if tracking is not None:
                    tracking.conclude(result)
        except InterruptedRunError as stop:
            raise type(stop)(f"{stop}: {format_resume_command(context.obj)}") from None
        terminal.show(format_result(result))
        if not as_json:
            terminal.show(format_next_steps(result, config.recipe.data.source, context.obj))
        terminal.document(asdict(result))


def override_placement(values: dict[str, str | None]) -> Iterator[str]:
    """Yield the options that were given as overrides of the placement."""
    for key, value in values.items():
        if value is not None:
            is_number = key == "workers"
            yield f"placement.{key}={value if is_number else json.dumps(value, ensure_ascii=False)}"
