"""Every data set's score against numbers counted by hand, through its own adapter where its form matters."""

import csv
import io
import json
import random

import pytest

from cache_schema import Question
from cache_schema.errors import InputError
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find, known
from pipelines.scores import published_quirks
from pipelines.scores.answered import Answered, answer_split, reported_split
from pipelines.scores.official import OFFICIAL, score_of
from pipelines.scores.score_report import describe_score, score


def asked(name, *tags, answer="yes", split="test", choices=(), place=-1, clips=()):
    return Question(
        question_id=name, clip_id=clips[0] if clips else "c", question="?", answer=answer, split=split,
        tags=tags, candidates=choices, answer_index=place, clip_ids=clips,
    )  # fmt: skip


def scored(dataset, questions, given, tmp_path, **options):
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given))
    found = Annotations(clips=[], questions=questions)
    return score(find(dataset), found, path, **options)


def numbers(report):
    """Key -> (value, questions) of every row."""
    rows = [row for section in report.sections.values() for row in section]
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: (row.value, row.questions) for row in rows}


def test_a_question_counts_in_each_of_its_tags(tmp_path):
    questions = [
        asked("a", "type:exists", "type:sequencing", "semantic:object"),
        asked("b", "type:exists", "semantic:action"),
        asked("c", "semantic:action"),
    ]
    found = numbers(scored("agqa", questions, {"a": "yes", "b": "no", "c": "no"}, tmp_path))
    assert found == {
        "all": (1 / 3, 3),
        "type:exists": (0.5, 2),
        "type:sequencing": (1.0, 1),
        "semantic:object": (1.0, 1),
        "semantic:action": (0.0, 2),
    }


def test_agqa_is_counted_as_its_files_are(tmp_path, write_agqa, agqa_record):
    """A slow count on the raw records: `in global`, `==`, in the manner of AGQA's README."""
    rng = random.Random(3)
    words = ["obj-rel", "rel-act", "obj-act", "superlative", "sequencing", "exists"]
    words += ["duration-comparison", "action-recognition"]
    raw = {
        f"Q{n}": agqa_record | {
            "global": rng.sample(words, rng.randint(1, 3)),
            "semantic": rng.choice(["object", "relation", "action"]),
            "structural": rng.choice(["query", "compare", "choose", "logic", "verify"]),
            "ans_type": rng.choice(["binary", "open"]),
            "answer": rng.choice(["yes", "no", "Yes"]),
        }
        for n in range(60)
    }  # fmt: skip
    given = {name: rng.choice(["yes", "no"]) for name in raw}
    root = write_agqa(tmp_path / "agqa", test=raw)
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given))
    dataset = find("agqa")
    report = score(dataset, dataset.read(root), path)
    found = numbers(report)

    def slow(holds):
        chosen = [name for name, record in raw.items() if holds(record)]
        right = sum(raw[name]["answer"] == given[name] for name in chosen)
        return right / len(chosen), len(chosen)

    assert found["all"] == slow(bool)
    for word in words[:-1]:
        row = {"obj-rel": "object-relation", "rel-act": "relation-action"}.get(word, word)
        row = {"obj-act": "object-action"}.get(row, row)
        assert found[f"type:{row}"] == slow(lambda r, word=word: word in r["global"])
    assert found["type:activity-recognition"] == slow(lambda r: "action-recognition" in r["global"])
    for kind, field in (
        ("semantic", "semantic"),
        ("structural", "structural"),
        ("answer", "ans_type"),
    ):
        for value in {record[field] for record in raw.values()}:
            assert found[f"{kind}:{value}"] == slow(lambda r, f=field, v=value: r[f] == v)
    rows = report.sections["reasoning"]
    assert [row.label for row in rows][:2] == ["object-relation", "relation-action"]


def activitynet(root, types, answers):
    for split in ("train", "val", "test"):
        ids = [f"v_x_{n}" if split == "val" else f"v_{split}_{n}" for n in range(len(types))]
        asked_ = [{"video_name": "x", "question": "is it?", "question_id": i} for i in ids]
        told = [
            {"answer": a, "type": t, "question_id": i}
            for a, t, i in zip(answers, types, ids, strict=True)
        ]
        (root / f"{split}_q.json").write_text(json.dumps(asked_))
        (root / f"{split}_a.json").write_text(json.dumps(told))


