"""From findings to a folder that can be passed on: report.html, plots, CSV and JSON. Nothing is measured here."""
