import json
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from distbp.config import Data
from distbp.data import prepare
from distbp.data.blocks.csv_blocks import CsvBlocks
from distbp.data.blocks.decoding import Decoder
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.files import list_files
from distbp.data.blocks.look import Look, Question, look_at
from distbp.data.blocks.parquet_blocks import find_partitions
from distbp.data.blocks.parts import Contents
from distbp.errors import DataError

pytestmark = pytest.mark.slow

NUM_ROWS = 300


def make_table(num_rows: int = NUM_ROWS, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "a": rng.normal(5, 2, num_rows).astype(np.float32),
            "b": rng.integers(-100, 300, num_rows),
            "y": np.array(["red", "green", "blue"])[rng.integers(0, 3, num_rows)],
        }
    )


def write_folder(folder: Path, num_files: int = 3, group: int = 70) -> Path:
    folder.mkdir(exist_ok=True)
    for number, table in enumerate(make_table(seed=number) for number in range(num_files)):
        parquet.write_table(table, folder / f"part-{number}.parquet", row_group_size=group)
    return folder


def read_all(look: Look) -> np.ndarray:
    decoder = Decoder(look.contents, Fetcher())
    return np.concatenate([decoder.decode(facts.block).x for facts in look.blocks])


def assert_fails(source: object, *parts: object, question: Question | None = None) -> None:
    with pytest.raises(DataError) as caught:
        look_at(question or Question(str(source)))
    for part in parts:
        assert str(part) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_parquet_is_its_row_groups_in_order_of_names(tmp_path):
    look = look_at(Question(str(write_folder(tmp_path / "d"))))
    assert [facts.num_rows for facts in look.blocks] == [70, 70, 70, 70, 20] * 3
    assert [facts.block.first_row for facts in look.blocks[:5]] == [0, 70, 140, 210, 280]
    assert look.contents.features == ("a", "b")
    assert dict(look.classes) == {
        label: sum(make_table(seed=seed)["y"].to_pylist().count(label) for seed in range(3))
        for label in ("blue", "green", "red")
    }
    whole = np.concatenate([np.column_stack([make_table(seed=s)[c] for c in "ab"]) for s in range(3)])
    assert np.array_equal(read_all(look), whole)


def test_statistics_agree_with_those_of_the_whole_array(tmp_path):
    look = look_at(Question(str(write_folder(tmp_path / "d"))))
    whole = read_all(look).astype(np.float64)
    assert np.allclose(look.statistics.mean, whole.mean(0), rtol=1e-12)
    assert np.allclose(np.sqrt(np.array(look.statistics.squares) / len(whole)), whole.std(0), rtol=1e-12)
    assert np.array_equal(look.statistics.low, whole.min(0))
    assert np.array_equal(look.statistics.high, whole.max(0))


def test_one_block_gives_the_scaling_and_classes_of_the_file_read_whole(tmp_path):
    path = tmp_path / "one.parquet"
    parquet.write_table(make_table(), path)
    look = look_at(Question(str(path)))
    for kind in ("min-max", "standard", "none"):
        whole = prepare(Data(source=str(path), validation=0.0, scaling=kind), 0)
        scaling = look.statistics.to_scaling(kind)
        for found, expected in zip(
            (scaling.shift, scaling.scale), (whole.train.scaling.shift, whole.train.scaling.scale), strict=True
        ):
            assert np.array_equal(found, expected) if expected is not None else found is None
        assert look.spec.classes == whole.schema.classes


def backwards(function, items) -> Iterator:
    items = list(items)
    done = {number: function(items[number]) for number in reversed(range(len(items)))}
    return (done[number] for number in range(len(items)))


def through_pickle(function, items) -> Iterator:
    with ThreadPoolExecutor(7) as pool:
        yield from pool.map(lambda item: pickle.loads(pickle.dumps(function))(item), list(items))


def test_a_look_has_the_same_bits_whoever_looks_and_in_which_order(tmp_path):
    question = Question(str(write_folder(tmp_path / "d")), held_out=0.2, seed=3)
    looks = [look_at(question, mapper=mapper) for mapper in (None, map, backwards, through_pickle)]
    assert all(look == looks[0] for look in looks)
    assert len({look.fingerprint() for look in looks}) == 1


