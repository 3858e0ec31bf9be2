"""CSV and Parquet: columns, types, and what tables that cannot be used say."""

import csv
import gzip
import unicodedata
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from data_files import write_csv, write_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.__main__ import main
from distbp.config import Data
from distbp.data import prepare, read_examples, tables
from distbp.errors import DataError

FLOATS = st.floats(-1e30, 1e30)


def prepare_all(source, **settings):
    """Read a table as version 0.1.0 did: all columns are numbers."""
    return prepare(Data(source=str(source), validation=0.0, scaling="none", columns=None, **settings), seed=0)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(FLOATS, st.integers(-(2**40), 2**40), st.booleans(), FLOATS), min_size=1, max_size=8),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
def test_tables_round_trip(tmp_path, rows, suffix):
    columns = dict(zip(("a", "b", "c", "y"), map(list, zip(*rows, strict=True)), strict=True))
    write = write_csv if suffix == ".csv" else write_parquet
    # A CSV column of floats that all print as 1.0 would still be floats, so the target's type is not in doubt.
    train = prepare_all(write(tmp_path / f"d{suffix}", columns), task="regression").train
    np.testing.assert_array_equal(train.x, np.array([row[:3] for row in rows], float))
    np.testing.assert_array_equal(train.y[:, 0], columns["y"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\n", "is not a CSV file"),
        ("a,y\n", "has columns but no rows"),
        ("a,y\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("a,a,y\n1,2,3\n", "more than one column named 'a'"),
        (",a,y\n0,1,2\n", "column 1 of .* has no name.*index=False"),
        ("a,y\n1,2\n,3\n", "column 'a' of .* is empty in data row 2"),
        ("a,y\n1,2\nNA,3\n", "column 'a' of .* is empty in data row 2"),
        ("a,y\n1,\n2,3\n", "column 'y' of .* is empty in data row 1"),
        ("a,y\n1,up\n2,\n", "column 'y' of .* is empty in data row 2"),
        ("a,y\nred,1\nblue,2\n", "column 'a' of .* such as 'red'; encode it as numbers or drop it"),
        ("a,y\n2020-01-01,1\n2020-01-02,2\n", "column 'a' of .* dates.* such as '2020-01-01'; .* days"),
        ("a,b\n1,2\n", "has no target column, its columns are 'a', 'b'; set target"),
        ("5.1,3.5\n4.9,3.0\n", "is the header line missing"),
        ("label,y,a\n1,2,3\n", "'label', 'y', each of which could be the target"),
        ("a,y\n\xff,1\n2,2\n", "column 'a' of .* is not UTF-8 text"),
        ("y\n1\n", "no column besides the target 'y'"),
        ("a.y\n1;2\n", "has no target column, its columns are 'a.y'"),
        ("a,y\n1,p\n2,q\n?,p\n", r"column 'a' of .* is '\?' in data row 3, which is no number.*1 such cell"),
        ('a,y\n1,p\n"3,693",q\n', "column 'a' of .* is '3,693' in data row 2.*write 3693 without separators"),
        ("a;y\n0,5;p\n0.5;q\n", r"column 'a' of .* is '0,5' in data row 1|is '0\.5' in data row 2"),
        ("a,y\n1,2020-01-01\n2,2020-01-02\n", "target column 'y' of .* dates.*words for classes"),
        ("a,y\n1,1\n2, 1\n3,2\n", "'y' of .* writes one label in different ways, ' 1' and '1'; write them alike"),
        ("a,y\n1,true\n2,True\n3,false\n", "'y' of .* writes one label in different ways, 'True' and 'true'"),
        ("a,y\ninf,1\n2,2\n", "1 values that cannot be used, the first: column 'a' in data row 1 is inf"),
        ("a,y\n1,1e39\n2,2.5\n", r"the first: column 'y' in data row 1 is 1e\+39"),
    ],
)
def test_csv_that_cannot_be_used_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "d.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=sentence):
        prepare_all(path)


def test_missing_target_column_suggests_the_nearest(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"width": [1, 2], "species": ["a", "b"]})
    with pytest.raises(DataError, match=r"no target column 'specie'; did you mean 'species'\?"):
        prepare_all(path, target="specie")


