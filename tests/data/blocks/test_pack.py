import json
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distbp.__main__ import main
from distbp.data.blocks.decoding import Decoder
from distbp.data.blocks.describe import describe
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.look import Look, Question, look_at
from distbp.data.blocks.pack import pack
from distbp.errors import DataError, StorageError

pytestmark = pytest.mark.slow

NUM_ROWS = 6_000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))


def write_sorted(folder: Path, num_files: int = 6) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(num_files):
        count = NUM_ROWS // num_files
        columns = {
            "a": rng.normal(size=count).astype(np.float32),
            "b": rng.integers(-5, 5, count, np.int16),
            "label": [f"class {number // 2}"] * count,
        }
        parquet.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=200)
    return folder


def look(source: object, **options) -> Look:
    return look_at(Question(str(source), **options))


def read_rows(found: Look) -> list[tuple]:
    decoder = Decoder(found.contents, Fetcher())
    decoded = [decoder.decode(facts.block) for facts in found.blocks]
    return [(*x.tolist(), y) for raw in decoded for x, y in zip(raw.x, raw.y.tolist(), strict=True)]


def find_warning(found: Look, words: str) -> list[str]:
    return [warning for warning in describe(found).warnings if words in warning]


def test_packing_keeps_every_row_and_type_and_mixes_the_classes(tmp_path):
    source = look(write_sorted(tmp_path / "in"))
    packed = pack(source, str(tmp_path / "out"))
    found = look(tmp_path / "out")
    assert sorted(read_rows(found)) == sorted(read_rows(source))
    assert read_rows(found) != read_rows(source)
    assert [str(kind) for kind in parquet.read_schema(tmp_path / "out" / "part-00000.parquet").types] == [
        "float",
        "int16",
        "string",
    ]
    assert (packed.rows, packed.blocks) == (NUM_ROWS, len(found.blocks))
    assert len({facts.num_rows for facts in found.blocks[:-1]}) == 1
    assert find_warning(source, "sorted by class")
    assert not find_warning(found, "sorted by class")
    assert all(facts.num_classes == 3 for facts in found.blocks)


def test_packing_leaves_nothing_but_its_files(tmp_path):
    pack(look(write_sorted(tmp_path / "in")), str(tmp_path / "out"))
    assert all(path.suffix == ".parquet" for path in (tmp_path / "out").iterdir())


