"""The explanation as one HTML page that needs nothing else: no network, no framework, no server."""

from distbp.explain.page.render import choose_page_writer, render_page

__all__ = ["choose_page_writer", "render_page"]