def test_missing_feature_column_is_named(tmp_path):
    schema = prepare_all(write_csv(tmp_path / "d.csv", {"width": [1, 2], "y": ["a", "b"]})).schema
    other = write_csv(tmp_path / "e.csv", {"widht": [1, 2], "y": ["a", "b"]})
    with pytest.raises(DataError, match=r"no feature column 'width'; did you mean 'widht'\?"):
        read_examples(schema, str(other), None, need_targets=True)


def test_several_targets_are_regression(tmp_path):
    columns = {"a": [1, 2], "up": [1, 2], "down": [0.5, 0.25]}
    prepared = prepare_all(write_csv(tmp_path / "d.csv", columns), target=("down", "up"))
    assert prepared.schema.task == "regression"
    assert prepared.schema.target_names == ("down", "up")
    assert prepared.train.y.tolist() == [[0.5, 1], [0.25, 2]]


def test_text_classes_stay_text_where_other_data_looks_like_numbers(tmp_path):
    schema = prepare_all(write_csv(tmp_path / "d.csv", {"a": [1, 2, 3], "y": ["01", "x", "02"]})).schema
    other = write_csv(tmp_path / "e.csv", {"a": [1, 2], "y": ["02", "01"]})
    assert read_examples(schema, str(other), None, need_targets=True).y.tolist() == [1, 0]


def test_parquet_categories_decimals_and_pandas_indices_are_read(tmp_path):
    columns = {
        "price.net": pa.array([Decimal("1.5"), Decimal("2.25")]),
        "size": pa.array(np.array([1.5, 2.5], np.float16)),
        "y": pa.array(["b", "a"]).dictionary_encode(),
        "__index_level_0__": pa.array(["p", "q"]),
    }
    prepared = prepare_all(write_parquet(tmp_path / "d.parquet", columns))
    assert prepared.schema.feature_names == ("price.net", "size")
    assert prepared.train.x.tolist() == [[1.5, 1.5], [2.25, 2.5]]
    assert prepared.train.y.tolist() == [1, 0]


def test_parquet_column_of_lists_is_refused(tmp_path):
    path = write_parquet(tmp_path / "d.parquet", {"a": [[1], [2]], "y": [0.5, 1.5]})
    with pytest.raises(DataError, match=r"feature column 'a' of .* holds list"):
        prepare_all(path)


def prepare_table(path, text, **settings):
    path.write_text(text)
    return prepare_all(path, **settings)


def test_labels_with_leading_zeros_stay_what_they_are(tmp_path):
    rows = [f'{i},"{label}"' for i, label in enumerate(["01", "1", "007", "7"] * 3)]
    schema = prepare_table(tmp_path / "d.csv", "\n".join(["a,y", *rows]) + "\n").schema
    assert schema.classes == ("007", "01", "1", "7")
    other = tmp_path / "e.csv"
    other.write_text("a,y\n1,7\n2,007\n3,1\n")
    assert read_examples(schema, str(other), None, need_targets=True).y.tolist() == [3, 0, 2]


@pytest.mark.parametrize(("labels", "task"), [(("1.0", "1"), "classification"), (("1e2", "100"), "classification")])
def test_one_number_written_in_two_ways_is_no_class_by_accident(tmp_path, labels, task):
    text = "a,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate([*labels, "2", *labels, "2"]))
    with pytest.raises(DataError, match="writes one label in different ways"):
        prepare_table(tmp_path / "d.csv", text, task=task)
    assert prepare_table(tmp_path / "d.csv", text, task="regression").schema.task == "regression"


def test_labels_that_are_plain_numbers_stay_numbers(tmp_path):
    assert prepare_table(tmp_path / "d.csv", "a,y\n1,0\n2,10\n3,9\n4,-1\n").schema.classes == (-1, 0, 9, 10)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".TSV"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_separates_the_cells_is_found(tmp_path, suffix, delimiter):
    lines = [["wi,dth", "y"], ["0.5", "p"], ["1e3", "q"], ["-2", "p"]]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines).encode()
    path = tmp_path / f"d{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    prepared = prepare_all(path)
    assert prepared.schema.feature_names == ("wi,dth",)
    assert prepared.train.x.tolist() == [[0.5], [1000], [-2]]
    assert prepared.schema.classes == ("p", "q")


