"""Tables streamed row by row and opened column by column: the same rows, whole or not there at all."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache_schema import (
    Caption,
    Clip,
    InputError,
    Question,
    QuestionTable,
    SchemaError,
    open_captions,
    open_questions,
    read_captions,
    read_questions,
    write_captions,
    write_questions,
)
from cache_schema.tables import row_table
from cache_schema.tables.clip_table import clip_form, clip_values, read_clip_table
from cache_schema.tables.question_table import QUESTION_FORM, tabled
from cache_schema.tables.row_table import RowStream, attribute_values


def _questions(count: int) -> list[Question]:
    return [
        Question(
            question_id=f"q{n}",
            clip_id=f"c{n % 7}",
            question=f"what is {n}?",
            answer=("a", "b")[n % 2],
            candidates=("a", "b") if n % 3 else (),
            answer_index=n % 2 if n % 3 else -1,
            split=("train", "val", "test")[n % 3],
            tags=(f"type:t{n % 4}", "level:core"),
            clip_ids=(f"c{n % 7}", "other") if n % 5 == 0 and n % 3 else (),
        )
        for n in range(count)
    ]


@pytest.fixture(params=[1, 3, 1000], ids=lambda rows: f"groups of {rows}")
def small_groups(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(row_table, "_ROWS_PER_GROUP", request.param)
    monkeypatch.setattr(row_table, "_ROWS_PER_READ", request.param)


@pytest.mark.usefixtures("small_groups")
def test_an_open_table_holds_the_rows_that_a_whole_reading_gives(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    questions = _questions(20)
    write_questions(path, questions)
    table = open_questions(path)
    assert len(table) == 20
    assert list(table) == questions == read_questions(path)
    assert [table[n] for n in range(-20, 20)] == [*questions, *questions]
    assert list(table[3:15:4]) == questions[3:15:4]
    assert list(table[::-1]) == questions[::-1]
    assert list(table.take(np.array([5, 5, 2]))) == [questions[5], questions[5], questions[2]]
    with pytest.raises(IndexError):
        table[20]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_is_chosen_without_making_a_question(
    tmp_path: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = _questions(20)
    write_questions(tmp_path / "q.parquet", questions)
    made = []
    monkeypatch.setattr(Question, "__post_init__", made.append)
    chosen = open_questions(tmp_path / "q.parquet").in_split(split)  # type: ignore[arg-type]
    wanted = [q for q in questions if q.split == split]
    assert chosen.column("answer").to_pylist() == [q.answer for q in wanted]
    assert len(chosen) == len(wanted)
    assert made == []


def test_opening_reads_no_rows_but_those_of_the_columns_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_questions(path, _questions(50))
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(3)
    assert chunk.path_in_schema == "question"
    whole = bytearray(path.read_bytes())
    whole[chunk.data_page_offset - 3] ^= 1  # the end of its dictionary
    path.write_bytes(whole)
    table = open_questions(path)
    assert table.column("clip_id").to_pylist()[:2] == ["c0", "c1"]
    with pytest.raises(InputError, match="Column 'question'"):
        table[0]


def test_questions_in_memory_are_a_table_too() -> None:
    questions = _questions(9)
    table = tabled(questions)
    assert list(table) == questions
    assert tabled(table) is table
    assert list(table.in_split("val")) == [q for q in questions if q.split == "val"]
    assert list(tabled([])) == []


def test_a_table_of_another_program_is_checked_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_questions(path, _questions(3))
    plain = pq.read_table(path).replace_schema_metadata(None)
    pq.write_table(plain, path)
    assert list(open_questions(path)) == _questions(3)
    pq.write_table(
        plain.set_column(plain.column_names.index("split"), "split", pa.array(["dev"] * 3)), path
    )
    with pytest.raises(SchemaError, match="3 problems"):
        open_questions(path)


def test_what_is_no_question_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no questions table"):
        open_questions(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("question_id\n")
    with pytest.raises(InputError, match="cannot be read as a Parquet table"):
        open_questions(tmp_path / "text.parquet")
    write_captions(tmp_path / "c.parquet", [])
    with pytest.raises(SchemaError, match="holds captions, not questions"):
        open_questions(tmp_path / "c.parquet")


def test_a_stream_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_questions(path, _questions(2))
    stream = RowStream(path, QUESTION_FORM, attribute_values(QUESTION_FORM))
    with contextlib.suppress(RuntimeError), stream:
        stream.add(_questions(9)[8])
        raise RuntimeError
    assert read_questions(path) == _questions(2)
    with pytest.raises(SchemaError, match="'q0' is there more than once"):
        write_questions(path, [*_questions(3), *_questions(1)])
    assert read_questions(path) == _questions(2)
    assert list(tmp_path.iterdir()) == [path]


def test_captions_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    captions = [
        Caption(caption_id="1", clip_id="a", text="a dog", split="train", tags=("noun:3",)),
        Caption(caption_id="2", clip_id="a", text="a cat", split="test"),
    ]
    write_captions(path, captions)
    assert read_captions(path) == captions
    assert list(open_captions(path)) == captions
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert list(open_captions(path)) == captions


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"caption_id": ""}, "caption_id"),
        ({"clip_id": "a\nb"}, "clip_id"),
        ({"text": ""}, "text"),
        ({"text": "x" * 4001}, "text"),
        ({"split": "dev"}, "split"),
        ({"tags": ("noun",)}, "tags"),
    ],
)
def test_broken_captions_are_refused(changes: dict[str, object], path: str) -> None:
    fields = {"caption_id": "1", "clip_id": "a", "text": "x", "split": "train", **changes}
    with pytest.raises(SchemaError) as caught:
        Caption(**fields)  # type: ignore[arg-type]
    assert [found for found, _ in caught.value.problems] == [path]


def test_clips_round_trip_relative_to_their_root(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    clips = [
        Clip(clip_id="a", path=here / "videos" / "a.mp4"),
        Clip(clip_id="b", path=here / "videos" / "a.mp4", start_s=1.25, end_s=2.5),
    ]
    with RowStream(tmp_path / "c.parquet", clip_form(here), clip_values(here)) as stream:
        for clip in clips:
            stream.add(clip)
    assert read_clip_table(tmp_path / "c.parquet", here) == clips
    moved = read_clip_table(tmp_path / "c.parquet", there)
    assert [clip.path for clip in moved] == [there / "videos" / "a.mp4"] * 2


@pytest.mark.parametrize("path", ["../a.mp4", "/etc/passwd", "", "a\0b"])
def test_a_clip_table_leads_nowhere_else(tmp_path: Path, path: str) -> None:
    columns = {"clip_id": ["a"], "path": [path], "start_s": [None], "end_s": [None]}
    schema = clip_form(tmp_path).schema
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "c.parquet")
    with pytest.raises(SchemaError, match=r"row 1 \('a'\)\.path"):
        read_clip_table(tmp_path / "c.parquet", tmp_path)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        pytest.param({}, None, id="a clip is chosen"),
        pytest.param({"answer_index": 2}, "answer_index", id="no such clip"),
        pytest.param({"answer": "c1"}, "answer", id="another clip's id"),
        pytest.param({"answer_index": -1, "answer": "in words"}, None, id="in words about both"),
    ],
)
def test_clips_may_be_the_choice(changes: dict[str, object], path: str | None) -> None:
    fields: dict[str, object] = {
        "question_id": "q",
        "clip_id": "c1",
        "clip_ids": ("c1", "c2"),
        "question": "a door opens",
        "answer": "c2",
        "answer_index": 1,
        "split": "test",
        **changes,
    }
    if path is None:
        question = Question(**fields)  # type: ignore[arg-type]
        assert question.choices == (() if question.answer_index < 0 else ("c1", "c2"))
        assert list(tabled([question])) == [question]
        assert isinstance(tabled([question]), QuestionTable)
        return
    with pytest.raises(SchemaError) as caught:
        Question(**fields)  # type: ignore[arg-type]
    assert [found for found, _ in caught.value.problems] == [path]
