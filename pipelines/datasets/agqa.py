"""AGQA 2.0 balanced (Grunde-McLaughlin et al. 2022): questions about Charades videos."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.seeded_draw import train_or_val
from pipelines.datasets.source_folder import Row, SourceFolder

REASONING: Final = {
    "obj-rel": "object-relation",
    "rel-act": "relation-action",
    "obj-act": "object-action",
    "superlative": "superlative",
    "sequencing": "sequencing",
    "exists": "exists",
    "duration-comparison": "duration-comparison",
    "action-recognition": "activity-recognition",
}
"""Words of the `global` field -> the row names of the paper's Table 1; a question may have several."""
VALIDATION_PERCENT: Final = 10
"""Of the training *videos*: AGQA has no official validation split, and choosing the best checkpoint on
the test set, as is often done, flatters the result."""
_FLAGS: Final = {
    "novel_comp": "composition:novel",
    "more_steps": "steps:more",
    "nc_seq": "novel:sequencing",
    "nc_sup": "novel:superlative",
    "nc_dur": "novel:duration",
    "nc_objrel": "novel:object-relation",
    "indirect": "reference:indirect",
    "i_obj": "indirect:object",
    "i_rel": "indirect:relation",
    "i_act": "indirect:action",
    "i_temp": "indirect:temporal",
}
"""Fields that are 1 for the test questions of a generalisation split -> tag."""


def _rows(source: SourceFolder) -> Iterator[Row]:
    for split in ("train", "test"):
        name = f"{split}_balanced.txt"
        make = partial(_question, source, training=split == "train")
        yield from source.rows(name, source.json_object(name), make)


def _question(source: SourceFolder, record: Record, *, training: bool) -> tuple[Row, ...]:
    video = record.name("video_id")
    if not (video.isascii() and video.isalnum()):
        record.refuse("video_id", f"is {video!r}, not a Charades id (letters and digits)")
    words = record.texts("global")
    tags = [f"type:{REASONING[word]}" for word in words if word in REASONING]
    tags += [
        f"semantic:{record.text('semantic')}",
        f"structural:{record.text('structural')}",
        f"answer:{record.text('ans_type')}",
    ]
    if not training:
        tags += [tag for field, tag in _FLAGS.items() if record.has(field) and record.whole(field)]
        if record.has("direct_equiv"):
            tags.append(f"direct:{record.name('direct_equiv')}")
    return (
        *source.clip(video, "videos", f"{video}.mp4"),
        Question(
            question_id=record.key or "",
            clip_id=video,
            question=record.text("question"),
            answer=record.text("answer"),
            split=train_or_val(video, VALIDATION_PERCENT) if training else "test",
            tags=tuple(tags),
        ),
    )


_LOG = "training log that MIST's authors published"

AGQA = Dataset(
    name="agqa",
    folder="agqa",
    about="AGQA 2.0 balanced: 2.27 million questions about 9.6 thousand Charades videos",
    task="open-ended",
    files=(
        AnnotationFile(name="train_balanced.txt", holds="training questions, one JSON object"),
        AnnotationFile(name="test_balanced.txt", holds="test questions, one JSON object"),
    ),
    videos="videos/<video id>.mp4",
    licence="questions and Charades videos each under their own terms; Charades: research only",
    offered="questions (balanced, .txt) on the AGQA project page, videos (480p) on Charades' page",
    splits="test is official; 10 % of the training videos are held out for validation, by seeded digest",
    rows=_rows,
    published=(
        PublishedCount(what="questions", split="train", count=1_600_894, source=_LOG),
        PublishedCount(what="questions", split="test", count=669_207, source=_LOG),
    ),
    clips=9_600,
    tags={
        "type": "reasoning (Table 1); several a question",
        "semantic": "object, relation or action",
        "structural": "query, compare, choose, logic or verify",
        "answer": "binary or open",
        "composition": "novel: a combination that training does not have",
        "novel": "which kind of novel combination",
        "steps": "more: more reasoning steps than in training",
        "reference": "indirect: things are named by what is done with them",
        "indirect": "which kind of indirect reference",
        "direct": "id of the same question with direct references",
    },
)
