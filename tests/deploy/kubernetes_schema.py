"""Validates Kubernetes objects against a CustomResourceDefinition as strictly as `kubectl apply --validate=strict`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

ANY_OBJECT = {"type": "object"}  # metadata is Kubernetes' own
API_FIELDS = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": ANY_OBJECT}


def find_errors(crd: Path, values: dict[str, Any]) -> list[str]:
    """Return a sentence for everything in `values` that the CRD does not allow, unknown fields included."""
    definition = _read(crd)
    version = values["apiVersion"].rpartition("/")[2]
    [schema] = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == version]
    strict = _make_strict(schema)
    strict["properties"].update(API_FIELDS)
    found = Draft7Validator(strict).iter_errors(values)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@functools.cache
def _read(crd: Path) -> Any:
    """Return a CRD; with the loader in C, because they are 800 KB and more."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(crd.read_text(), Loader=loader)


def _make_strict(schema: Any) -> Any:
    """Return JSON Schema for OpenAPI's: null where nullable, numbers or text where both are meant, nothing unknown."""
    if isinstance(schema, list):
        return [_make_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _make_strict(value) for key, value in schema.items() if not str(key).startswith("x-kubernetes")}
    if isinstance(schema.get("properties"), dict):
        strict["properties"] = {key: _make_strict(value) for key, value in schema["properties"].items()}
    keeps_unknown = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if schema.get("type") == "object" and "properties" in schema and not keeps_unknown:
        strict.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        strict["type"] = [schema["type"], "null"]
    return strict
