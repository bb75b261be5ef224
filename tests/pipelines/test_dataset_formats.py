"""Every adapter on files in its data set's documented shape, written by us."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cache_schema import Question
from pipelines.data_check import check
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find, known
from pipelines.prepared import load, prepare


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A data set in miniature and what has to come of it."""

    files: dict[str, str]
    clips: dict[str, tuple[str, float | None, float | None]]
    rows: dict[str, tuple[object, ...]]
    """Question id -> (clips, question, answer, split, candidates, answer index, tags), or caption id
    -> (clip, text, split, tags)."""
    noted: dict[str, int] = field(default_factory=dict)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def egotask(number: int, **changes: object) -> dict[str, object]:
    return {
        "question": "Is the other person aware when the person gets water from dispenser?",
        "answer": "yes",
        "type": ["descriptive", "explanatory"],
        "category": ["world", "multi-agent"],
        "semantic": "state",
        "structural": "verify",
        "reference": "direct",
        "step": 3,
        "program": "query([aware], x)",
        "interval": "2|P1|120|840",
        "video_id": 0,
        "question_id": number,
        "reasoning_type": "descriptive$world$state$verify$direct",
    } | changes


EGOTASK_TAGS = (
    "type:descriptive", "type:explanatory", "scope:world", "scope:multi-agent", "semantic:state",
    "structural:verify", "reference:direct",
)  # fmt: skip


def egotask_shape(release: str) -> Shape:
    return Shape(
        files={
            f"qa/{release}/train_qas.json": json.dumps([egotask(7), egotask(8, answer="no")]),
            f"qa/{release}/val_qas.json": json.dumps([egotask(9)]),
            f"qa/{release}/test_qas.json": json.dumps([egotask(7, interval="2|P2|0|24")]),
        },
        clips={
            "2|P1|120|840": ("videos/2|P1|120|840.mp4", None, None),
            "2|P2|0|24": ("videos/2|P2|0|24.mp4", None, None),
        },
        rows={
            "train-7": (("2|P1|120|840",), egotask(0)["question"], "yes", "train", (), -1, EGOTASK_TAGS),
            "train-8": (("2|P1|120|840",), egotask(0)["question"], "no", "train", (), -1, EGOTASK_TAGS),
            "val-9": (("2|P1|120|840",), egotask(0)["question"], "yes", "val", (), -1, EGOTASK_TAGS),
            "test-7": (("2|P2|0|24",), egotask(0)["question"], "yes", "test", (), -1, EGOTASK_TAGS),
        },
    )  # fmt: skip


def vtt(number: int, video: int, question: str, answer: str) -> dict[str, object]:
    return {
        "answer": answer,
        "category_id": 14,
        "id": number,
        "question": question,
        "video_id": video,
    }


def ego(video: str, start: float, end: float, text: str = "#C C picks a cup") -> dict[str, object]:
    return {
        "video_uid": video, "clip_start": start, "clip_end": end, "clip_text": text,
        "tag_verb": ["93"], "tag_noun": ["192"],
    }  # fmt: skip


def mcq(types: int, *videos: str) -> dict[str, object]:
    clips = {str(n): ego(video, n + 0.5, n + 1.25) for n, video in enumerate(videos)}
    return {
        "answer": 3,
        "types": types,
        "query": clips["3"] | {"clip_text": "#C C opens a door"},
        "choices": clips,
    }


def star_choice(number: int, text: str) -> dict[str, object]:
    return {"choice_id": number, "choice": text, "choice_program": []}