def test_activitynet_takes_its_example_form_and_shows_free_both_ways(tmp_path):
    # Types in order of first appearance: 3, 0, 7, 1, 2. The script leaves out 3, 0 and 7.
    activitynet(tmp_path, [3, 0, 7, 3, 1, 2], ["yes", "run", "two", "no", "left", "after"])
    path = tmp_path / "pred_val_example.json"
    given = ["yes", "run", "two", "yes", "right", "after"]
    rows = [{"question_id": f"v_x_{n}", "answer": answer} for n, answer in enumerate(given)]
    path.write_text(json.dumps(rows[::-1]))
    dataset = find("activitynet-qa")
    found = numbers(score(dataset, dataset.read(tmp_path), path, split="val"))
    assert found == {
        "all": (4 / 6, 6),
        "free": (2 / 3, 3),
        "free-as-scripted": (2 / 2, 2),
        "type:motion": (1.0, 1),
        "type:spatial": (0.0, 1),
        "type:temporal": (1.0, 1),
        "type:yes-no": (0.5, 2),
        "type:number": (1.0, 1),
    }


def test_free_without_a_fourth_type_has_no_scripted_value():
    answered = [
        Answered(
            question_id="a", tags=("type:number", "group:free"), answer="2", given="2", right=True
        )
    ]
    assert [row.value for row in published_quirks.free_answers(answered)] == [1.0, None]


def nextqa(root):
    header = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    kinds = ["CW", "TP", "TN", "TN", "DO"]
    rows = "".join(f"77,9,8,8,why?,{n},{n},{kind},a,b,c,d,e\n" for n, kind in enumerate(kinds))
    for split in ("train", "val", "test"):
        text = rows.replace("77,", "78,") if split == "train" else rows
        (root / f"{split}.csv").write_text(
            header + (text if split != "test" else text.replace("77,", "79,"))
        )


@pytest.mark.parametrize("as_text", [False, True], ids=["numbers", "digits"])
def test_nextqa_takes_its_result_form_and_counts_tp_as_tn(tmp_path, as_text):
    nextqa(tmp_path)
    chosen = [0, 1, 0, 3, 0]
    given = {
        f"77_{n}": {"prediction": str(place) if as_text else place, "answer": n}
        for n, place in enumerate(chosen)
    }
    path = tmp_path / "HGA-example-val.json"
    path.write_text(json.dumps(given, indent=4))
    dataset = find("nextqa")
    found = numbers(score(dataset, dataset.read(tmp_path), path, split="val"))
    assert found == {
        "all": (3 / 5, 5),
        "group:causal": (1.0, 1),
        "group:temporal": (2 / 3, 3),
        "group:descriptive": (0.0, 1),
        "type:CW": (1.0, 1),
        "type:TN": (2 / 3, 3),
        "type:DO": (0.0, 1),
    }


def test_star_is_the_mean_of_its_types_not_of_its_questions(tmp_path):
    questions = [
        asked("Interaction_1", "type:interaction", split="val"),
        asked("Sequence_1", "type:sequence", split="val"),
        asked("Sequence_2", "type:sequence", split="val"),
        asked("Sequence_3", "type:sequence", split="val"),
    ]
    given = {"Interaction_1": "yes", "Sequence_1": "yes", "Sequence_2": "no", "Sequence_3": "no"}
    report = scored("star", questions, given, tmp_path)
    assert report.split == "val"
    assert numbers(report)["mean"] == (pytest.approx((1 + 1 / 3) / 2), 4)
    assert numbers(report)["all"] == (0.5, 4)


def test_egomcq_tells_inter_from_intra_by_the_clips_not_by_the_label(tmp_path):
    def choice(videos, types, answer):
        clips = {
            str(n): {"video_uid": v, "clip_start": n, "clip_end": n + 1, "clip_text": "t"}
            for n, v in enumerate(videos)
        }
        return {"answer": answer, "types": types, "query": clips[str(answer)], "choices": clips}

    raw = {
        "0": choice("aaaaa", 2, 1),
        "1": choice("aaaab", 1, 4),
        "2": choice("bbbbb", 1, 0),  # the label says inter; all five are of one video
    }
    (tmp_path / "egomcq.json").write_text(json.dumps(raw))
    path = tmp_path / "given.jsonl"
    path.write_text(
        '{"question_id": 0, "prediction": 1}\n{"question_id": 1, "prediction": "3"}\n'
        '{"question_id": 2, "prediction": 0}\n'
    )
    dataset = find("egomcq")
    found = numbers(score(dataset, dataset.read(tmp_path), path))
    assert found == {"all": (2 / 3, 3), "type:inter": (0.0, 1), "type:intra": (1.0, 2)}


