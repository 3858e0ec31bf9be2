"""`distbp explain`."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from distbp.cli.options import AsJson, Debug, Run, Step
from distbp.cli.terminal import open_terminal

Example = Annotated[int, Option(metavar="I", help="Which example of the data, counted from 0")]
Data = Annotated[
    str,
    Option(metavar="training|validation|DATA", help="Where the example is from: a part of the run's data, or a path"),
]
Neuron = Annotated[
    str | None,
    Option(metavar="LAYER:J", show_default=False, help="The neuron to raise in three ways. Without: the wanted output"),
]
Out = Annotated[str | None, Option(metavar="FILE.html", show_default=False, help="Write the page to explore it all")]


def explain_command(
    run: Run,
    example: Example = 0,
    out: Out = None,
    data: Data = "training",
    neuron: Neuron = None,
    step: Step = "final",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what backpropagation does: what one example asks of every weight, and how such wishes become a step.

    `--step 0` is the network before training.
    """
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.explain_view import view_explanation
        from distbp.explain import explain_run, parse_neuron
        from distbp.explain.document import make_document
        from distbp.explain.page import choose_page_writer
        from distbp.prediction.trained_run import parse_step

        write = None if out is None else choose_page_writer(out)
        chosen = None if neuron is None else parse_neuron(neuron)
        explanation = explain_run(run, example, step=parse_step(step), data=data, neuron=chosen)
        if write is not None:
            write(explanation)
        terminal.show(*view_explanation(explanation))
        if out is not None:
            terminal.show(f"\nThe page to explore it all: {out}")
        terminal.document({**make_document(explanation), "out": out})
