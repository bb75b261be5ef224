"""Predictions of every form that is read, and what is refused."""

import json

import pytest

from cache_schema.errors import InputError
from pipelines.scores.prediction_files import read_given
from train.predictions import Prediction, write_predictions

FORMS = {
    "lines": ("p.jsonl", '{"question_id": "a", "prediction": "x"}\n\n{"qid": 7, "answer": 2}\n'),
    "array, as ActivityNet-QA's example": (
        "p.json",
        '[{"question_id":"a","answer":"x"},{"question_id":"7","answer":2}]',
    ),
    "object, as NExT-QA's results": (
        "p.json",
        '{\n "a": {\n "prediction": "x",\n "answer": 0 },\n "7": {"prediction": 2, "answer": 2}}',
    ),
    "object of answers, as EgoSchema's": ("p.json", '{"a": "x", "7": 2}'),
    "object by video, as NExT-OE's": ("p.json", '{"v": {"0": "", "11": "x"}, "a": {"1": 2}}'),
    "a byte order mark and CRLF": (
        "p.jsonl",
        '\ufeff{"question_id": "a", "prediction": " x "}\r\n{"question_id": "7", "answer": 2}\r\n',
    ),
}


@pytest.mark.parametrize(("name", "text"), FORMS.values(), ids=FORMS)
def test_forms(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode())
    by_video = {"v_0": "", "v_11": "x", "a_1": 2}
    assert read_given(path) == (by_video if '"v"' in text else {"a": "x", "7": 2})


def test_our_own_table(tmp_path):
    path = tmp_path / "predictions_test.parquet"
    write_predictions(
        path,
        [
            Prediction(question_id="a", predicted="x", answer="y", frame_index=(3,)),
            Prediction(question_id="b", predicted="", answer="y"),
        ],
    )
    assert read_given(path) == {"a": "x", "b": ""}


WRONG = {
    "no file": ("p.json", None, InputError, "There is no file of predictions"),
    "another ending": ("p.csv", "a,b", InputError, r"ends in '\.csv'"),
    "twice": (
        "p.jsonl",
        '{"qid": 1, "answer": "x"}\n{"qid": "1", "answer": "x"}',
        InputError,
        r"answers 1 questions more than once: '1' \(line 2\)",
    ),
    "twice as a key": ("p.json", '{"a": 1,\n"a": 1}', InputError, r"more than once: 'a' \(line 2"),
    "no id": ("p.json", '[{"answer": "x"}]', InputError, "line 1: has no question_id or qid"),
    "no answer": ("p.json", '[{"qid": 1}]', InputError, "has no prediction or answer"),
    "null": ("p.jsonl", '{"qid": 1, "answer": null}', InputError, "has no prediction"),
    "true": ("p.json", '{"a": true}', InputError, "text or a whole number"),
    "a share": ("p.json", '{"a": 0.5}', InputError, "text or a whole number"),
    "an array of answers": ("p.json", '["x"]', InputError, "has no question_id"),
    "cut off": ("p.jsonl", '{"qid": 1, "answer": "x"}\n{"qid": 2,', InputError, "line 2: not one"),
    "not text": ("p.jsonl", b"\xff\xfe", InputError, "not UTF-8"),
    "not text either": ("p.json", b"\xff\xfe", InputError, "not UTF-8"),
}


@pytest.mark.parametrize(("name", "text", "error", "message"), WRONG.values(), ids=WRONG)
def test_refusals(tmp_path, name, text, error, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message):
        read_given(path)


def test_all_broken_entries_are_told(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"qid": n}) + "\n" for n in range(3)))
    with pytest.raises(InputError) as caught:
        read_given(path)
    told = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in told] == ["line 1", "line 2", "line 3"]
