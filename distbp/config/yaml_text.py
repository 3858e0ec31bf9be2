"""YAML as people write it: the core schema of YAML 1.2, plain values only."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_VALUES = 100_000  # with every alias written out: nine lines of YAML can stand for a thousand million


def parse_yaml(text: str | bytes, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Return the values that YAML stands for: plain ones, never objects. loader: None for YAML that people write.

    Raises yaml.YAMLError, ValueError or RecursionError for text that is none, repeats a key, or is endless.
    """
    try:
        values = yaml.load(text, Loader=loader or _Loader)
    except (AttributeError, LookupError, TypeError):  # what PyYAML raises for `!!bool x` and `!!timestamp x`
        raise ValueError("a tag such as !!bool does not fit its value; leave the tag out") from None
    num_values = _count_values(values, {})
    if num_values > MAX_VALUES:
        raise ValueError(f"it stands for more than {MAX_VALUES:,} values; use fewer aliases")
    return values


def dump_yaml(values: Any, default_flow_style: bool = False) -> str:
    """Return plain values as YAML that any reader of YAML 1.1 or 1.2 reads back as the same."""
    return yaml.dump(
        values,
        Dumper=_Dumper,
        default_flow_style=default_flow_style,
        sort_keys=False,
        allow_unicode=True,
        width=math.inf,
    )


def _count_values(value: object, counted: dict[int, int]) -> int:
    """Return how many values there are when every alias is written out. counted: by identity, 0 while under way."""
    if not isinstance(value, dict | list):
        return 1
    if counted.get(id(value)) == 0:
        raise ValueError("an alias stands for what it is part of")
    if id(value) not in counted:
        counted[id(value)] = 0
        inner = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count_values(child, counted) for child in inner)
    return counted[id(value)]


class _Loader(yaml.SafeLoader):
    """SafeLoader for the core schema of YAML 1.2, plus `<<`, that refuses a key given twice.

    So 010 is ten, 1e3 a number, and no, on, 1:30 and 1_000 are text, as they look; YAML 1.1 makes other values of them.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Return the number that an integer's digits stand for."""
        text = self.construct_scalar(node)
        bases = {"0o": 8, "0x": 16}
        return int(text[2:], bases[text[:2]]) if text[:2] in bases else int(text)


class _Dumper(yaml.SafeDumper):
    """SafeDumper whose text reads back as text by YAML 1.1 and 1.2, on one line."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return the node of a text, quoted where it has a line break or anything else that does not show."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)


_Dumper.add_representer(str, _Dumper.represent_text)


for _kind, _pattern, _first in (  # YAML 1.2.2, section 10.3.2
    ("null", r"^(?:null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
    ("merge", r"^<<$", ["<"]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)
