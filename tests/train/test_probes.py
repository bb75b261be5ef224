import pytest
import torch

from cache_schema.errors import InputError
from cache_schema.question_table import Question
from train.config import FeatureSizes, ModelConfig
from train.probes import FrameProbe, majority_predictions

SIZES = FeatureSizes(dim=8, frames=6, patches=4)


def build(*, single: bool) -> FrameProbe:
    torch.manual_seed(0)
    return FrameProbe(ModelConfig(), SIZES, 3, single=single)


@pytest.fixture
def asked():
    torch.manual_seed(1)
    cls, text = torch.randn(2, 6, 8).half(), torch.randn(5, 8)
    return cls, torch.empty(2, 6, 0, 8), text, torch.tensor([0, 1, 0, 1, 1])


def test_mean_frame_sees_the_mean_of_all_frames(asked):
    cls, patch, text, clip = asked
    model = build(single=False).eval()
    answering = model(*asked)
    mean = cls.float().mean(1)[clip]
    torch.testing.assert_close(answering.logits, model.classifier(torch.cat([mean, text], -1)))
    assert answering.frame_index.shape == (5, 0)
    shuffled = cls[:, torch.randperm(6)]
    torch.testing.assert_close(model(shuffled, patch, text, clip).logits, answering.logits)


def test_single_frame_sees_the_frame_it_names(asked):
    cls, _, text, clip = asked
    model = build(single=True).train()
    answering = model(*asked, generator=torch.Generator().manual_seed(0))
    frame = cls.float()[clip, answering.frame_index[:, 0]]
    torch.testing.assert_close(answering.logits, model.classifier(torch.cat([frame, text], -1)))


def test_single_frame_is_random_in_training_and_fixed_in_evaluation(asked):
    model = build(single=True)

    def drawn(seed):
        return model(*asked, generator=torch.Generator().manual_seed(seed)).frame_index

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    model.eval()
    assert torch.equal(drawn(1), drawn(2))


def question(name: str, answer: str, *tags: str) -> Question:
    return Question(
        question_id=name, clip_id="c", question="?", answer=answer, split="train", tags=tags
    )


def test_majority_answers_by_type():
    training = [
        question("1", "red", "type:color"),
        question("2", "blue", "type:color"),
        question("3", "blue", "type:color"),
        question("4", "yes", "level:x", "type:exist"),
        question("5", "no", "type:exist"),
        question("6", "no"),
        question("7", "no"),
    ]
    asked = [
        question("a", "red", "type:color"),
        question("b", "no", "type:exist"),
        question("c", "no", "type:never seen"),
        question("d", "no"),
    ]
    answers = {row.question_id: row.predicted for row in majority_predictions(training, asked)}
    assert answers == {"a": "blue", "b": "no", "c": "no", "d": "no"}


def test_majority_needs_training_questions():
    with pytest.raises(InputError, match="no training questions"):
        majority_predictions([], [question("a", "b")])
