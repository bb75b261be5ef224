"""One's own questions about a clip, answered by a trained run."""

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cache_schema import FeatureStore, Question, SentenceTable
from cache_schema.errors import InputError, StoreAbsent
from cache_schema.tables.question_table import OPEN_ENDED, choice_text
from extract.encoder import load_encoder
from pipelines.encoders import EncoderFiles
from pipelines.sentences import require_same_encoder
from pipelines.store_access import open_for_training
from pipelines.text_tower import encoder_of, tower_loader
from train.checkpoint import Checkpoint, peek_checkpoint
from train.config import Task
from train.evaluation import evaluate_run
from train.loop import BEST

_NO_ANSWER: Final = "?"
"""Stands for the right answer, which nobody told us."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question with what the run says to it."""

    question: str
    answers: tuple[tuple[str, float], ...]
    """Answers with their probabilities, the most likely first."""
    frame_times_s: tuple[float, ...]
    """Presentation times of the frames that were looked at, each once."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ask(
    run: Path,
    clip: str,
    questions: Sequence[str],
    *,
    choices: Sequence[str] = (),
    store: str | None = None,
    home: Path = Path(),
    encoder: EncoderFiles | None = None,
    top: int = 3,
) -> list[Asked]:
    """Ask a run's best checkpoint.

    Args:
        run: folder of the run.
        clip: a clip of the store.
        questions: in words.
        choices: what a run with a matching head chooses from; none for one that knows its answers.
        store: path or URL; None looks in `home/stores` for features of the run's identity.
        home: the folder that holds stores/.
        encoder: where the weights are whose text tower reads the questions, unless they are the demo's.
        top: how many answers are told.

    Raises:
        InputError: the run is not trained or has no such answers to give, the store has no such clip, or
            the weights are others than the store's.
        StoreAbsent: there is no store of the run's features.
        IdentityMismatch: the store holds other features than the run was trained on.
    """
    state, files = peek_checkpoint(run / BEST), encoder or EncoderFiles()
    _require_choices(state.config.task, choices)
    features = open_for_training(store or _store_of(state, home))
    if clip not in features.clip_ids:
        close = difflib.get_close_matches(clip, features.clip_ids, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"The store has features of no clip {clip!r}{hint}")
    sentences = _encode(questions, choices, features, files)
    predictions = evaluate_run(
        run,
        features,
        [_question(number, text, clip, choices) for number, text in enumerate(questions)],
        sentences,
        keep_logits=True,
        load_tower=tower_loader(sentences, files),
    )
    names = choices or state.vocabulary.answers
    found = []
    for text, prediction in zip(questions, predictions, strict=True):
        share = _softmax(prediction.logit)
        best = np.argsort(-share, kind="stable")[:top].tolist()
        found.append(
            Asked(
                question=text,
                answers=tuple((names[place], float(share[place])) for place in best),
                frame_times_s=tuple(sorted(set(prediction.frame_time))),
            )
        )
    return found


def _require_choices(task: Task, choices: Sequence[str]) -> None:
    if task == "answer" and choices:
        raise InputError(
            "This run answers in words that it has learned; --choice is for one with a matching head."
        )
    if task != "answer" and len(choices) < 2:
        raise InputError("This run chooses: name what from, by --choice TEXT twice or more often.")


def _store_of(state: Checkpoint, home: Path) -> Path:
    """The first store below `home/stores` that has the name of the run's features."""
    name = state.identity.name
    found = sorted((home / "stores").glob(f"*/{name}"))
    if not found:
        raise StoreAbsent(
            f"There is no store {name} in {home / 'stores'}, which holds the features of this run; "
            "name it by --store PATH_OR_URL."
        )
    return found[0]


def _encode(
    questions: Sequence[str],
    choices: Sequence[str],
    store: FeatureStore,
    files: EncoderFiles,
) -> SentenceTable:
    made_by = store.identity
    spec = encoder_of(made_by.encoder, made_by.weights_sha256, files, need="Reading a question")
    if made_by.token_space != "unknown":  # noqa: S105 -- no password
        spec = replace(spec, token_space=made_by.token_space)
    require_same_encoder(spec, made_by)
    tower = load_encoder(spec)
    texts = sorted({*questions, *(choice_text(q, c) for q in questions for c in choices)})
    features, truncated = tower.encode_text(texts)
    return SentenceTable(
        texts=tuple(texts),
        features=features,
        encoder=spec.model,
        weights_sha256=made_by.weights_sha256,
        context_length=tower.context_length,
        truncated=truncated,
    )


def _question(number: int, text: str, clip: str, choices: Sequence[str]) -> Question:
    return Question(
        question_id=str(number),
        clip_id=clip,
        question=text,
        answer=choices[0] if choices else _NO_ANSWER,
        split="test",
        candidates=tuple(choices),
        answer_index=0 if choices else OPEN_ENDED,
    )


def _softmax(logit: Sequence[float]) -> NDArray[np.float64]:
    exponential = np.exp(np.array(logit) - max(logit))
    share: NDArray[np.float64] = exponential / exponential.sum()
    return share
