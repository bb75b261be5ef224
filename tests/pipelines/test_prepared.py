"""The neutral tables beside a data set: made whole or not at all, used while its files do not change."""

import csv
import json
import os

import pytest

from cache_schema import QuestionTable
from cache_schema.errors import InputError, SchemaError
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find
from pipelines.datasets.template import FILES, write_template
from pipelines.prepared import is_fresh, load, prepare, prepared_folder

AGQA = find("agqa")
CUSTOM = find("custom")


def same(first: Annotations, second: Annotations) -> bool:
    return (
        first.clips == second.clips
        and list(first.questions) == list(second.questions)
        and list(first.captions) == list(second.captions)
        and first.evidence == second.evidence
    )


def test_prepared_tables_hold_what_the_files_hold(tmp_path, write_agqa):
    read = AGQA.read(write_agqa(tmp_path))
    made = prepare(AGQA, tmp_path)
    assert (made.clips, made.questions, made.bad_rows) == (1, 2, 0)
    assert made.folder == prepared_folder(AGQA, tmp_path) == tmp_path / "prepared" / "agqa"
    loaded = load(AGQA, tmp_path)
    assert isinstance(loaded.questions, QuestionTable)
    assert same(loaded, read)


def test_tables_are_used_until_a_file_changes(tmp_path, write_agqa, agqa_record):
    write_agqa(tmp_path)
    assert not is_fresh(AGQA, tmp_path)
    prepare(AGQA, tmp_path)
    assert is_fresh(AGQA, tmp_path)
    write_agqa(tmp_path, test={"q2": agqa_record, "q3": agqa_record})
    assert not is_fresh(AGQA, tmp_path)
    assert len(load(AGQA, tmp_path).questions) == 3
    prepare(AGQA, tmp_path)
    assert is_fresh(AGQA, tmp_path)
    path = tmp_path / "test_balanced.txt"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert not is_fresh(AGQA, tmp_path)


def test_a_new_optional_file_counts_as_a_change(tmp_path):
    write_template(tmp_path)
    (tmp_path / "captions.csv").unlink()
    prepare(CUSTOM, tmp_path)
    assert len(load(CUSTOM, tmp_path).captions) == 0
    (tmp_path / "captions.csv").write_text(FILES["captions.csv"])
    assert len(load(CUSTOM, tmp_path).captions) == 2


def test_tables_without_their_record_do_not_count(tmp_path, write_agqa):
    prepare(AGQA, write_agqa(tmp_path))
    record = prepared_folder(AGQA, tmp_path) / "prepared.json"
    for content in ("", "[]", "{}", record.read_text().replace('"form": 1', '"form": 0')):
        record.write_text(content)
        assert not is_fresh(AGQA, tmp_path)
    assert len(load(AGQA, tmp_path).questions) == 2


def test_one_bad_row_ends_it_and_leaves_no_half_tables(tmp_path, write_agqa, agqa_record):
    prepare(AGQA, write_agqa(tmp_path))
    before = {p.name: p.read_bytes() for p in prepared_folder(AGQA, tmp_path).glob("*.parquet")}
    write_agqa(tmp_path, test={"q2": agqa_record, "q3": agqa_record | {"answer": None}})
    with pytest.raises(SchemaError, match=r"test_balanced.txt line 1 \('q3'\).answer: is null"):
        prepare(AGQA, tmp_path)
    assert {
        p.name: p.read_bytes() for p in prepared_folder(AGQA, tmp_path).glob("*.parquet")
    } == before
    assert not list(prepared_folder(AGQA, tmp_path).glob(".tmp-*"))
    assert not is_fresh(AGQA, tmp_path)


def test_skipped_rows_are_counted_and_kept_out(tmp_path, write_agqa, agqa_record):
    write_agqa(
        tmp_path,
        train={f"q{n}": agqa_record | {"answer": "yes" if n % 2 else ""} for n in range(10)},
        test={"t": agqa_record},
    )
    made = prepare(AGQA, tmp_path, skip_bad_rows=True)
    assert (made.questions, made.bad_rows, len(made.problems)) == (6, 5, 5)
    assert "answer: is empty" in str(made.problems[0])
    record = json.loads((made.folder / "prepared.json").read_text())
    assert record["bad_rows"] == 5
    assert len(load(AGQA, tmp_path).questions) == 6


def test_evidence_is_prepared_apart_from_the_questions(tmp_path):
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    row = {
        "question_id": "1",
        "video_id": "v",
        "question": "what?",
        "answer": "a",
        "type": "t",
        "level": "core",
        "spans": [[0.5, 2]],
    }
    for split in ("train", "val", "test"):
        line = json.dumps(row | {"question_id": split, "video_id": split})
        (annotations / f"questions_{split}.jsonl").write_text(line)
    demo = find("demo")
    read = demo.read(tmp_path)
    prepare(demo, tmp_path)
    assert (
        load(demo, tmp_path).evidence == read.evidence == {s: [(0.5, 2.0)] for s in read.evidence}
    )
    assert len(read.evidence) == 3


