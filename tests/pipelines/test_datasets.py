"""Data sets other than the demo: their own formats in, neutral clips and questions out."""

import json
from pathlib import Path

import pytest

from cache_schema.errors import InputError, SchemaError
from pipelines.datasets.agqa import AGQA, REASONING
from pipelines.datasets.custom import CUSTOM
from pipelines.datasets.json_lines import read_rows
from pipelines.datasets.registry import find, known, require_videos

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "annotations"

AGQA_RECORD = {
    "question": "Did they open a door before sitting?",
    "answer": "yes",
    "video_id": "AB12C",
    "global": ["exists", "sequencing"],
    "local": "-",
    "ans_type": "binary",
    "steps": 3,
    "semantic": "action",
    "structural": "verify",
}


def _agqa(root: Path, train: object, test: object) -> Path:
    (root / "train_balanced.txt").write_text(json.dumps(train))
    (root / "test_balanced.txt").write_text(json.dumps(test))
    return root


def test_unknown_names_list_the_known_ones_and_the_closest():
    with pytest.raises(
        InputError, match=r"(?s)no data set 'agqaa'. Did you mean 'agqa'.*demo-shortcut"
    ):
        find("agqaa")


def test_every_known_data_set_says_what_belongs_where(tmp_path):
    for dataset in known().values():
        assert str(tmp_path) in dataset.wanted.format(root=tmp_path)


def test_missing_videos_say_what_to_put_where(tmp_path):
    clips = AGQA.read(_agqa(tmp_path, {"q1": AGQA_RECORD}, {"q2": AGQA_RECORD})).clips
    with pytest.raises(InputError, match=r"(?s)None of the 1 videos.*AB12C\.mp4.*Charades"):
        require_videos(AGQA, clips, tmp_path)
    clips[0].path.parent.mkdir()
    clips[0].path.touch()
    require_videos(AGQA, clips, tmp_path)


def test_agqa_counts_a_question_in_every_reasoning_type(tmp_path):
    read = AGQA.read(_agqa(tmp_path, {"q1": AGQA_RECORD}, {"q2": AGQA_RECORD}))
    assert [q.split for q in read.questions] == ["train", "test"] or read.questions[
        0
    ].split == "val"
    assert {"type:exists", "type:sequencing", "ans_type:binary"} <= set(read.questions[0].tags)
    assert len(read.clips) == 1


def test_agqa_validation_is_about_a_tenth_of_the_videos_and_never_straddles(tmp_path):
    train = {f"q{i}": AGQA_RECORD | {"video_id": f"V{i // 3:04d}"} for i in range(3000)}
    read = AGQA.read(_agqa(tmp_path, train, {"t": AGQA_RECORD}))
    by_video: dict[str, set[str]] = {}
    for question in read.questions:
        by_video.setdefault(question.clip_id, set()).add(question.split)
    assert all(len(splits) == 1 for splits in by_video.values())
    share = sum("val" in splits for splits in by_video.values()) / len(by_video)
    assert 0.07 < share < 0.13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"video_id": "../../etc/passwd"}, "not a Charades id", id="path as id"),
        pytest.param({"video_id": "YSKX3\n"}, "video_id|clip_id", id="newline in id"),
        pytest.param({"answer": ""}, "answer", id="empty answer"),
        pytest.param({"answer": None}, None, id="null answer becomes text, never nothing"),
    ],
)
def test_agqa_refuses_what_is_not_a_record(tmp_path, change, message):
    root = _agqa(tmp_path, {"q1": AGQA_RECORD | change}, {"q2": AGQA_RECORD})
    if message is None:
        assert AGQA.read(root).questions[0].answer == "None"
    else:
        with pytest.raises(SchemaError, match=message):
            AGQA.read(root)


def test_agqa_missing_files_say_where_they_are_to_be_had(tmp_path):
    with pytest.raises(InputError, match=r"(?s)train_balanced\.txt.*project page"):
        AGQA.read(tmp_path)


def test_agqa_reads_the_real_sample_records():
    path = SAMPLES / "agqa_test_balanced_example.json"
    if not path.is_file():
        pytest.skip("the real sample annotation files are not beside the project")
    # The published sample closes one brace too many: strict reading refuses it ...
    with pytest.raises(ValueError, match="Extra data"):
        json.loads(path.read_text())
    # ... and its four records are real ones.
    records, _ = json.JSONDecoder().raw_decode(path.read_text())
    assert len(records) == 4
    assert all(word in REASONING for record in records.values() for word in record["global"])


def test_custom_reads_the_documented_files(tmp_path):
    (tmp_path / "clips.csv").write_text(
        "clip_id,path,start_s,end_s\na,videos/a.mp4,,\nb,videos/a.mp4,1.5,3\n"
    )
    rows = [
        {
            "question_id": "1",
            "clip_id": "a",
            "question": "What?",
            "answer": "dog",
            "split": "train",
        },
        {
            "question_id": "2",
            "clip_id": "b",
            "question": "Who?",
            "answer": "0012",
            "split": "test",
            "type": "who",
        },
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = CUSTOM.read(tmp_path)
    assert [(c.clip_id, c.start_s, c.end_s) for c in read.clips] == [
        ("a", None, None),
        ("b", 1.5, 3.0),
    ]
    assert [(q.answer, q.tags) for q in read.questions] == [("dog", ()), ("0012", ("type:who",))]


def test_custom_names_every_problem_at_once(tmp_path):
    (tmp_path / "clips.csv").write_text("clip_id,path,start_s,end_s\na,a.mp4,,\n")
    rows = [
        {
            "question_id": "1",
            "clip_id": "zz",
            "question": "What?",
            "answer": "dog",
            "split": "train",
        },
        {"question_id": "2", "clip_id": "a", "question": "Who?", "answer": "cat", "split": "dev"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SchemaError) as caught:
        CUSTOM.read(tmp_path)
    assert "'zz' is not in clips.csv" in str(caught.value)
    assert "split" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b'{"a": "x"}\n{"a": ', "line 2.*not JSON", id="cut off"),
        pytest.param(b'{"b": 1}', "line 1.*lacks 'a'", id="missing key"),
        pytest.param(b'{"a": 3}', "line 1.*'a' is int, not str", id="wrong type"),
        pytest.param(b"[1]", "line 1.*is list", id="no object"),
        pytest.param(b"[" * 100_000, "line 1.*not JSON", id="too deep"),
        pytest.param('{"a": "x"}'.encode("utf-16"), "UTF-8", id="another encoding"),
    ],
)
def test_broken_lines_are_named(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises((SchemaError, InputError), match=message):
        list(read_rows(path, {"a": str}))


def test_byte_order_mark_line_ends_and_blank_lines_are_accepted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "x"}\r\n\r\n{"a": "y\xe2\x80\xa8z"}\r\n')
    assert [row["a"] for row in read_rows(path, {"a": str})] == ["x", "y\u2028z"]
