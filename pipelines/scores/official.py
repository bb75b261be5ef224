"""What each data set's owners count, and how: sections, special numbers, and where that is from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.datasets.dataset import Dataset
from pipelines.scores import published_quirks
from pipelines.scores.answered import Answered
from pipelines.scores.score_rows import ScoreRow, TagSection
from pipelines.scores.wups import wups_rows

Rows = Callable[[Sequence[Answered]], Iterator[ScoreRow]]
_WORDS: Final = ("what", "who", "how", "when", "where")


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialScore:
    """One data set's score."""

    metric: str
    """The published number, in words."""
    source: str
    """Who counts so."""
    sections: tuple[TagSection, ...] = ()
    """Break-downs."""
    special: Rows | None = None
    """Numbers beside the share of right answers."""
    by_files: Callable[[Sequence[Answered], Path], Iterator[ScoreRow]] | None = None
    """Numbers that need more of the data set's folder than its questions, or a package that is an extra;
    where that is not there, the report says what is missing and goes without them."""
    compat: Rows | None = None
    """Numbers as a public scorer makes them, where they differ and are asked for."""


_NEXT_TYPES: Final = TagSection(
    kind="type",
    title="type",
    order=("CW", "CH", "TN", "TC", "DC", "DL", "DO"),
    fold={"TP": "TN"},
)
_NEXT_GROUPS: Final = TagSection(
    kind="group",
    title="causal (Acc_C), temporal (Acc_T), descriptive (Acc_D)",
    order=("causal", "temporal", "descriptive"),
)
_EGOTASKQA: Final = OfficialScore(
    metric="accuracy; the paper's Table 2: scope, type and semantic; a question counts in each of its tags",
    source="Buzz-Beater/EgoTaskQA@807a34d, baselines/utils/utils.py",
    sections=(
        TagSection(kind="scope", title="scope", order=("world", "intent", "multi-agent")),
        TagSection(
            kind="type",
            title="type",
            order=("descriptive", "predictive", "counterfactual", "explanatory"),
        ),
        TagSection(
            kind="semantic", title="semantic", order=("action", "object", "state", "change")
        ),
        TagSection(kind="structural", title="structural", order=("query", "verify")),
        TagSection(kind="reference", title="reference", order=("direct", "indirect")),
    ),
    compat=published_quirks.public_loader,
)
_QUESTION_WORDS: Final = TagSection(
    kind="type", title="first word of the question", order=(*_WORDS, "other")
)

