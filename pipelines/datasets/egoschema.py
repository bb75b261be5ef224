"""EgoSchema (Mangalam et al. 2023): five answers about three minutes of first-person video; test only."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from cache_schema import Question
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_QUESTIONS: Final = "questions.json"
_ANSWERS: Final = "subset_answers.json"
_OPTIONS: Final = tuple(f"option {number}" for number in range(5))


def _rows(source: SourceFolder) -> Iterator[Row]:
    answers = source.json_values(_ANSWERS)
    make = partial(_question, source, answers)
    yield from source.rows(_QUESTIONS, source.json_array(_QUESTIONS), make)


def _question(source: SourceFolder, answers: Mapping[str, str], record: Record) -> tuple[Row, ...]:
    video = record.name("q_uid")
    question = record.text("question")
    candidates = tuple(record.text(option) for option in _OPTIONS)
    if video not in answers:
        source.noted["left out: the answer is not public"] += 1
        return ()
    answer = Record(record.line, video, {"answer": answers[video]}).index("answer", candidates)
    return (
        *source.clip(video, "videos", f"{video}.mp4"),
        Question(
            question_id=video,
            clip_id=video,
            question=question,
            answer=candidates[answer],
            split="test",
            candidates=candidates,
            answer_index=answer,
        ),
    )


EGOSCHEMA: Final = Dataset(
    name="egoschema",
    folder="egoschema",
    about="EgoSchema: the 500 questions with public answers, three minutes of video each; test only",
    task="multiple-choice",
    files=(
        AnnotationFile(name=_QUESTIONS, holds="all 5,031 questions and their options"),
        AnnotationFile(name=_ANSWERS, holds="the 500 public answers"),
    ),
    videos="videos/<q_uid>.mp4",
    licence="Ego4D's licence agreement; each user signs it",
    offered="questions and videos with the EgoSchema code; all answers are judged on its server only",
    splits="test only, the public subset",
    rows=_rows,
    published=(
        PublishedCount(what="questions", split="test", count=500, source="the owners' answer file"),
    ),
    clips=500,
)
