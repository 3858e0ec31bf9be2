"""The schema survives JSON, and damaged JSON is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from data_files import KINDS, write_source
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.config import Data
from distbp.data import Schema, prepare
from distbp.errors import DataError
from distbp.protocol.examples import Scaling

SCHEMA = Schema("csv", 2, (2,), ("a", "b"), ("y",), "classification", (False, True), 2, Scaling())
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("kind", KINDS)
def test_schema_survives_json(kind, tmp_path):
    schema = prepare(Data(source=str(write_source(kind, tmp_path))), seed=0).schema
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())), schema.scaling)
    assert again == schema
    assert "scaling" not in schema.to_json()


@pytest.mark.parametrize("classes", [(False, True), (0, 1), ("0", "1")])
def test_labels_keep_their_type(classes):
    schema = replace(SCHEMA, classes=classes)
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())), Scaling())
    assert [(type(label), label) for label in again.classes] == [(type(label), label) for label in classes]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(SCHEMA.to_json())), value=JSON_VALUES)
def test_any_changed_field_gives_a_schema_or_a_data_error(name, value):
    try:
        schema = Schema.from_json({**SCHEMA.to_json(), name: value}, Scaling())
    except DataError:
        return
    assert schema.num_inputs == 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "the schema"),
        ({}, "source_kind"),
        ({**SCHEMA.to_json(), "num_inputs": 3}, "num_inputs=3"),
        ({**SCHEMA.to_json(), "feature_names": ["a"]}, "1 feature_names"),
        ({**SCHEMA.to_json(), "classes": None}, "task=classification"),
        ({**SCHEMA.to_json(), "classes": [1, 1]}, "1 classes for num_outputs=2"),
    ],
)
def test_garbage_is_one_sentence(values, sentence):
    with pytest.raises(DataError, match=sentence):
        Schema.from_json(values, Scaling())


def test_what_another_version_says_beyond_it_is_ignored():
    assert Schema.from_json({**SCHEMA.to_json(), "more": 1}, Scaling()) == SCHEMA


@pytest.mark.parametrize("scaling", [Scaling(np.zeros(3), np.ones(3)), Scaling(np.zeros(2), None)])
def test_scaling_of_other_inputs_is_refused(scaling):
    with pytest.raises(DataError, match="scaling"):
        Schema.from_json(SCHEMA.to_json(), scaling)
