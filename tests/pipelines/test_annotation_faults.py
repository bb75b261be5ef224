"""Annotation files that are not what they should be: refused with the place, or skipped and counted."""

import json
from pathlib import Path

import pytest

from cache_schema.errors import InputError, SchemaError, VideoDistillError
from pipelines.data_check import check
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find
from pipelines.datasets.source_folder import file_name_problem
from pipelines.prepared import prepare
from train.vocabulary import UNKNOWN, Vocabulary

VTT = {"answer": "dog", "category_id": 1, "id": 5, "question": "what runs?", "video_id": 7}
CHOICE = {"qid": "mc0", "clip_name": "video1", "answer": 1, "options": ["a", "b", "c", "d", "e"]}
EGO_HEADER = "clip_idx\tvideo_uid\tclip_start\tclip_end\tclip_text\ttag_verb\ttag_noun\n"


def vtt(root: Path, train: object | bytes, **kinds: bool) -> Annotations:
    """MSRVTT-QA with this training file and empty others."""
    content = train if isinstance(train, bytes) else json.dumps(train).encode()
    (root / "train_qa.json").write_bytes(content)
    for split in ("val", "test"):
        (root / f"{split}_qa.json").write_text("[]")
    return find("msrvtt-qa").read(root, **kinds)


def mc(root: Path, *rows: object) -> Annotations:
    (root / "msrvtt_mc_test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return find("msrvtt-mc").read(root)


def webvid(root: Path, content: bytes) -> Annotations:
    (root / "results_2M_train.csv").write_bytes(content)
    return find("webvid").read(root)


def ego(root: Path, *rows: str, **kinds: bool) -> Annotations:
    (root / "egoclip.csv").write_text(EGO_HEADER + "".join(f"{row}\n" for row in rows))
    return find("egoclip").read(root, **kinds)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b'[{"answer": "dog", "cat', r"line 1, column \d+: entry 1: Unterminated", id="cut off"),
        pytest.param(b"{}", r"line 1, column 1: a JSON array begins with '\['", id="another JSON"),
        pytest.param(b"", "found the end of the file", id="empty"),
        pytest.param(b"answer,id\n", "found 'a'", id="a table"),
        pytest.param(json.dumps([VTT]).encode("utf-16"), "is not UTF-8 text", id="utf-16"),
        pytest.param(json.dumps([VTT | {"answer": "é"}], ensure_ascii=False).encode("latin-1"), "is not UTF-8 text", id="latin-1"),
        pytest.param(b'[{"id": 5, "id": 6}]', "'id' is there more than once", id="repeated key"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="too deep"),
        pytest.param(b'[{"id": ' + b"9" * 5000 + b"}]", "Exceeds the limit", id="5000 digits"),
        pytest.param(b'[{"video_id": NaN}]', "NaN is not JSON", id="NaN"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("skip", [False, True])
def test_broken_files_are_refused_even_where_bad_rows_are_skipped(tmp_path, content, message, skip):
    with pytest.raises(InputError, match=f"train_qa.json.*{message}"):
        vtt(tmp_path, content, skip_bad_rows=skip)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"answer": None}, "answer: is null", id="null"),
        pytest.param({"answer": ""}, "answer: is empty", id="empty"),
        pytest.param({"answer": " \t\u200b"}, "answer: is empty", id="nothing visible"),
        pytest.param({"answer": 3}, "answer: is 3, not text", id="number for text"),
        pytest.param({"answer": "\ud800"}, r"answer: contains the unprintable character U\+D800", id="half a character"),
        pytest.param({"question": "x" * 2_000_000}, "question: has 2000000 characters, more than 4000", id="2 MB"),
        pytest.param({"video_id": "7; rm"}, "video_id: is '7; rm', not a whole number", id="no number"),
        pytest.param({"video_id": "9" * 5000}, "video_id: has 5000 digits", id="5000 digits as text"),
        pytest.param({"video_id": 7.0}, "video_id: is 7.0, not a whole number", id="float id"),
        pytest.param({"video_id": True}, "video_id: is True", id="truth as id"),
        pytest.param({"id": None}, "id: is null", id="no id"),
        pytest.param({"id": [1]}, r"id: is \[1\], not an id", id="list id"),
        pytest.param({"id": "a\nb"}, "question_id: contains the unprintable character", id="newline in id"),
    ],
)  # fmt: skip
def test_broken_rows_are_refused_by_line_and_field(tmp_path, change, message):
    rows = [VTT, VTT | {"id": 6} | change]
    with pytest.raises(SchemaError, match=f"line 1.*{message}"):
        vtt(tmp_path, rows)
    read = vtt(tmp_path, rows, skip_bad_rows=True)
    assert [q.question_id for q in read.questions] == ["5"]


