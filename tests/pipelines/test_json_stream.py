"""Reading JSON entry by entry: the same as all at once, with the place of every error."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_schema.errors import InputError
from pipelines.datasets import json_stream
from pipelines.datasets.json_stream import read_array, read_object

NAME = Path("file.json")

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)


def _objects(text: str) -> list[tuple[str | None, object]]:
    return [(entry.key, entry.value) for entry in read_object(NAME, io.StringIO(text))]


def _array(text: str) -> list[object]:
    return [entry.value for entry in read_array(NAME, io.StringIO(text))]


@pytest.mark.parametrize("chunk", [1, 2, 7, 4096])
@given(
    made=st.dictionaries(st.text(max_size=6), VALUES, max_size=6), indent=st.sampled_from([None, 1])
)
def test_any_object_is_read_as_the_standard_reader_reads_it(chunk, made, indent):
    text = json.dumps(made, indent=indent, ensure_ascii=indent is None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_CHARACTERS", chunk)
        assert _objects(f"\n {text}\r\n") == list(json.loads(text).items())
        assert _array(json.dumps(list(made.values()))) == list(made.values())


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_lines_are_those_of_the_file(monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", chunk)
    text = '{"a": 1,\n\n "b": {\n  "c": 2},\n"d":\n3}'
    assert [e.line for e in read_object(NAME, io.StringIO(text))] == [1, 3, 5]


def test_numbers_at_the_edge_of_a_chunk_are_whole(monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 1)
    assert _array("[12, 345, -6.75e2]") == [12, 345, -675.0]


def test_a_key_that_is_there_twice_comes_twice():
    assert _objects('{"a": 1, "a": 2}') == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("chunk", [5, 4096])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", r"line 1, column 1.*begins with '\{'; found the end of the file", id="empty"),
        pytest.param("[]", r"begins with '\{'; found '\['", id="array"),
        pytest.param('{"a": 1}\n\n}', r"line 3, column 1.*'}' after the end.*The 1 entries before it are whole: the file is mended by deleting from here", id="extra brace"),
        pytest.param('{"a": 1\n "b": 2}', r"line 2, column 2.*after entry 1 there is '\"' instead of ','", id="no comma"),
        pytest.param('{"a": 1,}', r"line 1, column 9.*the key of entry 2 begins with '}'", id="comma too many"),
        pytest.param('{"a" 1}', r"after the key 'a' there is '1' instead of ':'", id="no colon"),
        pytest.param('{"a": {"b": 1}', r"line 1, column 15.*the end of the file instead of ','", id="cut after"),
        pytest.param('{"a": {"b": ', r"line 1, column \d+: entry 1: Expecting value", id="cut within"),
        pytest.param('{"a": "x', r"entry 1: Unterminated string", id="cut in text"),
        pytest.param('{"a": {"b": 1, "b": 2}}', r"entry 1: the key 'b' is there more than once", id="repeated key"),
        pytest.param('{"a": NaN}', r"entry 1: NaN is not JSON", id="NaN"),
        pytest.param('{"a": -Infinity}', r"-Infinity is not JSON", id="infinity"),
        pytest.param('{"a": ' + "[" * 100_000, r"entry 1 is nested too deeply", id="too deep"),
        pytest.param('{"a": ' + "9" * 5000 + "}", r"entry 1: Exceeds the limit", id="5000 digits"),
        pytest.param('{"a": "x\x00y"}', r"entry 1: Invalid control character", id="NUL"),
        pytest.param("{'a': 1}", r"the key of entry 1 begins with \"'\"", id="python"),
    ],
)  # fmt: skip
def test_broken_files_are_refused_with_the_place(monkeypatch, chunk, text, message):
    # A cut entry must not be taken for one that goes on in the next chunk, nor the other way round.
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", chunk if len(text) < 1000 else 1 << 20)
    with pytest.raises(InputError, match=f"file.json, .*{message}"):
        _objects(text)


def test_an_entry_without_end_is_not_sought_for_ever(monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 10)
    monkeypatch.setattr(json_stream, "_LONGEST_ENTRY", 50)
    file = io.StringIO('{"a": "' + "x" * 10_000)
    with pytest.raises(InputError, match="Unterminated string"):
        list(read_object(NAME, file))
    assert file.tell() < 200