def test_a_stored_look_is_used_while_the_files_stay_and_is_equal_to_the_bit(tmp_path):
    folder, store = write_folder(tmp_path / "d"), tmp_path / "store"
    question = Question(str(folder))

    def refuse(*_):
        raise AssertionError("looked again")

    first = look_at(question, store=store)
    assert look_at(question, mapper=refuse, store=store) == first
    (path,) = store.iterdir()
    path.write_text(path.read_text()[:-40])
    assert look_at(question, store=store) == first  # a damaged one is made again
    parquet.write_table(make_table(10, 9), folder / "part-1.parquet")
    assert look_at(question, store=store).num_rows == first.num_rows - NUM_ROWS + 10


def test_the_stored_look_says_what_the_data_are_in_plain_json(tmp_path):
    look_at(Question(str(write_folder(tmp_path / "d"))), store=tmp_path / "store")
    (path,) = (tmp_path / "store").iterdir()
    stored = json.loads(path.read_text())
    assert stored["task"] == "classification"
    assert len(stored["blocks"]) == 15


def test_the_fingerprint_is_the_data_s_and_not_their_place_s(tmp_path):
    looks = [look_at(Question(str(write_folder(tmp_path / name)))) for name in ("one", "two")]
    assert looks[0].fingerprint() == looks[1].fingerprint()
    parquet.write_table(make_table(NUM_ROWS, 9), tmp_path / "two" / "part-1.parquet", row_group_size=70)
    assert look_at(Question(str(tmp_path / "two"))).fingerprint() != looks[0].fingerprint()


