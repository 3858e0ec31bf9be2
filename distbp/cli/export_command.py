"""`distbp export`."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from distbp.cli.options import AsJson, Debug, Run, Step
from distbp.cli.terminal import open_terminal

To = Annotated[str, Option(metavar="FORMAT", show_default=False, help="onnx, safetensors, or config")]
Out = Annotated[str, Option(metavar="FILE", show_default=False, help="Where to write")]


def export(run: Run, to: To, out: Out, step: Step = "final", as_json: AsJson = False, debug: Debug = False) -> None:
    """Write a trained network for other programs: an ONNX graph, its parameters, or the configuration it came from."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.export import export_run
        from distbp.prediction.trained_run import load_run, parse_step

        trained = load_run(run, parse_step(step))
        num_bytes = export_run(trained, to, out)
        terminal.show(f"{out}: {num_bytes:,} bytes, digest {trained.digest}")
        terminal.document(
            {"run": run, "step": trained.step, "digest": trained.digest, "to": to, "out": out, "num_bytes": num_bytes}
        )
