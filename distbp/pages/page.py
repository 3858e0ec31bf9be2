"""Writes a page from a template: self-contained, for any screen and for paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distbp.machine.aside import replace_file
from distbp.pages import words
from distbp.pages.drawing import Plot

if TYPE_CHECKING:
    from markupsafe import Markup


def write_page(path: Path, template: str, values: Mapping[str, Any], plots: list[Plot]) -> None:
    """Render `template` with `values` and the plots by name, and write it whole or not at all."""
    text = render_page(template, values, plots)
    with replace_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def render_page(template: str, values: Mapping[str, Any], plots: Sequence[Plot] = ()) -> str:
    """Return the text of a page from `template` with `values` and the plots by name.

    template: its path inside the package, such as report/runs.html.j2.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distbp", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number, count=words.count, duration=words.duration, percent=words.percent, times=words.times
    )
    figures = {plot.name: _figure(plot) for plot in plots}
    return environment.get_template(template).render({**values, "figures": figures})


def _figure(plot: Plot) -> Markup:
    from markupsafe import Markup

    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(Markup(plot.inline_svg), plot.caption)
