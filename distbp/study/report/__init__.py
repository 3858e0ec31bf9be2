"""From findings to a folder that can be handed on: report.html, plots, CSV and JSON. Measures nothing."""
