"""A search for answers with what a run has: its engine, its policy, and the primary callback's verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.reward import VerifierReward
from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.decoding.judges import BothJudges, OpinionJudge, ToolJudge, step_logprob
from lit_symbolic.decoding.steps import decoded, step_stops
from lit_symbolic.decoding.tree_of_thoughts import Judge, Thought, TreeOfThoughts, tree_of_thoughts
from lit_symbolic.decoding.verdicts import expected_verdicts, verdict_problem
from lit_symbolic.rollouts.engine import Generation, SamplingSettings
from lit_symbolic.rollouts.spending import Spent

if TYPE_CHECKING:
    from lit_symbolic.modules.base import SymbolicModule


def searched(
    module: SymbolicModule,
    search: TreeOfThoughts,
    problems: Sequence[Problem],
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    generator: torch.Generator,
) -> tuple[Generation, dict[str, Tensor]]:
    """Search an answer behind each prompt.

    Args:
        module: Whose policy, engine and verifier.
        search: How.
        problems: Problem of each prompt.
        prompts: Prompt ids, one for each answer.
        settings: Length of an answer, and the temperature at which steps are proposed.
        generator: Source of randomness.

    Returns:
        The answers, as an engine gives them, and what each cost.

    Raises:
        MisconfigurationException: If the tasks' answers have no steps, or not the same ones, or the verifier is not to be had.
    """
    spent = Spent(len(prompts))
    ends = {module.task.task_of(problem).step_end for problem in problems}
    if len(ends) != 1 or "" in ends:
        raise MisconfigurationException(
            "evaluation.search goes step by step, and so needs tasks that say with which character a step ends (Task.step_end), all "
            f"with the same one; here are {', '.join(sorted(map(repr, ends)))}"
        )
    stops = step_stops(module.tokenizer, ends.pop())
    ending = sorted({*module.eos_ids, *stops})
    longest = module.longest

    def propose(beginnings: list[list[int]], samples: int, room: int) -> Generation:
        if longest is not None:  # others may have more room left than the longest one
            room = min(room, longest - max(map(len, beginnings)))
        step = SamplingSettings(room, settings.temperature)
        return module.engine.generate(module.model, beginnings, samples, step, ending, module.pad_id, generator)

    judge = _judge(module, search, problems, spent)
    thoughts = tree_of_thoughts(search, prompts, propose, judge, settings.max_new_tokens, module.eos_ids, spent)
    width = max(len(thought.ids) for thought in thoughts)
    generation = Generation(
        ids=torch.tensor([[*t.ids, *[module.pad_id] * (width - len(t.ids))] for t in thoughts], device=module.device),
        lengths=torch.tensor([len(t.ids) for t in thoughts], device=module.device),
        logprobs=torch.tensor([[*t.logprobs, *[0.0] * (width - len(t.ids))] for t in thoughts], device=module.device),
        ended=torch.tensor([t.finished for t in thoughts], device=module.device),
    )
    return generation, {name: values.to(module.device) for name, values in spent.tensors().items()}


def _judge(module: SymbolicModule, search: TreeOfThoughts, problems: Sequence[Problem], spent: Spent) -> Judge:
    def text_of(thought: Thought) -> str:
        return decoded(module.tokenizer, thought.ids)

    def opinion(asked: Sequence[tuple[Problem, str]]) -> list[float]:
        prompts = [module.prompt_ids(verdict_problem(problem, text)) for problem, text in asked]
        return expected_verdicts(module.model, module.tokenizer, prompts, module.pad_id)

    model: Judge = step_logprob if search.opinion == "logprob" else OpinionJudge(problems, text_of, opinion, spent)
    if search.judge == "model":
        return model
    callback = module.reward_callbacks()[0]
    if not isinstance(callback, VerifierReward):
        raise MisconfigurationException(
            f"evaluation.search.judge {search.judge} asks the primary reward callback's verifier, and {type(callback).__name__} is no "
            "VerifierReward; take judge: model"
        )

    def certify(texts: Sequence[tuple[Problem, str]]) -> list[Certificate]:
        return callback.certify(module, texts)

    tool = ToolJudge(module.task.task_of, problems, text_of, certify, spent)
    return tool if search.judge == "tool" else BothJudges(tool, model)
