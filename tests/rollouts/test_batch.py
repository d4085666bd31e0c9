"""Rows of rollouts replaced by others, of other lengths."""

import torch

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.rollouts.batch import Rollouts


def scored(answers: list[list[int]], prompts: list[list[int]], name: str, samples: int = 1) -> Rollouts:
    """Rollouts whose rewards are their ids."""
    longest, longest_prompt = max(map(len, answers)), max(map(len, prompts))
    ids = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers])
    lengths = torch.tensor([len(answer) for answer in answers])
    mask = torch.arange(longest) < lengths[:, None]
    return Rollouts(
        problems=[Problem(name, str(row), "") for row in range(len(answers))],
        samples=samples,
        prompt_ids=torch.tensor([[0] * (longest_prompt - len(prompt)) + prompt for prompt in prompts]),
        prompt_mask=torch.tensor([[False] * (longest_prompt - len(p)) + [True] * len(p) for p in prompts]),
        ids=ids,
        mask=mask,
        logprobs=-ids.float(),
        ended=lengths % 2 == 0,
        texts=[f"{name}{row}" for row in range(len(answers))],
        spans=[tuple((k, k + 1) for k in range(len(answer))) for answer in answers],
        certificates=[Certificate(False, 0.5, evidence=f"{name}{row}") for row in range(len(answers))],
        rewards={"verifier": ids.float()},
        loss_masks={"verifier": mask.clone()},
        evidence={"verifier": torch.ones(len(answers), dtype=torch.bool)},
        objections={"verifier": lengths - 1},
        in_finding=mask & (ids > 5),
        token_rewards=ids.float(),
        loss_mask=mask.clone(),
        spent={"tokens": lengths.float()},
    )


def test_replaced_rows_are_the_others_and_the_rest_stays() -> None:
    for theirs in ([[7, 8, 9, 9]], [[7]]):
        first = scored([[1, 2], [3], [4, 5]], [[1], [2, 2], [3]], "a")
        second = scored(theirs, [[6, 6, 6]], "b")
        whole = first.replaced([1], second)
        before, other, after = first.answers(), second.answers(), whole.answers()
        assert after == [before[0], other[0], before[2]]
        assert whole.ids[1][whole.mask[1]].tolist() == theirs[0]
        assert whole.logprobs[1].sum() == -sum(theirs[0])
        assert [row[mask].tolist() for row, mask in zip(whole.prompt_ids, whole.prompt_mask, strict=True)] == [
            [1],
            [6, 6, 6],
            [3],
        ]
        assert whole.objections["verifier"].tolist() == [1, len(theirs[0]) - 1, 1]
        assert whole.in_finding is not None
        assert whole.in_finding.sum(dim=1).tolist() == [0, len(theirs[0]), 0]
        assert whole.spent["tokens"].tolist() == [2, 1 + len(theirs[0]), 2], "both attempts are paid for"
        assert first.answers() == before, "the first rollouts are as they were"


def test_several_rows_go_to_their_own_places() -> None:
    first, second = scored([[1], [2], [3], [4]], [[1]] * 4, "a", samples=2), scored([[8, 8], [9]], [[2], [3]], "b")
    whole = first.replaced([3, 0], second)
    assert whole.texts == ["b1", "a1", "a2", "b0"]
    assert whole.samples == 2
    assert [whole.ids[row][whole.mask[row]].tolist() for row in range(4)] == [[9], [2], [3], [8, 8]]