@pytest.mark.parametrize(
    "spans", [[[2, 1]], [[0, float("inf")]], [["0", "1"]], [[1]], "0-1", [True]]
)
def test_spans_that_are_none_are_refused(tmp_path, spans):
    (tmp_path / "clips.csv").write_text("clip_id,path,start_s,end_s\na,a.mp4,,\n")
    row = {"question_id": "1", "clip_id": "a", "question": "w", "answer": "a", "split": "train"}
    line = json.dumps(row | {"spans": spans}).replace("Infinity", "1e999")
    (tmp_path / "questions.jsonl").write_text(line)
    with pytest.raises(SchemaError, match="spans"):
        CUSTOM.read(tmp_path)


def test_progress_is_told_in_bytes_of_all_files(tmp_path, write_agqa, agqa_record, monkeypatch):
    monkeypatch.setattr("pipelines.prepared._ROWS_PER_REPORT", 100)
    write_agqa(tmp_path, train={f"r{n}": agqa_record for n in range(1000)})
    told: list[tuple[int, int]] = []
    prepare(AGQA, tmp_path, on_progress=lambda done, total: told.append((done, total)))
    size = sum((tmp_path / f"{s}_balanced.txt").stat().st_size for s in ("train", "test"))
    assert len(told) >= 9
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert 0 < told[0][0] <= told[-1][0] <= size


def test_the_template_is_a_data_set(tmp_path):
    write_template(tmp_path)
    read = CUSTOM.read(tmp_path)
    assert [(c.clip_id, c.start_s, c.end_s) for c in read.clips] == [
        ("kitchen", None, None),
        ("kitchen-door", 12.5, 20.0),
        ("street", None, None),
    ]
    assert [(q.question_id, q.choices, q.answer_index) for q in read.questions] == [
        ("q1", (), -1),
        ("q2", (), -1),
        ("q3", ("a girl", "a boy", "nobody"), 0),
        ("q4", ("kitchen", "street"), 1),
    ]
    assert [c.text for c in read.captions] == [
        "a man cuts bread in a kitchen",
        "a dog crosses the road",
    ]
    with pytest.raises(InputError, match=r"clips\.csv is there already"):
        write_template(tmp_path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_of_ones_own_in_three_formats_are_one(tmp_path, ending):
    write_template(tmp_path)
    wanted = CUSTOM.read(tmp_path)
    rows = list(csv.DictReader(FILES["questions.csv"].splitlines()))
    lists = ("candidates", "clip_ids", "tags")
    plain = [
        {k: json.loads(v) if k in lists and v else v or None for k, v in row.items()}
        for row in rows
    ]
    (tmp_path / "questions.csv").unlink()
    if ending == "csv":
        (tmp_path / "questions.csv").write_text(FILES["questions.csv"])
    elif ending == "jsonl":
        (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, plain)))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(plain), tmp_path / "questions.parquet")
    assert same(CUSTOM.read(tmp_path), wanted)


def test_custom_names_every_problem_at_once(tmp_path):
    (tmp_path / "clips.csv").write_text("clip_id,path,start_s,end_s\na,a.mp4,,\n")
    row = {
        "question_id": "1",
        "clip_id": "a",
        "question": "What?",
        "answer": "dog",
        "split": "train",
    }
    rows = [
        row | {"clip_id": "zz"},
        row | {"split": "dev"},
        row | {"candidates": ["cat", "cow"]},
        row | {"candidates": ["dog", "dog"]},
        row | {"candidates": "dog"},
        row | {"question_id": "7"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SchemaError) as caught:
        CUSTOM.read(tmp_path)
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 5
    for number, what in enumerate(
        (
            "'zz', which is not in clips.csv",
            "split",
            "is there 0 times",
            "is there 2 times",
            "no list",
        )
    ):
        assert f"line {number + 1}" in said[number]
        assert what in said[number]


def test_custom_without_tables_says_what_it_wants(tmp_path):
    (tmp_path / "clips.csv").write_text("clip_id,path,start_s,end_s\na,a.mp4,,\n")
    with pytest.raises(InputError, match=r"neither a table of questions.*data template"):
        CUSTOM.read(tmp_path)
    (tmp_path / "questions.parquet").write_text("no table")
    with pytest.raises(InputError, match="cannot be read as a Parquet table"):
        CUSTOM.read(tmp_path)