def test_question_words(tmp_path):
    questions = [asked("1", "type:what"), asked("2", "type:who"), asked("3", "type:who")]
    for name in ("msvd-qa", "msrvtt-qa"):
        found = numbers(scored(name, questions, {"1": "yes", "2": "Yes", "3": "yes"}, tmp_path))
        assert found == {"all": (2 / 3, 3), "type:what": (1.0, 1), "type:who": (0.5, 2)}


def test_counts_are_rounded_and_kept_between_one_and_ten_before_the_error(tmp_path):
    questions = [asked(f"test-C{n}", answer=a) for n, a in enumerate(["2", "3", "9"])]
    found = numbers(
        scored("tgif-qa-count", questions, {"C0": "2.6", "C1": 3, "C2": "25"}, tmp_path)
    )
    assert found["squared-error"] == (pytest.approx((1 + 0 + 1) / 3), 3)
    with pytest.raises(InputError, match=r"'test-C2' is 'many'"):
        scored("tgif-qa-count", questions, {"C0": "2", "C1": "3", "C2": "many"}, tmp_path)
    with pytest.raises(InputError, match="wants a number for every question"):
        scored("tgif-qa-count", questions, {"C0": 2}, tmp_path, allow_missing=True)


def test_the_public_loader_drops_a_batch_and_the_bounds_hold_every_draw(tmp_path):
    questions = [asked(f"test-{n}", "type:descriptive", "scope:world") for n in range(130)]
    given = {str(n): "yes" if n < 100 else "no" for n in range(130)}
    assert "drop-last" not in numbers(scored("egotaskqa", questions, given, tmp_path))
    found = numbers(scored("egotaskqa", questions, given, tmp_path, compat=True))
    assert found["all"] == (100 / 130, 130)
    assert found["drop-last-lowest"] == (98 / 128, 128)
    assert found["drop-last-highest"] == (100 / 128, 128)
    value, kept = found["drop-last"]
    assert kept == 128
    assert 98 / 128 <= value <= 100 / 128
    assert found["drop-last scope:world"] == found["drop-last"]
    assert found == numbers(scored("egotaskqa", questions, given, tmp_path, compat=True))


def test_fewer_questions_than_a_batch_leave_the_public_loader_nothing(tmp_path):
    found = numbers(scored("egotaskqa", [asked("test-1")], {"1": "yes"}, tmp_path, compat=True))
    assert found["all"] == (1.0, 1)
    assert found["drop-last"] == (None, 0)


CHOICES = {
    "place": (1, True),
    "digits": ("1", True),
    "text": ("b", True),
    "another place": (0, False),
    "another text": ("a", False),
}


@pytest.mark.parametrize(("given", "right"), CHOICES.values(), ids=CHOICES)
def test_a_choice_is_a_place_or_a_text(given, right):
    question = asked("q", answer="b", choices=("a", "b", "c"), place=1)
    found = answer_split([question], "test", {"q": given})
    assert (found.questions[0].right, found.strange) == (right, 0)


@pytest.mark.parametrize("given", [3, -1, "3", "d", ""], ids=repr)
def test_a_choice_that_is_none_is_wrong_and_told(given):
    question = asked("q", answer="b", choices=("a", "b", "c"), place=1)
    found = answer_split([question], "test", {"q": given})
    assert (found.questions[0].right, found.strange) == (False, 1)


def test_text_that_is_a_choice_is_no_place():
    question = asked("q", answer="2", choices=("2", "3", "4"), place=0)
    assert answer_split([question], "test", {"q": "2"}).questions[0].right
    assert not answer_split([question], "test", {"q": 2}).questions[0].right