def test_a_missing_key_names_those_that_are_there(tmp_path):
    row = {key: value for key, value in VTT.items() if key != "answer"}
    with pytest.raises(SchemaError, match=r"answer: is missing \(there are: 'category_id', 'id'"):
        vtt(tmp_path, [row])


def test_all_bad_rows_of_a_file_are_told_at_once_with_their_lines(tmp_path):
    rows = ",\n".join(json.dumps(VTT | {"id": n, "answer": n % 2 and "dog"}) for n in range(6))
    with pytest.raises(SchemaError, match="3 problems") as caught:
        vtt(tmp_path, f"[{rows}]".encode())
    assert [str(p) for p in caught.value.problems] == [
        f"train_qa.json line {line}.answer: is 0, not text" for line in (1, 3, 5)
    ]


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        pytest.param(b"\xef\xbb\xbf" + json.dumps([VTT]).encode(), ["dog"], id="byte order mark"),
        pytest.param(json.dumps([VTT], indent=1).replace("\n", "\r\n\r\n").encode(), ["dog"], id="CRLF and blank lines"),
        pytest.param(json.dumps([VTT | {"answer": "  a\u00a0 b\u200b\r\n"}]).encode(), ["a b"], id="space is tidied"),
        pytest.param(json.dumps([VTT | {"answer": "null"}]).encode(), ["null"], id="the word null"),
        pytest.param(json.dumps([VTT | {"answer": "NaN"}]).encode(), ["NaN"], id="the word NaN"),
    ],
)  # fmt: skip
def test_what_is_merely_odd_is_read(tmp_path, content, answers):
    assert [q.answer for q in vtt(tmp_path, content).questions] == answers


@pytest.mark.parametrize(
    "name", ["0012", "1e5", "null", "NaN", "True", "-x_1", "caf\u00e9", "cafe\u0301"]
)
def test_ids_are_text_to_the_letter(tmp_path, name):
    read = webvid(tmp_path, f"videoid,page_dir,name\n{name},p,A cat\n".encode())
    assert (read.captions[0].clip_id, read.clips[0].path.name) == (name, f"{name}.mp4")


def test_twins_in_case_and_unicode_form_stay_two_and_are_pointed_out(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = "".join(f"{name},p,A cat\n" for name in (composed, decomposed, "ab", "AB", "x"))
    read = webvid(tmp_path, f"videoid,page_dir,name\n{rows}".encode())
    assert len({clip.clip_id for clip in read.clips}) == 5
    said = [str(f) for f in check(find("webvid"), tmp_path).findings]
    assert any("4 ids that differ from another only in case or Unicode form" in s for s in said)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([VTT, VTT], "id: '5' is there already: train_qa.json line 1", id="same"),
        pytest.param([VTT, VTT | {"answer": "cat"}], "id: '5' is there already", id="other answer"),
        pytest.param([VTT, VTT | {"id": "5"}], "id: '5' is there already", id="text and number"),
    ],
)
def test_a_question_id_that_is_there_twice_names_both_places(tmp_path, rows, message):
    lines = ",\n".join(json.dumps(row) for row in rows)
    with pytest.raises(SchemaError, match=f"train_qa.json line 2.{message}"):
        vtt(tmp_path, f"[{lines}]".encode())