def test_the_fingerprint_knows_every_label(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    y = [0, 1] * 50
    for name, labels in (("one", y), ("two", y[::-1])):
        parquet.write_table(pa.table({"a": np.arange(100.0), "y": labels}), tmp_path / name / "p.parquet")
    one, two = (look_at(Question(str(tmp_path / name))) for name in ("one", "two"))
    assert one.classes == two.classes
    assert one.fingerprint() != two.fingerprint()


def test_csv_labels_such_as_01_stay_text_in_all_blocks(tmp_path):
    (tmp_path / "1.csv").write_text("a,y\n1,7\n2,8\n")
    (tmp_path / "2.csv").write_text("a,y\n3,07\n")
    assert look_at(Question(str(tmp_path))).classes == (("07", 1), ("7", 1), ("8", 1))


@pytest.mark.parametrize(
    ("cells", "labels"),
    [("1 2 2", (1, 2)), ("no yes no", ("no", "yes")), ("true false true", (False, True)), ("NA x x", ("NA", "x"))],
)
def test_csv_labels_are_numbers_only_where_all_are(tmp_path, cells, labels):
    rows = [f"{number},{cell}" for number, cell in enumerate(cells.split())]
    (tmp_path / "t.csv").write_text("\n".join(["a,y", *rows]))
    assert look_at(Question(str(tmp_path / "t.csv"))).spec.classes == labels


def test_an_empty_csv_target_is_named_with_its_row(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,0\n2,1\n3,\n")
    assert_fails(tmp_path / "t.csv", "column 'y'", "data row 3")


def test_csv_with_semicolons_or_a_mark_is_read_and_utf_16_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa;y\n1.5;0\n2;1\n")
    assert look_at(Question(str(tmp_path / "t.csv"))).contents.features == ("a",)
    (tmp_path / "t.csv").write_bytes("a,y\n1,0\n".encode("utf-16"))
    assert_fails(tmp_path / "t.csv", "t.csv", "utf-16", "UTF-8")


def test_held_out_rows_do_not_enter_the_statistics(tmp_path):
    look = look_at(Question(str(write_folder(tmp_path / "d")), held_out=0.5))
    num_held_out = sum(facts.num_held_out for facts in look.blocks)
    assert look.statistics.count == look.num_rows - num_held_out
    assert 0.4 < num_held_out / look.num_rows < 0.6


def test_globs_single_files_and_urls_are_sources(tmp_path):
    folder = write_folder(tmp_path / "d")
    assert len(look_at(Question(f"{folder}/part-[01].parquet")).contents.listing.files) == 2
    assert look_at(Question(f"file://{folder}/part-2.parquet")).num_rows == NUM_ROWS
    memory = fsspec.filesystem("memory")
    try:
        for path in folder.iterdir():
            memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
        assert look_at(Question("memory://bucket")).fingerprint() == look_at(Question(str(folder))).fingerprint()
        assert look_at(Question("memory://bucket/part-*.parquet")).num_rows == 3 * NUM_ROWS
    finally:
        memory.rm("/bucket", recursive=True)


def test_partitions_in_paths_are_columns(tmp_path):
    for year in (2023, 2024):
        folder = tmp_path / f"year={year}" / "kind=7"
        folder.mkdir(parents=True)
        parquet.write_table(make_table(20, year).drop(["y"]), folder / "0.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    look = look_at(Question(str(tmp_path), target="year"))
    assert look.classes == ((2023, 20), (2024, 20))
    assert find_partitions(["year=01/k=a%20b/f"]) == ((("k", "a b"), ("year", "01")),)
    assert look.contents.features == ("a", "b", "kind")
    assert np.unique(read_all(look)[:, 2]).tolist() == [7]


def test_a_file_outside_the_partitions_is_named(tmp_path):
    (tmp_path / "year=2023").mkdir()
    for path in ("year=2023/0.parquet", "1.parquet"):
        parquet.write_table(make_table(20), tmp_path / path)
    assert_fails(tmp_path, "1.parquet", "'year'")


def test_shards_of_arrays_are_blocks(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (90, 2, 3), np.uint8), rng.integers(0, 4, 90)
    (tmp_path / "npz").mkdir()
    (tmp_path / "npy").mkdir()
    for number in range(3):
        rows = slice(number * 30, number * 30 + 30)
        np.savez_compressed(tmp_path / "npz" / f"{number}.npz", x=x[rows], y=y[rows])
        np.save(tmp_path / "npy" / f"{number}_x.npy", x[rows])
        np.save(tmp_path / "npy" / f"{number}_y.npy", y[rows])
    for kind in ("npz", "npy"):
        look = look_at(Question(str(tmp_path / kind)))
        assert np.array_equal(read_all(look), x.reshape(90, -1))
        assert look.input_shape == (2, 3)
        assert [facts.num_rows for facts in look.blocks] == [30, 30, 30]


def write_csv(path: Path, num_rows: int, quoted: bool) -> pa.Table:
    rng = np.random.default_rng(num_rows)
    words = ["plain", "two\nlines", 'with "quotes"', "a,comma", "\n\n"] if quoted else ["p", "q"]
    table = pa.table(
        {
            "a": rng.normal(size=num_rows),
            "label": [words[n] for n in rng.integers(0, len(words), num_rows)],
            "b": rng.integers(0, 9, num_rows),
        }
    )
    arrow_csv.write_csv(table, path)
    return table


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1000, 1 << 20])
def test_csv_files_are_cut_at_line_ends_only_whatever_the_size_of_blocks(tmp_path, quoted, block_bytes):
    table = write_csv(tmp_path / "t.csv", 60, quoted)
    contents = Contents(list_files(str(tmp_path / "t.csv")), ("a", "b"), ("label",), ((),))
    blocks = CsvBlocks(Fetcher(), block_bytes)
    parts = blocks.split(contents, 0).blocks
    decoded = [blocks.decode(contents, block) for block in parts]
    assert len(parts) > 1 or block_bytes > 1000
    assert np.concatenate([raw.y for raw in decoded]).tolist() == table["label"].to_pylist()
    assert np.allclose(np.concatenate([raw.x for raw in decoded])[:, 0], table["a"])
    assert [block.first_row for block in parts] == [sum(len(raw.x) for raw in decoded[:n]) for n in range(len(parts))]


def test_csv_targets_that_look_like_numbers_in_one_block_are_text_in_all(tmp_path):
    (tmp_path / "1.csv").write_text("a,y\n1,7\n2,8\n")
    (tmp_path / "2.csv").write_text("a,y\n3,seven\n")
    assert look_at(Question(str(tmp_path))).classes == (("7", 1), ("8", 1), ("seven", 1))


def test_a_class_of_the_last_block_only_is_a_class(tmp_path):
    table = pa.table({"a": np.arange(100.0), "y": [0] * 50 + [1] * 49 + [2]})
    parquet.write_table(table, tmp_path / "s.parquet", row_group_size=10)
    look = look_at(Question(str(tmp_path / "s.parquet")))
    assert look.spec.classes == (0, 1, 2)
    assert look.blocks[0].top_rows == 10


def test_targets_of_a_regression_stay_numbers(tmp_path):
    table = pa.table({"a": np.arange(9.0), "p": np.arange(9.0), "q": np.arange(9)})
    parquet.write_table(table, tmp_path / "r.parquet")
    look = look_at(Question(str(tmp_path / "r.parquet"), target=("p", "q")))
    assert (look.task, look.num_outputs, look.classes) == ("regression", 2, ())


def test_bad_sources_get_a_sentence_that_names_the_file(tmp_path):
    folder = write_folder(tmp_path / "d")
    assert_fails(tmp_path / "none", "none", "does not exist")
    assert_fails(f"{folder}/*.csv", "does not exist")
    assert_fails("nowhere://bucket", "no known kind of storage")
    (tmp_path / "empty").mkdir()
    assert_fails(tmp_path / "empty", ".parquet", "holds nothing")
    (folder / "part-3.parquet").write_bytes(b"")
    assert_fails(folder, "part-3.parquet", "empty file (0 bytes)")
    (folder / "part-3.parquet").write_bytes((folder / "part-0.parquet").read_bytes()[:-50])
    assert_fails(folder, "part-3.parquet", "truncated")
    (folder / "part-3.parquet").unlink()
    (folder / "more.csv").write_text("a\n1\n")
    assert_fails(folder, "several kinds", "more.csv")


def test_a_damaged_row_group_names_its_file(tmp_path):
    folder = write_folder(tmp_path / "d")
    content = bytearray((folder / "part-1.parquet").read_bytes())
    content[4:2000] = bytes(1996)
    (folder / "part-1.parquet").write_bytes(content)
    assert_fails(folder, "part-1.parquet")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(["b"]), ["has no column 'b'", "part-0", "part-2"]),
        (lambda table: table.append_column("c", table["a"]), ["has a column 'c'", "has not"]),
        (lambda table: table.set_column(1, "b", table["b"].cast(pa.string())), ["'b' is string in", "int64 in"]),
    ],
)
def test_one_file_of_another_schema_is_named_with_the_column(tmp_path, change, words):
    folder = write_folder(tmp_path / "d")
    parquet.write_table(change(make_table()), folder / "part-2.parquet")
    assert_fails(folder, *words)


