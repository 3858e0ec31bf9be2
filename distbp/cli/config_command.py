"""`distbp config`."""

from __future__ import annotations

from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import open_terminal


def config(
    config_file: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Print the configuration with every default filled in and every field explained, as YAML to start from.

    What the data choose where nobody has set it, epochs and weight_decay, is a comment until it is set.
    """
    with open_terminal(as_json, debug) as terminal:
        from distbp.config import describe_config, load_config, to_values

        resolved = load_config(config_file, overrides or [])
        if not as_json:
            terminal.show(describe_config(resolved))
        terminal.document(to_values(resolved))
