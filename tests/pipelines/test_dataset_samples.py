"""Every adapter on the real annotation file of its data set, where one lies beside the project."""

import json
import shutil
from pathlib import Path

import pytest

from cache_schema import Caption, Question
from cache_schema.errors import InputError, SchemaError
from pipelines.data_check import check
from pipelines.datasets.agqa import REASONING
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find


def _folder(root: Path, files: dict[str, Path | str]) -> Path:
    for name, content in files.items():
        if isinstance(content, Path):
            shutil.copyfile(content, root / name)
        else:
            (root / name).write_text(content)
    return root


def _questions(read: Annotations, *numbers: int) -> list[tuple[str, ...]]:
    rows = [read.questions[number] for number in numbers]
    return [(q.question_id, q.clip_id, q.question, q.answer, q.split) for q in rows]


def test_msvd_qa(tmp_path, sample):
    read = find("msvd-qa").read(
        _folder(
            tmp_path,
            {
                "val_qa.json": sample("msvd_qa_val.json"),
                "youtube_mapping.txt": sample("msvd_youtube_mapping.txt"),
                "train_qa.json": "[]",
                "test_qa.json": "[]",
            },
        )
    )
    assert (len(read.questions), len(read.clips)) == (6_415, 245)
    assert {q.clip_id for q in read.questions} == {c.clip_id for c in read.clips}
    assert _questions(read, 0, 1, 2) == [
        (
            "30933",
            "vid1201",
            "who pours liquid from a plastic container into a ziploc bag containing meat pieces?",
            "someone",
            "val",
        ),
        (
            "30934",
            "vid1201",
            (
                "who pours a seasoning liquid from a plastic container over chicken pieces placed in a "
                "plastic pouch?"
            ),
            "man",
            "val",
        ),
        ("30935", "vid1201", "who pours marinade in a bag of chicken?", "person", "val"),
    ]
    assert read.clips[0].path == tmp_path / "videos" / "bQJQGoJF7_k_162_169.avi"
    words = [q.tags[0] for q in read.questions]
    # What simply answering "man" is worth is a published figure of the split.
    assert {*words} == {"type:what", "type:who", "type:how", "type:when", "type:where"}


def test_msrvtt_mc(tmp_path, sample):
    read = find("msrvtt-mc").read(
        _folder(tmp_path, {"msrvtt_mc_test.jsonl": sample("msrvtt_mc_test.jsonl")})
    )
    assert (len(read.questions), len(read.clips)) == (2_990, 2_990)
    assert all(len(q.candidates) == 5 and q.split == "test" for q in read.questions)
    assert [(q.question_id, q.clip_id, q.answer_index, q.answer) for q in read.questions[:3]] == [
        ("mc0", "video9770", 0, "the boy is trying to fix the problem"),
        ("mc1", "video9771", 2, "a young girl is in the gym"),
        ("mc2", "video7020", 2, "a woman wraps a baby doll in some fake leaves"),
    ]


def test_msrvtt_retrieval(tmp_path, sample):
    root = _folder(
        tmp_path,
        {
            "MSRVTT_JSFUSION_test.csv": sample("msrvtt_jsfusion_test.csv"),
            "MSRVTT_train.9k.csv": "video_id\n",
            "MSRVTT_data.json": '{"videos": [], "sentences": []}',
        },
    )
    read = find("msrvtt-retrieval").read(root)
    assert (len(read.captions), len(read.clips), len(read.questions)) == (1_000, 1_000, 0)
    assert list(read.captions[:3]) == [
        Caption(caption_id=name, clip_id=clip, text=text, split="test")
        for name, clip, text in (
            ("ret0", "video9770", "a person is connecting something to system"),
            ("ret1", "video9771", "a little girl does gymnastics"),
            ("ret2", "video7020", "a woman creating a fondant baby and flower"),
        )
    ]


def test_nextqa(tmp_path, sample):
    header = sample("nextqa_val.csv").read_text().splitlines()[0]
    root = _folder(
        tmp_path,
        {"val.csv": sample("nextqa_val.csv"), "train.csv": header, "test.csv": header},
    )
    read = find("nextqa").read(root)
    assert (len(read.questions), len(read.clips)) == (4_996, 570)
    assert _questions(read, 0, 1, 2) == [
        ("4010069381_6", "4010069381", "how do the two man play the instrument", "roll the handle", "val"),
        (
            "4882821564_1",
            "4882821564",
            "why did the boy pick up one present from the group of them and move to the sofa",
            "unwrap it",
            "val",
        ),
        (
            "2435100235_7",
            "2435100235",
            "how does the man cycling try to sell the watch to the man in the trishaw",
            "show him the watch",
            "val",
        ),
    ]  # fmt: skip
    said = [str(finding) for finding in check(find("nextqa"), root).findings]
    assert any("3 questions with the same choice twice" in line for line in said)