def test_a_question_id_in_two_files_names_both(tmp_path):
    vtt(tmp_path, [VTT])
    (tmp_path / "test_qa.json").write_text(json.dumps([VTT]))
    with pytest.raises(SchemaError, match=r"test_qa.json line 1.*already: train_qa.json line 1"):
        find("msrvtt-qa").read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"answer": 5}, "answer: is 5, outside 0 to 4", id="past the end"),
        pytest.param({"answer": -1}, "answer: is -1, outside 0 to 4", id="negative"),
        pytest.param({"answer": "b"}, "answer: is 'b', not a whole number", id="text"),
        pytest.param({"answer": 1.0}, "answer: is 1.0", id="float"),
        pytest.param({"options": ["a", "b"]}, "options: are 2, not 5", id="two options"),
        pytest.param({"options": "abcde"}, "options: are 1, not 5", id="text for a list"),
        pytest.param({"options": ["a", "b", None, "d", "e"]}, r"options\[2\]: is null", id="null option"),
    ],
)  # fmt: skip
def test_answers_outside_the_choices_are_refused(tmp_path, change, message):
    with pytest.raises(SchemaError, match=message):
        mc(tmp_path, CHOICE | change)


def test_an_index_written_as_text_is_an_index(tmp_path):
    assert mc(tmp_path, CHOICE | {"answer": "1"}).questions[0].answer == "b"


def test_a_bad_line_of_json_lines_is_named_and_may_be_skipped(tmp_path):
    good = json.dumps(CHOICE)
    path = tmp_path / "msrvtt_mc_test.jsonl"
    path.write_text(f"{good}\n\n{{'qid'\n[1]\n{good.replace('mc0', 'mc1')}\n")
    with pytest.raises(SchemaError) as caught:
        find("msrvtt-mc").read(tmp_path)
    assert [str(p).split(":")[0] for p in caught.value.problems] == [
        "msrvtt_mc_test.jsonl line 3",
        "msrvtt_mc_test.jsonl line 4",
    ]
    read = find("msrvtt-mc").read(tmp_path, skip_bad_rows=True)
    assert [q.question_id for q in read.questions] == ["mc0", "mc1"]
    path.write_text(f"[{good}]")
    with pytest.raises(InputError, match="is a JSON array; one object a line is expected"):
        find("msrvtt-mc").read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"videoid\tpage_dir\tname\n1\tp\tA cat\n", r"lacks the columns videoid, page_dir, name.*seem to be separated by '\\t'; this data set's owners use ','", id="tabs"),
        pytest.param(b"1,p,A cat\n", "lacks the columns videoid.*first line has: '1', 'p', 'A cat'", id="no header"),
        pytest.param(b"", "its first line has: nothing", id="empty"),
        pytest.param(b"videoid,name,page_dir,name\n", r"has \['name'\] more than once", id="repeated column"),
        pytest.param("videoid,page_dir,name\n1,p,A cat\n".encode("utf-16"), "not UTF-8 text", id="utf-16"),
        pytest.param(b"videoid,page_dir,name\n1,p\n", "line 2: has 2 fields, not 3", id="short row"),
        pytest.param(b'videoid,page_dir,name\n1,p,"A cat\n', "line 2: unexpected end of data", id="open quote"),
        pytest.param(b"videoid,page_dir,name\n1,p,\x00\n", "text: is empty|name: is empty", id="NUL"),
        pytest.param(b"videoid,page_dir,name\n1,p," + b"x" * 200_000 + b"\n", "field larger than field limit", id="endless field"),
        pytest.param(b"videoid,page_dir,name\n", "hold 0 usable rows", id="no rows"),
    ],
)  # fmt: skip
def test_broken_tables_are_refused(tmp_path, content, message):
    with pytest.raises(VideoDistillError, match=f"(?s){message}"):
        webvid(tmp_path, content)


