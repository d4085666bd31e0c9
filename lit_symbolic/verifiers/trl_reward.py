"""Verifiers as reward functions of TRL's trainers (https://huggingface.co/docs/trl). TRL itself is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.pool import AnswerPool, VerifierPool

Row = Mapping[str, Any]
NOT_COLUMNS = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
"""What TRL hands over beside the columns of the data set."""


class TRLReward:
    """A reward function in TRL's signature; made by :func:`as_trl_reward`. Picklable, its workers are not pickled."""

    def __init__(
        self,
        verifier: Verifier,
        facts: Mapping[str, str] | Callable[[Row], Mapping[str, Any]] | None,
        reward: Literal["correct", "score"] | Callable[[Certificate], float],
        pool: AnswerPool,
        name: str,
    ) -> None:
        self.verifier = verifier
        self.facts = facts
        self.reward = reward
        self.pool = pool
        self.__name__ = name

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """Verify a batch of completions.

        Args:
            prompts: Texts, or lists of chat messages.
            completions: The same, one for each prompt.
            **columns: Columns of the data set, lists with an entry for each prompt; ``log_metric`` and ``log_extra``, which TRL
                hands over, get the means of the verifier's measures and what was found.

        Returns:
            For each completion its reward; ``None`` where there is no evidence, which TRL leaves out.
        """
        rows = self._rows(prompts, columns)
        items = [(self._problem(row), text_of(completion)) for row, completion in zip(rows, completions, strict=True)]
        certificates = self.pool.verify(self.verifier, items)
        self._log(certificates, columns)
        return [self._reward(certificate) if certificate.is_evidence else None for certificate in certificates]

    def close(self) -> None:
        """End the workers; another call starts them again."""
        self.pool.close()

    def _rows(self, prompts: Sequence[Any], columns: Mapping[str, Any]) -> list[dict[str, Any]]:
        named = {name: values for name, values in columns.items() if name not in NOT_COLUMNS}
        for name, values in named.items():
            if not isinstance(values, (list, tuple)) or len(values) != len(prompts):
                raise ValueError(
                    f"column {name!r} is a list of {len(prompts)} entries, one for each prompt; got {str(values)[:100]}"
                )
        return [
            {"prompt": prompt, **{name: values[place] for name, values in named.items()}} for place, prompt in enumerate(prompts)
        ]

    def _problem(self, row: dict[str, Any]) -> Problem:
        if callable(self.facts):
            facts = dict(self.facts(row))
        elif self.facts is None:
            facts = {name: value for name, value in row.items() if name not in ("prompt", "id")}
        else:
            missing = sorted(set(self.facts.values()) - set(row))
            if missing:
                raise ValueError(f"the data set has no column {', '.join(map(repr, missing))}, only {', '.join(map(repr, row))}")
            facts = {fact: row[column] for fact, column in self.facts.items()}
        return Problem(task=self.__name__, id=str(row.get("id", "")), prompt=text_of(row["prompt"]), facts=facts)

    def _reward(self, certificate: Certificate) -> float:
        if callable(self.reward):
            return float(self.reward(certificate))
        return certificate.score if self.reward == "score" else float(certificate.correct)

    def _log(self, certificates: Sequence[Certificate], columns: Mapping[str, Any]) -> None:
        log_metric, log_extra = columns.get("log_metric"), columns.get("log_extra")
        if log_metric is not None and certificates:
            evidence = [certificate for certificate in certificates if certificate.is_evidence]
            log_metric(f"{self.__name__}/no_evidence", 1 - len(evidence) / len(certificates))
            for measure in sorted({name for certificate in evidence for name in certificate.measures}):
                values = [certificate.measures[measure] for certificate in evidence if measure in certificate.measures]
                log_metric(f"{self.__name__}/{measure}", sum(values) / len(values))
        if log_extra is not None:
            log_extra(f"{self.__name__}/findings", [_findings(certificate) for certificate in certificates])


def as_trl_reward(
    verifier: Verifier,
    facts: Mapping[str, str] | Callable[[Row], Mapping[str, Any]] | None = None,
    *,
    reward: Literal["correct", "score"] | Callable[[Certificate], float] = "correct",
    pool: AnswerPool | None = None,
    name: str | None = None,
) -> TRLReward:
    """A verifier as a reward function for TRL's ``GRPOTrainer`` and those with the same signature.

    TRL pays one number for a whole answer: where it is wrong is only in the log. Answers are verified in a pool's processes,
    which are started by the first call and serve until :meth:`TRLReward.close`, or the end of the program.

    Args:
        verifier: The tool.
        facts: What the verifier reads of a row of the data set: names of facts with the columns that they stand in, or a
            function from the row, ``prompt`` included, to the facts. By default every column but ``prompt`` and ``id`` is a fact of its name.
        reward: What a certificate pays: 1 for ``correct``, its ``score``, or a function of it.
        pool: Where answers are verified; by default two processes of this machine.
        name: In TRL's logs; by default the verifier's class.

    Example:
        >>> from lit_symbolic.verifiers.game24 import Game24Verifier
        >>> reward = as_trl_reward(Game24Verifier(), facts={"cards": "puzzle", "target": "goal"}, pool=VerifierPool(workers=1))
        >>> reward(["Make 24"] * 2, ["(4 + 8) * (6 - 4)", "4 + 4"], puzzle=[[4, 4, 6, 8]] * 2, goal=[24, 24])
        [1.0, 0.0]
        >>> reward.close()
    """
    if not callable(getattr(verifier, "verify", None)):
        raise TypeError(f"a verifier has verify(problem, text), {type(verifier).__name__} has not; of a task give task.verifier")
    if not callable(reward) and reward not in ("correct", "score"):
        raise ValueError(f"reward is 'correct', 'score' or a function of a certificate, got {reward!r}")
    return TRLReward(verifier, facts, reward, pool if pool is not None else VerifierPool(), name or type(verifier).__name__)


def text_of(message: Any) -> str:
    """The words of a text or of a chat: of its last message, which for a completion is the assistant's.

    Example:
        >>> text_of([{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}])
        '2'
        >>> text_of([{"role": "assistant", "content": [{"type": "text", "text": "2"}]}])
        '2'
    """
    if isinstance(message, str):
        return message
    content = message[-1].get("content") if message else ""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text", "") for part in content if part.get("type") == "text")


def _findings(certificate: Certificate) -> str:
    if not certificate.is_evidence:
        return f"{certificate.status}: {certificate.evidence}"
    return "; ".join(f"{finding.start}-{finding.end} {finding.kind}: {finding.message}" for finding in certificate.findings)
