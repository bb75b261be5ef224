"""The question table and the evidence kept apart from it: round trip and validation."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache_schema import (
    InputError,
    Question,
    SchemaError,
    read_evidence,
    read_questions,
    write_evidence,
    write_questions,
)


def _question(**changes: object) -> Question:
    fields: dict[str, object] = {
        "question_id": "q1",
        "clip_id": "c1",
        "question": "What colour is the circle?",
        "answer": "red",
        "candidates": ("blue", "red"),
        "answer_index": 1,
        "tags": ("type:color", "level:core"),
        "split": "train",
    }
    return Question(**{**fields, **changes})


def _open_ended(**changes: object) -> Question:
    return _question(**{"candidates": (), "answer_index": -1, **changes})


def test_table_round_trip_and_splits(tmp_path: Path) -> None:
    questions = [
        _question(),
        _open_ended(question_id="q2", split="val"),
        _question(question_id="q3", clip_ids=("c1", "c2"), tags=(), split="test"),
    ]
    write_questions(tmp_path / "new" / "q.parquet", questions)
    assert read_questions(tmp_path / "new" / "q.parquet") == questions
    assert read_questions(tmp_path / "new" / "q.parquet", split="val") == questions[1:2]
    assert questions[0].clips == ("c1",)
    assert questions[2].clips == ("c1", "c2")


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.parquet", [])
    assert read_questions(tmp_path / "q.parquet") == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"question_id": ""}, "question_id"),
        ({"question": ""}, "question"),
        ({"answer": ""}, "answer"),
        ({"answer": "green"}, "answer"),
        ({"answer_index": 2}, "answer_index"),
        ({"answer_index": -1}, "answer_index"),
        ({"candidates": ()}, "answer_index"),
        ({"candidates": ("", "red")}, "candidates"),
        ({"candidates": "red"}, "candidates"),
        ({"split": "dev"}, "split"),
        ({"tags": ("color",)}, "tags"),
        ({"clip_ids": ("c2", "c1")}, "clip_id"),
        ({"clip_id": "a\nb"}, "clip_id"),
    ],
)
def test_broken_questions_are_refused(changes: dict[str, object], path: str) -> None:
    with pytest.raises(SchemaError) as caught:
        _question(**changes)
    assert [found for found, _ in caught.value.problems] == [path]


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="'q1' is there more than once"):
        write_questions(tmp_path / "q.parquet", [_question(), _question()])


def _rewritten(path: Path, **columns: pa.Array | None) -> Path:
    """Writes a table with two questions, then replaces or drops columns."""
    write_questions(path, [_question(), _question(question_id="q2")])
    table = pq.read_table(path)
    for name, column in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if column is not None:
            table = table.append_column(name, column)
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"answer": None}, "answer: is missing"),
        ({"spans": pa.array([1, 2])}, "spans: is not a known column"),
        ({"answer": pa.array(["red", None])}, "answer: has 1 nulls"),
        ({"answer_index": pa.array(["x", "y"])}, "answer_index: is not int32"),
        ({"answer": pa.array(["red", "blue"])}, r"row 2 \('q2'\)\.answer: is 'blue'"),
        ({"split": pa.array(["dev", "all"])}, "2 problems"),
        ({"question_id": pa.array(["q", "q"])}, "'q' is there more than once"),
    ],
    ids=["lacks", "unknown", "null", "type", "answer", "all-problems", "ids"],
)
def test_broken_tables_are_refused(
    tmp_path: Path, columns: dict[str, pa.Array], match: str
) -> None:
    with pytest.raises(SchemaError, match=match):
        read_questions(_rewritten(tmp_path / "q.parquet", **columns))


def test_tables_of_other_programs_are_read_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_questions(path, [_question()])
    table = pq.read_table(path).replace_schema_metadata(None)
    wide = table.set_column(
        table.column_names.index("answer_index"), "answer_index", pa.array([1], pa.int64())
    )
    pq.write_table(wide, path)
    assert read_questions(path) == [_question()]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no questions table"):
        read_questions(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("question_id\n")
    with pytest.raises(InputError, match="cannot be read as a Parquet table"):
        read_questions(tmp_path / "text.parquet")
    write_evidence(tmp_path / "e.parquet", {"q1": [(0.0, 1.0)]})
    with pytest.raises(SchemaError, match="holds evidence, not questions"):
        read_questions(tmp_path / "e.parquet")


def test_evidence_round_trip(tmp_path: Path) -> None:
    evidence = {"q1": [(0.5, 1.25), (3.0, 4.0)], "q2": []}
    write_evidence(tmp_path / "e.parquet", evidence)
    assert read_evidence(tmp_path / "e.parquet") == evidence


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf"))])
def test_broken_spans_are_refused(tmp_path: Path, span: tuple[float, float]) -> None:
    with pytest.raises(SchemaError, match=r"'q1'\.spans\.0"):
        write_evidence(tmp_path / "e.parquet", {"q1": [span]})