def test_decimal_commas_are_read_where_semicolons_separate(tmp_path):
    prepared = prepare_table(tmp_path / "d.csv", "a;b;y\n0,5;1;p\n1,25;2;q\n")
    assert prepared.train.x.tolist() == [[0.5, 1], [1.25, 2]]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_with_a_mark_is_read_in_its_encoding(tmp_path, encoding):
    path = tmp_path / "d.csv"
    path.write_text("größe,y\n1,Käse\n2,Öl\n", encoding=encoding)
    schema = prepare_all(path).schema
    assert (schema.feature_names, schema.classes) == (("größe",), ("Käse", "Öl"))


def test_wide_characters_without_a_mark_are_one_sentence(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a,y\n1,p\n2,q\n", encoding="utf-16-le")
    with pytest.raises(DataError, match=r"is no text in UTF-8.*save it as UTF-8"):
        prepare_all(path)


def test_column_names_are_the_same_however_their_accents_are_composed(tmp_path):
    names = [unicodedata.normalize(form, "größe,ziel") for form in ("NFC", "NFD")]
    schema = prepare_table(tmp_path / "d.csv", f"{names[0]}\n1,p\n2,q\n", target="ziel").schema
    other = tmp_path / "e.csv"
    other.write_text(f"{names[1]}\n2,q\n1,p\n")
    assert read_examples(schema, str(other), "ziel", need_targets=True).y.tolist() == [1, 0]
    assert prepare_table(tmp_path / "f.csv", f"{names[1]}\n1,01\n2,q\n", target="ziel").schema.classes == ("01", "q")


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_text_of_parquet_is_text_in_whatever_layout(tmp_path, kind):
    path = write_parquet(tmp_path / "d.parquet", {"a": [1, 2], "y": pa.array(["p", "q"]).cast(kind)})
    assert prepare_all(path).schema.classes == ("p", "q")


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_end_as_on_any_system(tmp_path, end):
    schema = prepare_table(tmp_path / "d.csv", end.join(["a,b,y", "1,2,p", "3,4,q", ""])).schema
    assert (schema.num_inputs, schema.classes) == (2, ("p", "q"))


def test_a_first_line_without_an_end_is_one_sentence(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a" * 200_000)
    with pytest.raises(DataError, match="is no row of column names: field larger than field limit"):
        prepare_all(path)


NOTE = st.text(alphabet='ab ,";\n', max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(notes=st.lists(NOTE, min_size=1, max_size=30), block_bytes=st.integers(16, 200))
def test_a_large_csv_is_read_as_a_small_one(tmp_path, notes, block_bytes):
    """Line breaks in quotes, doubled quotes and long cells, wherever the blocks are cut."""
    path = tmp_path / "d.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "y"), *((i, note + "x") for i, note in enumerate(notes)), (0, "o"), (1, "o")])
    whole = prepare_all(path, task="classification")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CSV_BLOCK_BYTES", block_bytes)
        cut = prepare_all(path, task="classification")
    assert cut.schema.classes == whole.schema.classes == tuple(sorted({*(note + "x" for note in notes), "o"}))
    np.testing.assert_array_equal(cut.train.x, whole.train.x)
    np.testing.assert_array_equal(cut.train.y, whole.train.y)


def test_a_table_that_cannot_be_shown_tells_its_own_problem_and_not_that_of_blocks(tmp_path, capfd):
    path = tmp_path / "t.csv"
    path.write_text(",colour,animal\n0,red,a\n1,blue,b\n")  # an index without a name, which blocks do not take
    assert main(["data", "show", str(path)]) == 3
    assert "has no target column, its columns are" in capfd.readouterr().err
    assert main(["data", "show", str(path), "--target", "z"]) == 3
    assert "has no target column 'z'" in capfd.readouterr().err