def test_an_index_that_pandas_wrote_in_one_file_is_no_column(tmp_path):
    folder = write_folder(tmp_path / "d")
    table = make_table().append_column("__index_level_0__", pa.array(range(NUM_ROWS)))
    parquet.write_table(table, folder / "part-2.parquet")
    assert look_at(Question(str(folder))).contents.features == ("a", "b")


def test_shards_of_another_shape_are_named(tmp_path):
    np.savez(tmp_path / "1.npz", x=np.zeros((4, 3)), y=np.arange(4))
    np.savez(tmp_path / "2.npz", x=np.zeros((4, 2)), y=np.arange(4))
    assert_fails(tmp_path, "2.npz", "(2,)", "1.npz", "(3,)")


def test_empty_cells_and_unusable_numbers_are_named_with_their_row_in_the_file(tmp_path):
    folder = write_folder(tmp_path / "d")
    b = make_table()["b"].to_pylist()
    table = make_table().set_column(1, "b", pa.array([None if row == 250 else v for row, v in enumerate(b)]))
    parquet.write_table(table, folder / "part-1.parquet", row_group_size=70)
    assert_fails(folder, "part-1.parquet", "column 'b'", "data row 251")
    a = make_table()["a"].to_numpy().copy()
    a[150] = np.inf
    table = make_table().set_column(0, "a", pa.array(a))
    parquet.write_table(table, folder / "part-1.parquet", row_group_size=70)
    assert_fails(folder, "part-1.parquet", "column 'a'", "data row 151")


def test_a_csv_cell_is_named_with_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr("distbp.data.blocks.csv_blocks.BLOCK_BYTES", 64)
    lines = [f"{row},{row % 2}" if row != 40 else f",{row % 2}" for row in range(60)]
    (tmp_path / "t.csv").write_text("a,y\n" + "\n".join(lines) + "\n")
    assert_fails(tmp_path / "t.csv", "t.csv", "column 'a'", "data row 41")


def test_too_many_labels_for_classes_are_refused(tmp_path):
    parquet.write_table(pa.table({"a": np.arange(99.0), "y": np.arange(99)}), tmp_path / "i.parquet")
    assert_fails(tmp_path / "i.parquet", "99 different labels")