def test_columns_may_come_in_any_order_with_others_between(tmp_path):
    read = webvid(tmp_path, b",name,extra,videoid,page_dir\n0,A cat,x,1,p\n")
    assert [c.text for c in read.captions] == ["A cat"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("0\tu\t5\t4\tx\t[]\t[]", "end_s: is 4.0, not after start_s 5.0", id="backwards"),
        pytest.param("0\tu\t5\t5\tx\t[]\t[]", "end_s: is 5.0, not after", id="no length"),
        pytest.param("0\tu\tnan\t5\tx\t[]\t[]", "clip_start: is nan, not a finite number", id="NaN"),
        pytest.param("0\tu\t1\tinf\tx\t[]\t[]", "clip_end: is inf", id="infinite"),
        pytest.param("0\tu\t1\t1e999\tx\t[]\t[]", "clip_end: is inf", id="overflow"),
        pytest.param("0\tu\t1\t\tx\t[]\t[]", "clip_end: is '', not a number", id="empty"),
        pytest.param("0\tu\t1\t2\tx\t__import__('os').system('touch PWNED')\t[]", "tag_verb: is .*not a list of whole numbers", id="code"),
        pytest.param("0\tu\t1\t2\tx\t[]\t[__import__('os').getcwd()]", "tag_noun: is", id="code in a list"),
        pytest.param("0\tu\t1\t2\tx\t[]\t[1,,2]", "tag_noun: is", id="no list"),
        pytest.param("0\tu\t1\t2\tx\t[]\t[" + "9" * 40 + "]", "tag_noun: is", id="huge number"),
        pytest.param("0\t../../etc/passwd\t1\t2\tx\t[]\t[]", "is a path, not a file name", id="path as id"),
        pytest.param("0\t..\t1\t2\tx\t[]\t[]", None, id="dots are a name with an ending"),
    ],
)  # fmt: skip
def test_bounds_and_lists_are_checked_and_nothing_is_evaluated(tmp_path, monkeypatch, row, message):
    monkeypatch.chdir(tmp_path)
    if message is None:
        assert ego(tmp_path, row).clips[0].path == tmp_path / "videos" / "...mp4"
        return
    with pytest.raises(SchemaError, match=message):
        ego(tmp_path, row)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        pytest.param("-4wsuPCjDBc_5_15.avi", True, id="leading dash"),
        pytest.param("2|P1|120|840.mp4", True, id="pipes"),
        pytest.param("; touch x.mp4", True, id="a shell's words are no one's here"),
        pytest.param("", False, id="nothing"),
        pytest.param(".", False, id="here"),
        pytest.param("..", False, id="above"),
        pytest.param("a/b", False, id="slash"),
        pytest.param("a\\b", False, id="backslash"),
        pytest.param("C:x", False, id="drive"),
        pytest.param("a\0b", False, id="NUL"),
        pytest.param("a\nb", False, id="newline"),
        pytest.param("\u202egpj.exe", False, id="reversed"),
        pytest.param("é" * 127, True, id="254 bytes"),
        pytest.param("é" * 128, False, id="256 bytes"),
    ],
)
def test_names_that_may_become_files(part, allowed):
    assert (file_name_problem(part) is None) == allowed


def test_no_map_of_folders_leads_out_of_the_data_set(tmp_path):
    header = "video,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text(header)
    (tmp_path / "val.csv").write_text(header + "7,why,0,1,CW,a,b,c,d,e\n")
    for path in ("../../etc/passwd", "/etc/passwd", "a//b"):
        (tmp_path / "map_vid_vidorID.json").write_text(json.dumps({"7": path}))
        with pytest.raises(SchemaError, match="is no file name"):
            find("nextqa").read(tmp_path)
    (tmp_path / "map_vid_vidorID.json").write_text(json.dumps({"7": "1150/7"}))
    assert find("nextqa").read(tmp_path).clips[0].path == tmp_path / "videos" / "1150" / "7.mp4"


def _activitynet(root: Path, questions: object, answers: object) -> None:
    for split in ("train", "val", "test"):
        (root / f"{split}_q.json").write_text("[]")
        (root / f"{split}_a.json").write_text("[]")
    (root / "val_q.json").write_text(json.dumps(questions))
    (root / "val_a.json").write_text(json.dumps(answers))


def test_questions_and_answers_of_two_releases_are_refused(tmp_path):
    asked = [{"video_name": "v", "question": "why", "question_id": f"v_{n}"} for n in (1, 2)]
    given = [{"answer": "no", "type": 3, "question_id": f"v_{n}"} for n in (2, 3)]
    _activitynet(tmp_path, asked, given)
    with pytest.raises(
        SchemaError, match=r"question_id: is 'v_1', which val_a\.json does not answer"
    ):
        find("activitynet-qa").read(tmp_path)
    _activitynet(tmp_path, asked[1:], given)
    with pytest.raises(InputError, match=r"lacks the questions of 1 answers.*'v_3'"):
        find("activitynet-qa").read(tmp_path)
    _activitynet(tmp_path, asked[:1], [given[0] | {"type": 9, "question_id": "v_1"}])
    with pytest.raises(SchemaError, match=r"val_a\.json line 1\.type: is 9, outside 0 to 8"):
        find("activitynet-qa").read(tmp_path)


