"""From an explanation to the text of a page, and to the file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distbp.errors import ConfigError, StorageError
from distbp.explain.explanation import Explanation
from distbp.explain.page.contents import make_contents
from distbp.installation import need
from distbp.run.storage.opening import open_folder

HERE = Path(__file__).parent
SCRIPTS = ("draw.js", "state.js", "units.js", "example.js", "network.js", "averages.js", "page.js")


def render_page(explanation: Explanation) -> str:
    """Return the page as HTML, everything it needs inside."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    contents = make_contents(explanation)
    page: str = environment.get_template("page.html.j2").render(
        title=contents["title"],
        css=_read("page.css"),
        javascript="\n".join(map(_read, SCRIPTS)),
        data=_encode(contents),
    )
    return page


def choose_page_writer(path: str) -> Callable[[Explanation], None]:
    """Return a function that writes an explanation's page to `path`; a file there is replaced only by a whole page.

    Raises ConfigError for a name that is not that of a page and without jinja2, StorageError if nothing can be
    written there.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {path}: a page is written as .html; did you mean '{target.with_suffix('.html')}'?")
    need("the page of an explanation", "jinja2")
    if target.is_dir():
        raise StorageError(f"cannot write '{path}': it is a folder; name a file in it")
    if not target.parent.is_dir():
        raise StorageError(f"cannot write '{path}': there is no folder '{target.parent}'; create it first")
    folder = open_folder(str(target.parent))
    return lambda explanation: folder.write(target.name, render_page(explanation).encode())


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _encode(contents: dict[str, Any]) -> str:
    """Return JSON that is safe inside a script element: nothing in it can end the element."""
    text = json.dumps(_finite(contents), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value
