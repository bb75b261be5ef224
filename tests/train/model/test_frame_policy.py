import pytest
import torch

from train.model.frame_policy import ClipSimilarityPolicy, RandomPolicy, UniformPolicy


def ask(policy, questions: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    nothing = torch.empty(1, 1, 1)
    return policy(nothing, torch.zeros(questions, 4), nothing, tau=1.0, generator=generator)


@pytest.mark.parametrize(
    ("frames", "selected", "expected"),
    [
        pytest.param(100, 4, [12, 37, 62, 87], id="mid-points"),
        pytest.param(10, 1, [5], id="one"),
        pytest.param(4, 4, [0, 1, 2, 3], id="all"),
    ],
)
def test_uniform_takes_the_mid_points_of_equal_parts(frames, selected, expected):
    choice = ask(UniformPolicy(frames, selected))
    assert choice.frame_index.tolist() == [expected] * 3


def test_uniform_keeps_nothing_in_the_checkpoint():
    assert not UniformPolicy(10, 2).state_dict()


def test_random_takes_distinct_frames_in_time_order():
    choice = ask(RandomPolicy(8, 5), questions=50)
    assert (choice.frame_index.diff(dim=-1) > 0).all()
    assert choice.frame_index.unique().tolist() == list(range(8))


def test_random_follows_the_generator_in_training_and_is_fixed_in_evaluation():
    policy = RandomPolicy(100, 5)
    training = [ask(policy, seed=seed).frame_index for seed in (1, 1, 2)]
    assert torch.equal(training[0], training[1])
    assert not torch.equal(training[0], training[2])
    policy.eval()
    assert torch.equal(ask(policy, seed=1).frame_index, ask(policy, seed=2).frame_index)


@pytest.mark.parametrize("policy", [UniformPolicy(6, 2), RandomPolicy(6, 2)])
def test_soft_weights_are_one_hot_without_gradient(policy):
    choice = ask(policy)
    assert torch.equal(choice.y_soft.argmax(-1), choice.frame_index)
    assert (choice.y_soft.sum(-1) == 1).all()
    assert not choice.y_soft.requires_grad


def test_clip_similarity_takes_the_most_similar_frames_of_the_own_clip():
    torch.manual_seed(0)
    frames, text = torch.randn(2, 12, 8), torch.randn(3, 8)
    clip = torch.tensor([1, 0, 1])
    choice = ClipSimilarityPolicy(12, 4)(frames.half(), text, clip, tau=1.0, generator=None)
    for question in range(3):
        cosine = torch.cosine_similarity(
            frames[clip[question]].half().float(), text[question], dim=-1
        )
        expected = sorted(cosine.argsort(descending=True)[:4].tolist())
        assert choice.frame_index[question].tolist() == expected
    assert torch.equal(choice.y_soft.argmax(-1), choice.frame_index)
