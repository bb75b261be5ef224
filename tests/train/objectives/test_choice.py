"""Choices: pairs are put back under their questions, whatever their number."""

import pytest
import torch

from train.model.matching_head import MATCHED, matching_score
from train.objectives.choice import by_question

CASES = [
    pytest.param([0, 0, 0, 1, 1, 1], 2, id="equal"),
    pytest.param([0, 0, 1, 1, 1, 1, 2, 2, 2], 3, id="ragged"),
    pytest.param([0, 0], 1, id="one question"),
]


@pytest.mark.parametrize(("owner", "questions"), CASES)
def test_scores_stand_in_their_questions_row(owner, questions):
    owner = torch.tensor(owner)
    score = torch.randn(len(owner), requires_grad=True)
    table = by_question(score, owner, questions)
    for question in range(questions):
        own = score[owner == question]
        assert torch.equal(table[question, : len(own)], own)
        assert (table[question, len(own) :] == -torch.inf).all()
    table.logsumexp(-1).sum().backward()
    assert torch.isfinite(score.grad).all()


def test_score_is_the_log_odds_of_being_matched():
    logit = torch.randn(5, 2).double()
    p = logit.softmax(-1)[:, MATCHED]
    torch.testing.assert_close(matching_score(logit), (p / (1 - p)).log())