def test_equal_seeds_pack_equal_bytes_and_others_do_not(tmp_path):
    source = look(write_sorted(tmp_path / "in"))
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        pack(source, str(tmp_path / name), seed)
    contents = {
        name: [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("one", "same", "other")
    }
    assert contents["one"] == contents["same"] != contents["other"]


def test_the_packed_order_is_as_even_as_chance_makes_it(tmp_path):
    source = look(write_sorted(tmp_path / "in"))
    pack(source, str(tmp_path / "out"))
    counts = np.array([facts.top_rows for facts in look(tmp_path / "out").blocks[:-1]])
    rows = look(tmp_path / "out").blocks[0].num_rows
    assert counts.max() < rows / 3 + 6 * np.sqrt(rows * 2 / 9)


def test_csv_whose_blocks_suggest_different_types_is_packed_in_one_type(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.csv").write_text("a,y\n1,u\n2,v\n")
    (tmp_path / "in" / "2.csv").write_text("a,y\n2.5,u\n3,v\n")
    pack(look(tmp_path / "in"), str(tmp_path / "out"))
    assert sorted(read_rows(look(tmp_path / "out"))) == [(1.0, "u"), (2.0, "v"), (2.5, "u"), (3.0, "v")]


def test_shards_of_arrays_become_columns(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        np.savez(tmp_path / "in" / f"{number}.npz", x=np.arange(12).reshape(3, 2, 2) + number, y=np.arange(3))
    pack(look(tmp_path / "in"), str(tmp_path / "out"))
    found = look(tmp_path / "out")
    assert found.contents.features == ("x0", "x1", "x2", "x3")
    assert sorted(read_rows(found)) == sorted(read_rows(look(tmp_path / "in")))


def test_a_url_can_be_packed_to(tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        pack(look(write_sorted(tmp_path / "in")), "memory://packed/to")
        assert look("memory://packed/to").num_rows == NUM_ROWS
    finally:
        memory.rm("/packed", recursive=True)


def test_a_folder_that_is_not_empty_is_not_packed_to(tmp_path):
    source = look(write_sorted(tmp_path / "in"))
    with pytest.raises(StorageError, match="not empty"):
        pack(source, str(tmp_path / "in"))
    assert len(list((tmp_path / "in").iterdir())) == 6


def test_packing_that_fails_leaves_no_files_that_look_whole(tmp_path):
    source = look(write_sorted(tmp_path / "in"))
    (tmp_path / "in" / "5.parquet").unlink()
    with pytest.raises(DataError, match=r"5\.parquet"):
        pack(source, str(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_show_prints_what_was_found_and_warns(tmp_path, capfd):
    assert main(["data", "show", str(write_sorted(tmp_path / "in"))]) == 0
    out, err = capfd.readouterr()
    for words in ("6 (parquet)", "30 of 200 rows", "6,000", "a, b", "label", "class 1 (2,000)"):
        assert words in out
    assert "Warning: the blocks are sorted by class" in err


def test_show_gives_one_document(tmp_path, capfd):
    assert main(["data", "show", str(write_sorted(tmp_path / "in")), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["rows"], found["blocks"], found["features"]) == (NUM_ROWS, 30, ["a", "b"])
    assert "sorted by class" in found["warnings"][0]


def test_pack_says_what_it_wrote(tmp_path, capfd):
    source = write_sorted(tmp_path / "in")
    assert main(["data", "pack", str(source), str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["rows"], found["files"]) == (NUM_ROWS, len(list((tmp_path / "out").iterdir())))


def test_bad_data_is_one_sentence_and_exit_code_3(tmp_path, capfd):
    folder = write_sorted(tmp_path / "in")
    (folder / "3.parquet").write_bytes(b"PAR1")
    nothing = tmp_path / "nothing"
    cases = {
        "3.parquet": (["show", str(folder)], ["pack", str(folder), str(tmp_path / "out")]),
        "nothing": (["show", str(nothing)],),
    }
    for name, commands in cases.items():
        for words in commands:
            assert main(["data", *words]) == 3
            (line,) = capfd.readouterr().err.splitlines()
            assert line.startswith("Error: ")
            assert name in line
    assert not (tmp_path / "out").exists()


def test_passwords_in_urls_are_not_shown(tmp_path, capfd):
    source = f"file://user:secret@{write_sorted(tmp_path / 'in')}"
    found = look_at(Question(str(tmp_path / "in")))
    listing = replace(found.contents.listing, source=source)
    described = describe(replace(found, contents=replace(found.contents, listing=listing)))
    assert "secret" not in described.source
    assert main(["data", "show", "nowhere://user:secret@host/x"]) == 3
    assert "secret" not in capfd.readouterr().err


def test_a_target_can_be_named(tmp_path, capfd):
    parquet.write_table(pa.table({"a": [1.0, 2.0], "p": [0.5, 1.5], "q": [1, 2]}), tmp_path / "r.parquet")
    assert main(["data", "show", str(tmp_path / "r.parquet"), "--target", "p", "--target", "q", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["targets"] == ["p", "q"]
    assert main(["data", "show", str(tmp_path / "r.parquet")]) == 3
    assert "set target" in capfd.readouterr().err


def test_show_warns_of_tiny_few_and_csv_blocks(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=2000), "y": rng.integers(0, 2, 2000)})
    parquet.write_table(table, tmp_path / "tiny.parquet", row_group_size=20)
    parquet.write_table(table, tmp_path / "few.parquet")
    (tmp_path / "t.csv").write_text("a,y\n1,0\n2,1\n")
    assert find_warning(look(tmp_path / "tiny.parquet"), "tiny: 100 of")
    assert find_warning(look(tmp_path / "few.parquet"), "the number of blocks is only 1")
    assert find_warning(look(tmp_path / "t.csv"), "CSV")
