"""distbp: data-parallel SGD on Ray whose result does not depend on where it ran."""