OFFICIAL: Final[Mapping[str, OfficialScore]] = {
    "agqa": OfficialScore(
        metric="accuracy; the paper's Table 1: eight reasoning types, a question counts in each of its own",
        source="AGQA's README; madeleinegrunde/AGQA_baselines_code",
        sections=(
            TagSection(
                kind="type",
                title="reasoning",
                order=(
                    "object-relation",
                    "relation-action",
                    "object-action",
                    "superlative",
                    "sequencing",
                    "exists",
                    "duration-comparison",
                    "activity-recognition",
                ),
            ),
            TagSection(kind="semantic", title="semantic", order=("object", "relation", "action")),
            TagSection(
                kind="structural",
                title="structural",
                order=("query", "compare", "choose", "logic", "verify"),
            ),
            TagSection(kind="answer", title="answer", order=("binary", "open")),
            TagSection(kind="composition", title="novel compositions"),
            TagSection(kind="novel", title="kind of novel composition"),
            TagSection(kind="steps", title="more steps"),
            TagSection(kind="reference", title="indirect references"),
        ),
    ),
    "egotaskqa": _EGOTASKQA,
    "egotaskqa-indirect": _EGOTASKQA,
    "msrvtt-qa": OfficialScore(
        metric="accuracy, and by first word of the question",
        source="antoyang/just-ask",
        sections=(_QUESTION_WORDS,),
    ),
    "msvd-qa": OfficialScore(
        metric="accuracy, and by first word of the question",
        source="antoyang/just-ask",
        sections=(_QUESTION_WORDS,),
    ),
    "msrvtt-mc": OfficialScore(
        metric="accuracy of five choices", source="jayleicn/ClipBERT, src/tasks/run_msrvtt_mc.py"
    ),
    "egomcq": OfficialScore(
        metric="accuracy of five clips, inter-video and intra-video",
        source="showlab/EgoVLP, model/metric.py and issue 19",
        sections=(
            TagSection(
                kind="type", title="clips of several videos, of one", order=("inter", "intra")
            ),
        ),
    ),
    "nextqa": OfficialScore(
        metric="accuracy: Acc_C, Acc_T, Acc_D and all; TP counts as TN",
        source="doc-doc/NExT-QA@005bbc9, eval_mc.py",
        sections=(_NEXT_GROUPS, _NEXT_TYPES),
    ),
    "nextqa-open": OfficialScore(
        metric="WUPS, causal, temporal, descriptive and all; exact accuracy beside it",
        source="doc-doc/NExT-OE@1456716, eval_oe.py and metrics.py",
        sections=(_NEXT_GROUPS, _NEXT_TYPES),
        by_files=wups_rows,
    ),
    "intentqa": OfficialScore(
        metric="accuracy: causal why (CW), causal how (CH), temporal (TP and TN), all",
        source="JoseponLee/IntentQA@cee9eaa, eval_intentqa.py",
        sections=(
            TagSection(kind="type", title="type", order=("CW", "CH", "TN"), fold={"TP": "TN"}),
        ),
    ),
    "activitynet-qa": OfficialScore(
        metric="accuracy: motion, spatial, temporal, free, each kind of free, all",
        source="MILVLG/activitynet-qa@b28aadd, evaluation/eval.py",
        sections=(
            TagSection(
                kind="type",
                title="type",
                order=(
                    "motion",
                    "spatial",
                    "temporal",
                    "yes-no",
                    "color",
                    "object",
                    "location",
                    "number",
                    "other",
                ),
            ),
        ),
        special=published_quirks.free_answers,
    ),
    "star": OfficialScore(
        metric="accuracy of four types, and their mean",
        source="the paper's and its leaderboard's mean",
        sections=(
            TagSection(
                kind="type",
                title="type",
                order=("interaction", "sequence", "prediction", "feasibility"),
            ),
        ),
        special=published_quirks.type_mean,
    ),
    "how2qa": OfficialScore(metric="accuracy of four answers", source="ych133/How2R-and-How2QA"),
    "egoschema": OfficialScore(
        metric="accuracy of five answers, on the 500 public ones", source="egoschema/EgoSchema"
    ),
    "tgif-qa-action": OfficialScore(
        metric="accuracy of five answers", source="YunseokJANG/tgif-qa; thaolmk54/hcrn-videoqa"
    ),
    "tgif-qa-transition": OfficialScore(
        metric="accuracy of five answers", source="YunseokJANG/tgif-qa; thaolmk54/hcrn-videoqa"
    ),
    "tgif-qa-frameqa": OfficialScore(
        metric="accuracy",
        source="YunseokJANG/tgif-qa; thaolmk54/hcrn-videoqa",
        sections=(
            TagSection(kind="type", title="type", order=("object", "number", "color", "location")),
        ),
    ),
    "tgif-qa-count": OfficialScore(
        metric="mean squared error of whole numbers from 1 to 10",
        source="YunseokJANG/tgif-qa; thaolmk54/hcrn-videoqa",
        special=published_quirks.squared_error,
    ),
}
"""Data sets with questions whose results are published; retrieval is scored from a matrix."""


def score_of(dataset: Dataset) -> OfficialScore:
    """A data set's own score; for one without, exact accuracy by all kinds of tags that it declares."""
    plain = OfficialScore(
        metric="exact accuracy",
        source="ours",
        sections=tuple(TagSection(kind=kind, title=kind) for kind in dataset.tags),
    )
    return OFFICIAL.get(dataset.name, plain)