STAR_RECORD = {
    "question_id": "Interaction_T1_13",
    "question": "Which object was tidied up by the person?",
    "video_id": "6H78U",
    "start": 11.1,
    "end": 19.6,
    "answer": "The clothes.",
    "question_program": [],
    "situations": {"000198": {}},
    "choices": [
        star_choice(0, "The closet/cabinet."),
        star_choice(1, "The blanket."),
        star_choice(2, "The clothes."),
        star_choice(3, "The table."),
    ],
}
STAR_CHOICES = ("The closet/cabinet.", "The blanket.", "The clothes.", "The table.")
NEXT_HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
OPEN_HEADER = "video,frame_count,width,height,question,answer,qid,type\n"
SCHEMA = {f"option {n}": f"C does {n}" for n in range(5)}
EGO_HEADER = "clip_idx\tvideo_uid\tvideo_dur\tnarration_source\tnarration_ind\tnarration_time\tclip_start\tclip_end\tclip_text\ttag_verb\ttag_noun\n"
INTER = [f"v{n}@{n + 0.5}-{n + 1.25}" for n in range(5)]
INTRA = [f"v9@{n + 0.5}-{n + 1.25}" for n in range(5)]

SHAPES: dict[str, Shape] = {
    "egotaskqa": egotask_shape("direct"),
    "egotaskqa-indirect": egotask_shape("indirect"),
    "msrvtt-qa": Shape(
        files={
            "train_qa.json": json.dumps([vtt(0, 0, "what is a man doing?", "drive")]),
            "val_qa.json": json.dumps([vtt(158581, 6513, "Who  is\tsinging?", "girl")]),
            "test_qa.json": json.dumps([vtt(170859, 7010, "is it red?", "yes")]),
        },
        clips={v: (f"videos/{v}.mp4", None, None) for v in ("video0", "video6513", "video7010")},
        rows={
            "0": (("video0",), "what is a man doing?", "drive", "train", (), -1, ("type:what", "category:14")),
            "158581": (("video6513",), "Who is singing?", "girl", "val", (), -1, ("type:who", "category:14")),
            "170859": (("video7010",), "is it red?", "yes", "test", (), -1, ("type:other", "category:14")),
        },
    ),
    "msvd-qa": Shape(
        files={
            "train_qa.json": json.dumps([{"answer": "someone", "id": 0, "question": "how many?", "video_id": 1}]),
            "val_qa.json": "[]",
            "test_qa.json": json.dumps([{"answer": "cat", "id": 9, "question": "where?", "video_id": 1451}]),
            "youtube_mapping.txt": "-4wsuPCjDBc_5_15 vid1\nab_cd_0_9 vid1451\n",
        },
        clips={
            "vid1": ("videos/-4wsuPCjDBc_5_15.avi", None, None),
            "vid1451": ("videos/ab_cd_0_9.avi", None, None),
        },
        rows={
            "0": (("vid1",), "how many?", "someone", "train", (), -1, ("type:how",)),
            "9": (("vid1451",), "where?", "cat", "test", (), -1, ("type:where",)),
        },
    ),
    "msrvtt-mc": Shape(
        files={
            "msrvtt_retrieval_mc_test.jsonl": lines(
                {"qid": "mc0", "clip_name": "video7010", "answer": "2", "options": ["a", "b", "c", "d", "e"]},
                {"qid": "mc1", "clip_name": "video7011", "answer": 0, "options": ["a", "a", "c", "d", "e"]},
            )
        },
        clips={v: (f"videos/{v}.mp4", None, None) for v in ("video7010", "video7011")},
        rows={
            "mc0": (("video7010",), "which caption describes the video?", "c", "test", tuple("abcde"), 2, ()),
            "mc1": (("video7011",), "which caption describes the video?", "a", "test", tuple("aacde"), 0, ()),
        },
    ),
    "egomcq": Shape(
        files={"egomcq.json": json.dumps({"0": mcq(1, "v0", "v1", "v2", "v3", "v4"), "1": mcq(1, *["v9"] * 5)})},
        clips={name: ("videos/" + name.partition("@")[0] + ".mp4", n % 5 + 0.5, n % 5 + 1.25) for n, name in enumerate([*INTER, *INTRA])},
        rows={
            "0": (tuple(INTER), "#C C opens a door", INTER[3], "test", (), 3, ("type:inter",)),
            "1": (tuple(INTRA), "#C C opens a door", INTRA[3], "test", (), 3, ("type:intra",)),
        },
        noted={"are of another type than their five videos show; the videos count": 1},
    ),
    "msrvtt-retrieval": Shape(
        files={
            "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person, connecting\n".replace("person, connecting", '"person, connecting"').replace('a "person', '"a person'),
            "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\n",
            "MSRVTT_data.json": json.dumps({
                "info": {"year": "2016"},
                "videos": [{"video_id": "video0", "url": "x"}],
                "sentences": [
                    {"caption": "a car is shown", "video_id": "video0", "sen_id": 4},
                    {"caption": "a test video", "video_id": "video9770", "sen_id": 5},
                    {"caption": "two cars", "video_id": "video1", "sen_id": 6},
                ],
            }),
        },
        clips={v: (f"videos/{v}.mp4", None, None) for v in ("video9770", "video0", "video1")},
        rows={
            "ret0": ("video9770", "a person, connecting", "test", ()),
            "sentence4": ("video0", "a car is shown", "train", ()),
            "sentence6": ("video1", "two cars", "train", ()),
        },
    ),
    "webvid": Shape(
        files={
            "results_2M_train.csv": "videoid,contentUrl,duration,page_dir,name\n"
            '0012,http://x/y.mp4,PT00H00M10S,000001_000050,"Sea, seen from above"\n'
            "13,http://x/z.mp4,PT00H00M10S,000001_000050,\n",
            "results_2M_val.csv": "videoid,name,page_idx,page_dir,duration,contentUrl\n1e5,A cat.,1,000051_000100,PT00H00M05S,http://x\n",
        },
        clips={
            "0012": ("videos/000001_000050/0012.mp4", None, None),
            "1e5": ("videos/000051_000100/1e5.mp4", None, None),
        },
        rows={
            "0012": ("0012", "Sea, seen from above", "train", ()),
            "1e5": ("1e5", "A cat.", "val", ()),
        },
        noted={"left out: no caption": 1},
    ),
    "hd-vila": Shape(
        files={
            "meta_part0.jsonl": lines({"video_id": "QMi8x8o55Ns", "url": "https://x", "clip": [
                {"clip_id": "QMi8x8o55Ns.1.mp4", "span": ["00:00:17.759", "00:00:23.279"]},
                {"clip_id": "QMi8x8o55Ns.16.mp4", "span": ["01:04:52.140", "01:05:03.350"]},
            ]}),
            "text_part0.jsonl": lines(
                {"clip_id": "QMi8x8o55Ns.1.mp4", "text": "so today\nwe cook"},
                {"clip_id": "other.1.mp4", "text": "elsewhere"},
            ),
        },
        clips={
            "QMi8x8o55Ns.1.mp4": ("videos/QMi8x8o55Ns.mp4", 17.759, 23.279),
            "QMi8x8o55Ns.16.mp4": ("videos/QMi8x8o55Ns.mp4", 3892.14, 3903.35),
        },
        rows={"QMi8x8o55Ns.1.mp4": ("QMi8x8o55Ns.1.mp4", "so today we cook", "train", ())},
        noted={"left out: text of a clip that the metadata does not have": 1},
    ),
    "egoclip": Shape(
        files={
            "egoclip.csv": EGO_HEADER
            + "0\tuid\t128.03\tnarration_pass_1\t0\t3.34\t2.967651\t3.721266\t#C C picks a bag\t[93]\t[192, 115, 12]\n"
            + "1\tuid\t128.03\tnarration_pass_1\t1\t0.1\t-0.25\t0.5\t#C C looks\t[]\t[ ]\n"
        },
        clips={
            "uid@2.967651-3.721266": ("videos/uid.mp4", 2.967651, 3.721266),
            "uid@0.0-0.5": ("videos/uid.mp4", 0.0, 0.5),
        },
        rows={
            "0": ("uid@2.967651-3.721266", "#C C picks a bag", "train", ("verb:93", "noun:192", "noun:115", "noun:12")),
            "1": ("uid@0.0-0.5", "#C C looks", "train", ()),
        },
        noted={"begin before their video; cut to its start": 1},
    ),
    "nextqa": Shape(
        files={
            "train.csv": NEXT_HEADER + "4010069381,369,640,480,how do they play,0,6,CH,a,b,c,d,e\n",
            "val.csv": NEXT_HEADER,
            "test.csv": NEXT_HEADER + "77,2697,640,480,why did he go,4,1,TP,a,b,c,d,e\n",
            "map_vid_vidorID.json": json.dumps({"4010069381": "1150/4010069381"}),
        },
        clips={
            "4010069381": ("videos/1150/4010069381.mp4", None, None),
            "77": ("videos/77.mp4", None, None),
        },
        rows={
            "4010069381_6": (("4010069381",), "how do they play", "a", "train", tuple("abcde"), 0, ("type:CH", "group:causal")),
            "77_1": (("77",), "why did he go", "e", "test", tuple("abcde"), 4, ("type:TP", "group:temporal")),
        },
    ),
    "nextqa-open": Shape(
        files={
            "open/train.csv": OPEN_HEADER + "3233088823,462,640,480,how is it controlled,from the cabin,3,CH\n",
            "open/val.csv": OPEN_HEADER,
            "open/test.csv": OPEN_HEADER + "3,1,1,1,where is this,kitchen,7,DL\n",
        },
        clips={v: (f"videos/{v}.mp4", None, None) for v in ("3233088823", "3")},
        rows={
            "3233088823_3": (("3233088823",), "how is it controlled", "from the cabin", "train", (), -1, ("type:CH", "group:causal")),
            "3_7": (("3",), "where is this", "kitchen", "test", (), -1, ("type:DL", "group:descriptive")),
        },
    ),
    "intentqa": Shape(
        files={
            f"intentqa/{split}.csv": "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4,action,lemma,lemma_id\n" + row
            for split, row in (("train", "138,853,640,360,how did he not fall,4,1,CH,jump,nod,push,play,balance,left,leave,130\n"), ("val", ""), ("test", ""))
        },
        clips={"138": ("videos/138.mp4", None, None)},
        rows={"138_1": (("138",), "how did he not fall", "balance", "train", ("jump", "nod", "push", "play", "balance"), 4, ("type:CH", "group:causal"))},
    ),
    "activitynet-qa": Shape(
        files={
            "train_q.json": json.dumps([{"video_name": "-bcdef", "question": "is it indoors", "question_id": "v_-bcdef_1"}]),
            "train_a.json": json.dumps([{"answer": "yes", "type": 3, "question_id": "v_-bcdef_1"}]),
            "val_q.json": json.dumps([{"video_name": "b", "question": "what happens", "question_id": "b_1"}]),
            "val_a.json": json.dumps([{"answer": "run", "type": "0", "question_id": "b_1"}]),
            "test_q.json": "[]",
            "test_a.json": "[]",
        },
        clips={"-bcdef": ("videos/v_-bcdef.mp4", None, None), "b": ("videos/v_b.mp4", None, None)},
        rows={
            "v_-bcdef_1": (("-bcdef",), "is it indoors", "yes", "train", (), -1, ("type:yes-no", "group:free")),
            "b_1": (("b",), "what happens", "run", "val", (), -1, ("type:motion", "group:motion")),
        },
    ),
    "star": Shape(
        files={"STAR_train.json": json.dumps([STAR_RECORD]), "STAR_val.json": "[]"},
        clips={"6H78U@11.1-19.6": ("videos/6H78U.mp4", 11.1, 19.6)},
        rows={"Interaction_T1_13": (("6H78U@11.1-19.6",), STAR_RECORD["question"], "The clothes.", "train", STAR_CHOICES, 2, ("type:interaction",))},
    ),
    "how2qa": Shape(
        files={
            "how2QA_train_release.csv": 'vid1,[10:25.5],wrong a,"wrong, b",wrong c,what is it?,right\n',
            "how2QA_val_release.csv": "vid1,[10:25.5],x,y,z,and this?,w\n",
        },
        clips={"vid1@10.0-25.5": ("videos/vid1.mp4", 10.0, 25.5)},
        rows={
            "train-1": (("vid1@10.0-25.5",), "what is it?", "right", "train", ("wrong a", "wrong, b", "wrong c", "right"), 3, ()),
            "val-1": (("vid1@10.0-25.5",), "and this?", "w", "val", ("w", "x", "y", "z"), 0, ()),
        },
    ),
    "egoschema": Shape(
        files={
            "questions.json": json.dumps([{"q_uid": "u1", "google_drive_id": "g", "question": "What does C do?", **SCHEMA}, {"q_uid": "u2", "google_drive_id": "g", "question": "Why?", **SCHEMA}]),
            "subset_answers.json": json.dumps({"u1": 3}),
        },
        clips={"u1": ("videos/u1.mp4", None, None)},
        rows={"u1": (("u1",), "What does C do?", "C does 3", "test", tuple(SCHEMA.values()), 3, ())},
        noted={"left out: the answer is not public": 1},
    ),
    "tgif-qa-action": Shape(
        files={
            f"{part}_action_question.csv": "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\tvid_id\tkey\n" + row
            for part, row in (("Train", ""), ("Test", "tumblr_nk1_250\tWhat does the butterfly do 10 times ?\tstuff\tholds\tfall\ttalk\tflap wings\t4\tACTION4\t26\n"))
        },
        clips={"tumblr_nk1_250": ("gifs/tumblr_nk1_250.gif", None, None)},
        rows={"test-ACTION4": (("tumblr_nk1_250",), "What does the butterfly do 10 times ?", "flap wings", "test", ("stuff", "holds", "fall", "talk", "flap wings"), 4, ())},
    ),
    "tgif-qa-frameqa": Shape(
        files={
            f"{part}_frameqa_question.csv": "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n" + row
            for part, row in (("Train", ""), ("Test", "tumblr_no7_250\twhat is placed in the cone ?\tcookie\t0\tFRAMEQA1159\t27138\ta cookie is placed .\n"))
        },
        clips={"tumblr_no7_250": ("gifs/tumblr_no7_250.gif", None, None)},
        rows={"test-FRAMEQA1159": (("tumblr_no7_250",), "what is placed in the cone ?", "cookie", "test", (), -1, ("type:object",))},
    ),
    "tgif-qa-count": Shape(
        files={
            f"{part}_count_question.csv": "gif_name\tquestion\tanswer\tvid_id\tkey\n" + row
            for part, row in (("Train", ""), ("Test", "tumblr_nez_250\tHow many times ?\t3\tCOUNT12\t52\n"))
        },
        clips={"tumblr_nez_250": ("gifs/tumblr_nez_250.gif", None, None)},
        rows={"test-COUNT12": (("tumblr_nez_250",), "How many times ?", "3", "test", (), -1, ())},
    ),
    "charades-sta": Shape(
        files={
            "charades_sta_train.txt": "3MSZA 24.3 30.4##person turn a light on.\n",
            "charades_sta_test.txt": "AO8RW 0.0 6.9##a person is ## putting a book\n",
        },
        clips={
            "3MSZA@24.3-30.4": ("videos/3MSZA.mp4", 24.3, 30.4),
            "AO8RW@0.0-6.9": ("videos/AO8RW.mp4", 0.0, 6.9),
        },
        rows={
            "train-1": ("3MSZA@24.3-30.4", "person turn a light on.", "train", ()),
            "test-1": ("AO8RW@0.0-6.9", "a person is ## putting a book", "test", ()),
        },
    ),
}  # fmt: skip
SHAPES["msrvtt-retrieval-7k"] = Shape(
    files={
        name.replace("9k", "7k"): text for name, text in SHAPES["msrvtt-retrieval"].files.items()
    },
    clips=SHAPES["msrvtt-retrieval"].clips,
    rows=SHAPES["msrvtt-retrieval"].rows,
)
SHAPES["webvid-10m"] = Shape(
    files={name.replace("2M", "10M"): text for name, text in SHAPES["webvid"].files.items()},
    clips=SHAPES["webvid"].clips,
    rows=SHAPES["webvid"].rows,
    noted=SHAPES["webvid"].noted,
)
SHAPES["tgif-qa-transition"] = Shape(
    files={
        name.replace("action", "transition"): text
        for name, text in SHAPES["tgif-qa-action"].files.items()
    },
    clips=SHAPES["tgif-qa-action"].clips,
    rows=SHAPES["tgif-qa-action"].rows,
)
ELSEWHERE = {"demo", "demo-shortcut", "demo-choices", "demo-captions", "custom", "agqa"}


