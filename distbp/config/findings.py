"""Pydantic's findings as sentences in distbp's words."""

from __future__ import annotations

import re
from typing import Any, get_args

import pydantic
from pydantic import BaseModel

from distbp.config.config import Config, find_fields
from distbp.text.sentences import suggest

MAX_SHOWN = 200  # characters of a text that may be of any length


def describe_validation_error(error: pydantic.ValidationError, model: type[BaseModel], origin: str) -> str:
    """Return pydantic's findings as sentences in distbp's words; unknown keys come with the nearest known one."""
    places: dict[str, list[Any]] = {}
    for finding in error.errors(include_url=False):
        where = [part for part in _path_of(finding) if not part.isdigit()]  # all of a list's elements are one place
        places.setdefault(".".join(where), []).append(finding)
    sentences = list(dict.fromkeys(_describe_place(findings, model) for findings in places.values()))
    more = f" (and {len(sentences) - 3} more)" if len(sentences) > 3 else ""
    return f"{origin}: " + "; ".join(sentences[:3]) + more


def _describe_place(findings: list[Any], model: type[BaseModel]) -> str:
    """Return one sentence for all findings about one value, of which a union of types has one for each type."""
    deepest = max(findings, key=lambda finding: len(_path_of(finding)))  # an element of a list, if there are such
    findings = [finding for finding in findings if _path_of(finding) == _path_of(deepest)]
    by_value = [finding for finding in findings if finding["type"] not in _EXPECTED]
    if by_value:
        return _describe(by_value[0], model)
    others = [_EXPECTED[finding["type"]] for finding in findings[1:]]
    return " or ".join([_describe(findings[0], model), *dict.fromkeys(others)])


def _path_of(finding: Any) -> list[str]:
    return [str(part) for part in finding["loc"] if str(part) not in _UNION_BRANCHES]


def _describe(finding: Any, model: type[BaseModel]) -> str:
    path = _path_of(finding)
    name = ".".join(path) or "the top level"
    kind, value = finding["type"], finding.get("input")
    context = finding.get("ctx", {})
    if kind == "extra_forbidden":
        return _describe_unknown_key(path, model)
    if kind == "value_error":
        reason = str(context["error"])
        return f"{name}: {reason}" if path and path[0] in Config.model_fields and len(path) > 1 else reason
    if kind == "literal_error":
        return f"{name}={value!r} is not one of {context['expected']}" + suggest(value, _quoted(context["expected"]))
    if kind in _BOUNDS:
        return f"{name}={value!r} must be {_BOUNDS[kind].format(*context.values())}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{name}={value!r}: {finding['msg'][0].lower()}{finding['msg'][1:]}"
    return f"{name} is {name_kind(value)}{_show(value)}; expected {expected}"


_BOUNDS = {
    "greater_than": "greater than {}",
    "greater_than_equal": "at least {}",
    "less_than": "less than {}",
    "less_than_equal": "at most {}",
    "finite_number": "a finite number",
}


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "too_long": "two whole numbers",
    "missing": "two whole numbers",
    "dict_type": "keys with values",
    "model_type": "a section with keys",
    "model_attributes_type": "a section with keys",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text like my_module:build",
}


_UNION_BRANCHES = {
    "str",
    "float",
    "constrained-float",
    "constrained-int",
    "tuple[str, ...]",
    "tuple[constrained-int, ...]",
    "tuple[constrained-int, constrained-int]",
    "literal['auto']",
}


def _describe_unknown_key(path: list[str], model: type[BaseModel]) -> str:
    known = _fields_at(path[:-1], model)
    section = ".".join(path[:-1]) or "the top level"
    elsewhere = find_fields(path[-1])
    hint = f"; did you mean '{elsewhere[0]}'?" if elsewhere else suggest(path[-1], known)
    return f"unknown key '{path[-1]}' in {section}" + (hint or f"; known: {', '.join(known)}")


def _fields_at(path: list[str], model: type[BaseModel]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def name_kind(value: object) -> str:
    """Return what kind of value it is, in words of people who write YAML."""
    names = {
        bool: "true/false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a section",
    }
    return "empty" if value is None else names.get(type(value), type(value).__name__)


def _show(value: object) -> str:
    return f" ({value!r})"[:60] if isinstance(value, bool | int | float | str | list) else ""