def test_a_video_that_the_mapping_does_not_name_is_refused(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}_qa.json").write_text(json.dumps([VTT]) if split == "val" else "[]")
    (tmp_path / "youtube_mapping.txt").write_text("abc_0_9 vid1\n")
    with pytest.raises(SchemaError, match=r"video_id: is 'vid7', which youtube_mapping.txt"):
        find("msvd-qa").read(tmp_path)
    (tmp_path / "youtube_mapping.txt").write_text("abc_0_9 vid1\ndef_0_9 vid1\n")
    with pytest.raises(InputError, match=r"youtube_mapping.txt, line 2: 'def_0_9 vid1'"):
        find("msvd-qa").read(tmp_path)


def test_a_refused_row_does_not_take_its_clip_along(tmp_path):
    read = vtt(tmp_path, [VTT | {"answer": None}, VTT | {"id": 6}], skip_bad_rows=True)
    assert [clip.clip_id for clip in read.clips] == ["video7"]


def test_one_id_for_two_clips_is_refused(tmp_path):
    row = {"video_id": "v", "clip": [{"clip_id": "c", "span": ["00:00:01", "00:00:02"]}]}
    other = {"video_id": "w", "clip": row["clip"]}
    (tmp_path / "meta_part0.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n")
    with pytest.raises(SchemaError, match="'c' stands for two different clips"):
        find("hd-vila").read(tmp_path)


@pytest.mark.parametrize("span", [["00:00:01"], ["0:1", "0:2"], ["00:61:00", "00:62:00"], [1, 2]])
def test_times_that_are_none_are_refused(tmp_path, span):
    row = {"video_id": "v", "clip": [{"clip_id": "c", "span": span}]}
    (tmp_path / "meta_part0.jsonl").write_text(json.dumps(row))
    with pytest.raises(SchemaError, match="span"):
        find("hd-vila").read(tmp_path)


def test_nothing_usable_is_an_error_and_leaves_no_tables(tmp_path):
    with pytest.raises(InputError, match="0 usable rows"):
        vtt(tmp_path, [])
    with pytest.raises(SchemaError, match=r"(?s)0 usable rows.*answer: is null"):
        vtt(tmp_path, [VTT | {"answer": None}], skip_bad_rows=True)
    with pytest.raises(SchemaError, match="0 usable rows"):
        prepare(find("msrvtt-qa"), tmp_path, skip_bad_rows=True)
    assert not list(tmp_path.rglob("*.parquet"))


def test_answers_that_training_does_not_have_are_wrong_and_their_share_is_told(tmp_path):
    vtt(tmp_path, [VTT])
    (tmp_path / "test_qa.json").write_text(
        json.dumps([VTT | {"id": 6, "answer": "cat"}, VTT | {"id": 7}])
    )
    said = [str(f) for f in check(find("msrvtt-qa"), tmp_path).findings]
    assert any("1 of 2 test answers (50.0 %) are not among the training answers" in s for s in said)
    assert Vocabulary.from_answers(["dog"], 10).classes(["cat"]).tolist() == [UNKNOWN]


def test_overlap_of_splits_is_told(tmp_path):
    vtt(tmp_path, [VTT])
    (tmp_path / "test_qa.json").write_text(
        json.dumps([VTT | {"id": 6}, VTT | {"id": 7, "question": "who?"}])
    )
    said = [str(f) for f in check(find("msrvtt-qa"), tmp_path).findings]
    assert "notice: 1 clips are in train and in test" in said
    assert "notice: 1 questions are in train and in test" in said


def test_videos_that_are_not_there_are_counted(tmp_path):
    vtt(tmp_path, [VTT, VTT | {"id": 6, "video_id": 8}])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "video7.webm").touch()
    checked = check(find("msrvtt-qa"), tmp_path)
    assert (checked.clips, checked.clips_with_video) == (2, 1)
    assert any("1 of 2 clips have no video" in str(f) for f in checked.findings)