def write(root: Path, shape: Shape) -> Path:
    for name, text in shape.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def found_rows(read: Annotations) -> dict[str, tuple[object, ...]]:
    rows: dict[str, tuple[object, ...]] = {
        q.question_id: (
            q.clips,
            q.question,
            q.answer,
            q.split,
            q.candidates,
            q.answer_index,
            q.tags,
        )
        for q in read.questions
    }
    return rows | {c.caption_id: (c.clip_id, c.text, c.split, c.tags) for c in read.captions}


def without_held_out(rows: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Which training videos are held out is another test's business."""
    return {
        name: tuple("train" if value == "val" else value for value in row)
        for name, row in rows.items()
    }


def test_every_data_set_has_a_shape_here_or_tests_of_its_own():
    assert SHAPES.keys() | ELSEWHERE == known().keys()


@pytest.mark.parametrize("way", ["read", "prepared"])
@pytest.mark.parametrize("name", SHAPES)
def test_documented_shape(name: str, way: str, tmp_path: Path):
    shape = SHAPES[name]
    dataset, root = find(name), write(tmp_path, shape)
    if way == "prepared":
        made = prepare(dataset, root)
        assert (made.clips, made.questions + made.captions) == (len(shape.clips), len(shape.rows))
    read: Annotations = load(dataset, root)
    assert {
        c.clip_id: (c.path.relative_to(root).as_posix(), c.start_s, c.end_s) for c in read.clips
    } == shape.clips
    compared: Callable[[dict[str, tuple[object, ...]]], object] = (
        without_held_out if "held out" in dataset.splits else dict
    )
    assert compared(found_rows(read)) == compared(shape.rows)
    assert read.noted == shape.noted


@pytest.mark.parametrize("name", SHAPES)
def test_every_tag_is_of_a_declared_kind(name: str, tmp_path: Path):
    dataset = find(name)
    read = dataset.read(write(tmp_path, SHAPES[name]))
    tags = {tag for row in (*read.questions, *read.captions) for tag in row.tags}
    assert {tag.partition(":")[0] for tag in tags} == dataset.tags.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_a_check_tells_the_miniature_from_the_whole(name: str, tmp_path: Path):
    checked = check(find(name), write(tmp_path, SHAPES[name]))
    said = [str(finding) for finding in checked.findings]
    assert checked.clips == len(SHAPES[name].clips)
    assert checked.clips_with_video == 0
    assert any("have no video" in line for line in said)
    published = [count for count in checked.counts if count.published is not None]
    assert all(
        any(f"published: {count.published:,}" in line for line in said) for count in published
    )
    assert not any("rows are refused" in line for line in said)


def test_the_choice_among_clips_is_a_question_about_them(tmp_path: Path):
    question = find("egomcq").read(write(tmp_path, SHAPES["egomcq"])).questions[0]
    assert isinstance(question, Question)
    assert question.choices == question.clip_ids
    assert question.choices[question.answer_index] == question.answer


def test_ambiguous_choices_are_pointed_out(tmp_path: Path):
    checked = check(find("msrvtt-mc"), write(tmp_path, SHAPES["msrvtt-mc"]))
    assert any("1 questions with the same choice twice: mc1" in str(f) for f in checked.findings)


def test_the_first_line_of_a_file_without_header_is_a_question(tmp_path: Path):
    read = find("how2qa").read(write(tmp_path, SHAPES["how2qa"]))
    assert read.questions[0].question == "what is it?"
