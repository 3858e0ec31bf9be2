"""What every page that distbp writes shares: drawing, tables, words and the base template."""