def test_of_two_equal_choices_the_place_decides_and_the_text_is_right():
    question = asked("q", answer="a", choices=("a", "b", "a"), place=2)
    rights = [answer_split([question], "test", {"q": g}).questions[0].right for g in (0, 2, "a")]
    assert rights == [False, True, True]


def test_clips_are_chosen_by_place_or_name():
    question = asked("q", answer="y", clips=("x", "y"), place=1)
    assert answer_split([question], "test", {"q": "y"}).questions[0].right
    assert answer_split([question], "test", {"q": 1}).questions[0].right


SPLITS = [asked("a"), asked("b"), asked("v", split="val")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            {"a": "yes"}, r"1 of the 2 questions in 'test' have no prediction.*'b'", id="missing"
        ),
        pytest.param(
            {"a": "x", "b": "x", "z": "x"}, r"1 of the 3 .* does not have: 'z'\.$", id="unknown"
        ),
        pytest.param({"a": "x", "b": "x", "v": "x"}, "1 of them are of another split", id="split"),
    ],
)
def test_predictions_must_be_of_the_questions(given, message):
    with pytest.raises(InputError, match=message):
        answer_split(SPLITS, "test", given)


def test_missing_ones_count_as_wrong_where_that_is_wanted(tmp_path):
    report = scored("agqa", SPLITS, {"a": "yes"}, tmp_path, allow_missing=True)
    assert (numbers(report)["all"], report.missing) == ((0.5, 2), 1)
    assert "1 questions had no prediction" in describe_score(report)
    with pytest.raises(InputError, match="does not have: 'z'"):
        scored("agqa", SPLITS, {"z": "yes"}, tmp_path, allow_missing=True)


def test_an_id_with_and_without_its_split_is_there_twice():
    with pytest.raises(InputError, match="Both 'test-1' and '1'"):
        answer_split([asked("test-1")], "test", {"1": "x", "test-1": "x"})


def test_a_split_without_questions_is_refused():
    with pytest.raises(InputError, match="no questions in its split 'train'"):
        answer_split(SPLITS, "train", {})
    assert reported_split(SPLITS) == "test"
    assert reported_split(SPLITS[2:]) == "val"


def test_compat_is_refused_where_there_is_one_way(tmp_path):
    with pytest.raises(InputError, match="one way of counting"):
        scored("msvd-qa", SPLITS, {"a": "x", "b": "x"}, tmp_path, compat=True)


def test_every_data_set_with_questions_has_a_score_or_is_ours():
    ours = {name for name, dataset in known().items() if dataset.rendered} | {"custom"}
    asking = {d.name for d in known().values() if d.task not in {"captions", "retrieval"}}
    assert set(OFFICIAL) == asking - ours
    for name, official in OFFICIAL.items():
        kinds = [section.kind for section in official.sections]
        assert set(kinds) <= set(find(name).tags), name
        assert len(kinds) == len(set(kinds))
    assert [section.kind for section in score_of(find("demo")).sections] == list(find("demo").tags)


def test_what_has_nothing_to_score_says_so(tmp_path):
    with pytest.raises(InputError, match="nothing to score"):
        scored("egoclip", [], {}, tmp_path)


def test_the_real_validation_files_are_counted_as_a_reader_of_csv_counts_them(tmp_path, sample):
    text = sample("nextqa_val.csv").read_text()
    for split in ("train", "val", "test"):
        rows = text.splitlines(keepends=True)
        part = rows if split == "val" else [rows[0], rows[1].replace(",", f"-{split},", 1)]
        (tmp_path / f"{split}.csv").write_text("".join(part))
    raw = list(csv.DictReader(io.StringIO(text)))
    given = {f"{row['video']}_{row['qid']}": {"prediction": n % 5} for n, row in enumerate(raw)}
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given))
    dataset = find("nextqa")
    report = score(dataset, dataset.read(tmp_path), path, split="val")

    def slow(kinds):
        chosen = [int(r["answer"]) == n % 5 for n, r in enumerate(raw) if r["type"] in kinds]
        return sum(chosen) / len(chosen), len(chosen)

    found = numbers(report)
    assert found["all"] == slow({row["type"] for row in raw})
    assert found["all"][1] == 4_996
    assert found["group:temporal"] == slow({"TN", "TP", "TC"})
    assert found["type:TN"] == slow({"TN", "TP"})
    assert found["type:CW"] == slow({"CW"})
