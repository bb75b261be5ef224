"""Eq. 9: which words are hidden, against BERT's shares, and the loss against a loop."""

import math
from dataclasses import replace

import pytest
import torch

from cache_schema.errors import InputError
from tests.train.word_tower import END, PAD, START, WordTower
from train.config import PretrainingConfig
from train.model.masked_word_head import MaskedWordHead
from train.objectives.masked_words import Masked, MaskedWords, mask_words, masked_word_loss
from train.options import ConfigError

BERT = PretrainingConfig()
WORDS = torch.arange(100, 1100)
MASK = 7
D, W, V = 5, 12, 6


def sentences(count: int, length: int, context: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentences of one length, padded with a token that is a word too."""
    generator = torch.Generator().manual_seed(0)
    token = WORDS[torch.randint(len(WORDS), (count, context), generator=generator)]
    is_word = torch.zeros(count, context, dtype=torch.bool)
    is_word[:, 1 : 1 + length] = True
    return token, is_word


def masked_with(token, is_word, seed: int = 1, options: PretrainingConfig = BERT) -> Masked:
    return mask_words(token, is_word, MASK, WORDS, options, torch.Generator().manual_seed(seed))


def test_shares_are_those_of_bert():
    token, is_word = sentences(2000, 20)
    masked = masked_with(token, is_word)
    assert (masked.chosen.sum(-1) == 3).all()  # 15 % of 20, in every sentence
    before, after = token[masked.chosen], masked.token[masked.chosen]
    by_mask = (after == MASK).float().mean().item()
    by_other = ((after != MASK) & (after != before)).float().mean().item()
    same = (after == before).float().mean().item()
    for share, expected in ((by_mask, 0.8), (by_other, 0.1), (same, 0.1)):
        assert share == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 6000))
    assert torch.equal(masked.token[~masked.chosen], token[~masked.chosen])


def test_every_place_is_as_likely_and_others_never_are():
    token, is_word = sentences(4000, 20)
    chosen = masked_with(token, is_word).chosen.float().mean(0)
    assert (chosen[is_word[0]] - 0.15).abs().max() < 5 * math.sqrt(0.15 * 0.85 / 4000)
    assert chosen[~is_word[0]].sum() == 0


def test_a_random_word_is_any_of_the_captions_words():
    token, is_word = sentences(3000, 20)
    masked = masked_with(token, is_word, options=replace(BERT, mask_by_token=0, mask_by_random=1))
    drawn = masked.token[masked.chosen]
    assert torch.isin(drawn, WORDS).all()
    assert len(drawn.unique()) > 0.99 * len(WORDS)


@pytest.mark.parametrize(
    ("length", "hidden"),
    [
        pytest.param(0, 0, id="no words"),
        pytest.param(1, 1, id="at least one"),
        pytest.param(3, 1, id="0.45 rounded up to one"),
        pytest.param(12, 2, id="1.8"),
        pytest.param(23, 3, id="3.45"),
    ],
)
def test_number_of_hidden_words(length, hidden):
    masked = masked_with(*sentences(50, length))
    assert (masked.chosen.sum(-1) == hidden).all()


def test_draws_come_from_the_generator_alone():
    token, is_word = sentences(20, 9)
    first = masked_with(token, is_word)
    torch.manual_seed(5)
    again, other = masked_with(token, is_word), masked_with(token, is_word, seed=2)
    assert torch.equal(first.token, again.token)
    assert not torch.equal(first.token, other.token)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"mask_share": 0.0}, r"mask_share is 0.0, must be in \(0, 1\]", id="none"),
        pytest.param({"mask_by_random": 0.3}, "at most 1 - mask_by_token", id="too many"),
        pytest.param({"mask_by_token": -0.1}, "mask_by_token is -0.1", id="negative"),
        pytest.param(
            {"matching": False, "contrastive": False},
            "must be true where contrastive is not",
            id="nothing that tells pairs apart",
        ),
    ],
)
def test_shares_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        PretrainingConfig(**options)


@pytest.fixture
def tower() -> WordTower:
    tower = WordTower(["a red circle moves left now"], D, width=W)
    tower.network.double()
    return tower


@pytest.fixture
def head() -> MaskedWordHead:
    torch.manual_seed(1)
    return MaskedWordHead(D, W, torch.arange(END + 1, END + 1 + V)).double()


CAPTIONS = ("a red circle", "circle moves left now", "red")


def hidden_in(tower: WordTower) -> tuple[torch.Tensor, Masked]:
    """Captions with words hidden in all three ways, two of them in one caption."""
    token = tower.tokens(CAPTIONS)
    masked = Masked(token.clone(), torch.zeros_like(token, dtype=torch.bool))
    for pair, place, becomes in ((0, 2, START), (1, 1, token[0, 1]), (1, 4, START), (2, 1, None)):
        masked.chosen[pair, place] = True
        if becomes is not None:
            masked.token[pair, place] = becomes
    return token, masked


def slow_loss(head, network, token, masked, v_star, *, stop: bool = True):
    """Eq. 9, a word at a time."""
    losses = []
    for pair in range(len(token)):
        for place in range(token.shape[1]):
            if not masked.chosen[pair, place]:
                continue
            w = network(masked.token[pair : pair + 1])[1][0, place]
            combined = torch.cat([w.detach() if stop else w, v_star[pair]])
            hidden = head.hidden.weight @ combined + head.hidden.bias
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
            logits = head.word.weight @ hidden + head.word.bias
            right = head.word_id.tolist().index(int(token[pair, place]))
            losses.append(-(logits[right] - logits.exp().sum().log()))
    return torch.stack(losses).mean()


def test_equals_the_loop_with_its_gradients(tower, head):
    token, masked = hidden_in(tower)
    v_star = torch.randn(3, D, dtype=torch.float64, requires_grad=True)
    wanted = [v_star, *head.parameters()]
    loss = masked_word_loss(head, tower.network, token, masked, v_star)
    reference = slow_loss(head, tower.network, token, masked, v_star)
    # The loss is taken in float32, as that of every step.
    torch.testing.assert_close(loss.double(), reference, atol=1e-6, rtol=0)
    for found, expected in zip(
        torch.autograd.grad(loss, wanted), torch.autograd.grad(reference, wanted), strict=True
    ):
        assert found.abs().sum() > 0
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_no_gradient_reaches_the_tower_through_the_masked_words(tower, head):
    token, masked = hidden_in(tower)
    v_star = torch.randn(3, D, dtype=torch.float64)
    masked_word_loss(head, tower.network, token, masked, v_star).backward()
    assert all(parameter.grad is None for parameter in tower.network.parameters())
    assert all(parameter.grad is not None for parameter in head.parameters())
    # Without the stop gradient there would be one.
    slow_loss(head, tower.network, token, masked, v_star, stop=False).backward()
    assert tower.network.mix.weight.grad.abs().sum() > 0


def test_values_by_hand(tower, head):
    """A head that looks at nothing gives every word the probability of its bias."""
    token, masked = hidden_in(tower)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    v_star = torch.zeros(3, D, dtype=torch.float64)
    with torch.no_grad():
        loss = masked_word_loss(head, tower.network, token, masked, v_star).item()
        assert loss == pytest.approx(math.log(V))
        head.word.bias[head.classes(torch.tensor(tower.known["red"]))] = math.log(3)
        loss = masked_word_loss(head, tower.network, token, masked, v_star).item()
    # "red" is two of the four words hidden, and has 3 of 5 + 3; the others have 1 of 8 each.
    assert loss == pytest.approx((2 * math.log(8 / 3) + 2 * math.log(8)) / 4)


def test_nothing_hidden_costs_nothing_and_has_gradients_all_the_same(tower, head):
    """Processes that share a batch add up their gradients one by one: none may lack any."""
    v_star = torch.zeros(0, D, dtype=torch.float64)
    words = MaskedWords(BERT, tower, head)
    loss = words(tower.tokens(["red"])[:0], v_star, torch.Generator())
    loss.backward()
    assert loss == 0
    assert all(parameter.grad.abs().sum() == 0 for parameter in head.parameters())


def test_classes_are_places_among_the_captions_words(head):
    head.word_id = torch.tensor([3, 5, 40, 900])
    assert head.classes(torch.tensor([900, 3, 40])).tolist() == [3, 0, 2]


def test_a_tokenizer_without_a_mask_is_refused(tower, head):
    tower.mask_id = None
    with pytest.raises(
        InputError, match=r"no token that can stand .* pretraining.masked_words=false"
    ):
        MaskedWords(BERT, tower, head)


def test_padding_is_never_hidden(tower, head):
    token = tower.tokens(["red", "a red circle"] * 20)
    words = MaskedWords(replace(BERT, mask_share=1.0), tower, head)
    masked = mask_words(
        token, tower.is_word(token), START, head.word_id, words._options, torch.Generator()
    )
    assert torch.equal(masked.chosen, (token != PAD) & (token != START) & (token != END))