def test_webvid(tmp_path, sample):
    real = sample("webvid_results_2M_val.csv")
    root = _folder(
        tmp_path,
        {
            "results_2M_val.csv": real,
            "results_2M_train.csv": real.read_text().splitlines()[0],
        },
    )
    read = find("webvid").read(root)
    assert (len(read.captions), len(read.clips)) == (9, 9)
    assert {c.split for c in read.captions} == {"val"}
    texts = {c.clip_id: c.text for c in read.captions}
    assert texts["5641526"] == "Horse grazing - seperated on green screen"
    assert texts["1019039938"] == "City traffic lights. blurred view"
    assert texts["1020335461"].endswith("medieval town essaouira, morocco")  # a comma in quotes
    assert read.clips[1].path == tmp_path / "videos" / "054101_054150" / "5641526.mp4"


def test_egoclip(tmp_path, sample):
    root = _folder(tmp_path, {"egoclip.csv": sample("egoclip_sample_from_readme.csv")})
    read = find("egoclip").read(root)
    (caption,), (clip,) = read.captions, read.clips
    assert caption.text == "#C C picks a bag of clothes from the floor"
    assert caption.tags == ("verb:93", "noun:192", "noun:115", "noun:12")
    assert (clip.start_s, clip.end_s) == (2.967651, 3.721266)
    assert clip.path.name == "001e3e4e-2743-47fc-8564-d5efd11f9e90.mp4"


def test_hd_vila(tmp_path, sample):
    root = _folder(tmp_path, {"meta_part0.jsonl": sample("hdvila_sample_from_readme.jsonl")})
    read = find("hd-vila").read(root)
    assert [(c.clip_id, c.start_s, c.end_s) for c in read.clips] == [
        ("QMi8x8o55Ns.1.mp4", 17.759, 23.279),
        ("QMi8x8o55Ns.16.mp4", 292.14, 303.35),
    ]
    assert len(read.captions) == 0


def test_the_published_agqa_sample_is_refused_with_the_place_and_the_mend(tmp_path, sample):
    real = sample("agqa_test_balanced_example.json")
    root = _folder(tmp_path, {"train_balanced.txt": "{}", "test_balanced.txt": real})
    with pytest.raises(InputError) as caught:
        find("agqa").read(root)
    message = str(caught.value)
    assert f"{root / 'test_balanced.txt'}, line 198, column 1" in message
    assert "The 4 entries before it are whole: the file is mended by deleting" in message
    # Mended as the message says, its four records are read.
    text = real.read_text()
    (root / "test_balanced.txt").write_text("\n".join(text.split("\n")[:197]))
    read = find("agqa").read(root)
    first = read.questions[0]
    assert (first.question_id, first.clip_id, first.answer) == ("YSKX3-8", "YSKX3", "no")
    assert len(read.questions) == 4
    assert {"type:exists", "semantic:object", "structural:verify", "answer:binary"} <= {*first.tags}
    last = read.questions[3]
    assert {"novel:sequencing", "reference:indirect", "indirect:object", "direct:LSKA2-2198"} <= {
        *last.tags
    }
    records = json.loads((root / "test_balanced.txt").read_text())
    assert all(word in REASONING for record in records.values() for word in record["global"])


def test_the_egoschema_sample_lacks_its_questions_and_says_so(tmp_path, sample):
    real = sample("egoschema_questions_sample.json")
    names = [record["q_uid"] for record in json.loads(real.read_text())]
    root = _folder(
        tmp_path,
        {
            "questions.json": real,
            "subset_answers.json": json.dumps({name: n for n, name in enumerate(names)}),
        },
    )
    with pytest.raises(
        SchemaError, match=r"(?s)3 problems.*question: is missing \(there are: 'q_uid'"
    ):
        find("egoschema").read(root)
    records = [r | {"question": "What is C doing?"} for r in json.loads(real.read_text())]
    (root / "questions.json").write_text(json.dumps(records))
    read = find("egoschema").read(root)
    assert [(q.question_id, q.answer) for q in read.questions] == [
        (record["q_uid"], record[f"option {n}"]) for n, record in enumerate(records)
    ]
    assert isinstance(read.questions[2], Question)
