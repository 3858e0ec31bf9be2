"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

ConfigFile = Annotated[
    str | None,
    Argument(metavar="CONFIG", show_default=False, help="YAML file with recipe: and placement:. Without: the digits"),
]
Overrides = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", show_default=False, help="Override one field, such as epochs=5. Repeatable"),
]
Run = Annotated[str, Argument(metavar="RUN", show_default=False, help="A run's directory, such as runs/digits-1f3c")]
Step = Annotated[
    str, Option(metavar="final|best|N", help="Which checkpoint: the final one, the best, or that after N steps")
]
AsJson = Annotated[bool, Option("--json", help="Print exactly one JSON document on stdout, the rest on stderr")]
Debug = Annotated[bool, Option("--debug", help="Show warnings, and where an error came from")]
