"""Metrics by name, as a task lists them in ``metrics``: those of the papers, and the mean of any measure of a verifier.

Each aggregates numbers that stand in ``Certificate.measures``. An answer without evidence counts nowhere; neither does one
without the measure (another task's, a problem without a reference). One that the tool refused to read is the answer's fault: it
counts 0 where 0 is the worst; of a molecule that is too long to be read its text counts in ``bleu`` and ``levenshtein``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_symbolic.certificate import Certificate, Status
from lit_symbolic.metrics.answers import MeanMeasure, Ratio

BLEU_COUNTS = (
    "bleu_answer_length",
    "bleu_reference_length",
    *(f"bleu_{kind}_{order}" for order in (1, 2, 3, 4) for kind in ("match", "total")),
)


def named_metric(name: str) -> Metric:
    """The metric of a name: one of ``comp_acc``, ``f_corr_acc``, ``exact_match``, ``validity``, ``morgan_tanimoto``, ``maccs_tanimoto``,
    ``rdk_tanimoto``, ``bleu`` and ``levenshtein``; any other name is a measure, whose mean is taken.

    Example:
        >>> type(named_metric("comp_acc")).__name__, type(named_metric("step_validity")).__name__
        ('CompAcc', 'MeanMeasure')
    """
    return NAMED[name]() if name in NAMED else MeanMeasure(name)


class AnswerShare(Ratio):
    """Mean of a measure between 0 and 1, in which an answer that the tool refused to read counts 0.

    Args:
        measure: Key of ``Certificate.measures``.

    Example:
        >>> share = AnswerShare("exact")
        >>> refused = Certificate(False, 0.0, status=Status.REJECTED)
        >>> share.update([Certificate(True, 1.0, measures={"exact": 1.0}), refused, Certificate(True, 1.0)])
        >>> share.compute().item()
        0.5
    """

    higher_is_better = True

    def __init__(self, measure: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.measure = measure

    def update(self, certificates: Sequence[Certificate]) -> None:
        """Add a batch."""
        found = [value for c in certificates if c.is_evidence and (value := self.of(c)) is not None]
        values = torch.tensor(found, dtype=torch.float64, device=self.device)
        self.add(values, torch.ones_like(values, dtype=torch.bool))

    def of(self, certificate: Certificate) -> float | None:
        """What one answer counts; None if it does not."""
        return certificate.measures.get(self.measure, 0.0 if certificate.status is Status.REJECTED else None)


class CompAcc(AnswerShare):
    """CompAcc of RLSF (https://arxiv.org/abs/2405.16661): share of the programs that compile.

    Example:
        >>> accuracy = CompAcc()
        >>> accuracy.update([Certificate(True, 1.0, measures={"compiled": 1.0}), Certificate(False, 0.0, measures={"compiled": 0.0})])
        >>> accuracy.compute().item()
        0.5
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("compiled", **kwargs)


class FCorrAcc(AnswerShare):
    """FCorrAcc of RLSF: mean share of the tests that a program passes; one that does not compile passes none.

    A program to a problem without tests (measure ``tests`` is 0) is left out.

    Example:
        >>> accuracy = FCorrAcc()
        >>> half = {"compiled": 1.0, "tests_fraction": 0.5}
        >>> accuracy.update([Certificate(False, 0.5, measures=half), Certificate(False, 0.0, measures={"compiled": 0.0})])
        >>> accuracy.compute().item()
        0.25
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("tests_fraction", **kwargs)

    def of(self, certificate: Certificate) -> float | None:
        """See :class:`AnswerShare`."""
        measures = certificate.measures
        if measures.get("tests") == 0:
            return None
        return 0.0 if measures.get("compiled") == 0 else super().of(certificate)


class ExactMatch(AnswerShare):
    """Share of the answers that are the reference; for molecules the same canonical SMILES."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("exact", **kwargs)


class Validity(AnswerShare):
    """Share of the answers that are a molecule (or, of another task, well-formed)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("validity", **kwargs)


class Tanimoto(MeanMeasure):
    """Mean similarity of fingerprints to the reference's, over valid answers alone, as Mol-Instructions and MolT5 report it.

    A policy can raise it by writing nonsense where it is not sure: read it beside :class:`Validity`.

    Args:
        fingerprint: ``morgan``, ``maccs`` or ``rdk``.
    """

    higher_is_better = True

    def __init__(self, fingerprint: Literal["morgan", "maccs", "rdk"], **kwargs: Any) -> None:
        super().__init__(f"{fingerprint}_tanimoto", **kwargs)


class Levenshtein(MeanMeasure):
    """Mean edit distance in characters to the reference, over valid and invalid answers; smaller is better."""

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("levenshtein", **kwargs)


class CorpusBleu(Metric):
    """BLEU-4 of all answers together: their n-gram counts are summed first, as in Papineni et al., 2002.

    The mean of each answer's own BLEU is another number, and 0 for every short one. ``compute`` gives NaN while nothing has been
    counted.

    Example:
        >>> from lit_symbolic.verifiers.molecules.measures import text_measures
        >>> bleu = CorpusBleu()
        >>> bleu.update([Certificate(False, 0.5, measures=text_measures(answer, "CCOCC")) for answer in ("CCOCC", "CCO")])
        >>> round(bleu.compute().item(), 4)
        0.7788
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("sums", torch.zeros(len(BLEU_COUNTS), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, certificates: Sequence[Certificate]) -> None:
        """Add a batch."""
        found = [[c.measures[key] for key in BLEU_COUNTS] for c in certificates if c.is_evidence and BLEU_COUNTS[0] in c.measures]
        if found:
            self.sums += torch.tensor(found, dtype=torch.float64).sum(dim=0).to(self.sums)
            self.count += len(found)

    def compute(self) -> Tensor:
        """The score between 0 and 1, float32."""
        # Here and not above: whoever has no molecules should not wait for RDKit.
        from lit_symbolic.verifiers.molecules.measures import corpus_bleu

        if not self.count:
            return torch.full((), torch.nan, device=self.device)
        score = corpus_bleu(dict(zip(BLEU_COUNTS, self.sums.tolist(), strict=True)))
        return torch.tensor(score, dtype=torch.float32, device=self.device)


NAMED: Mapping[str, Callable[[], Metric]] = {
    "comp_acc": CompAcc,
    "f_corr_acc": FCorrAcc,
    "exact_match": ExactMatch,
    "validity": Validity,
    "morgan_tanimoto": lambda: Tanimoto("morgan"),
    "maccs_tanimoto": lambda: Tanimoto("maccs"),
    "rdk_tanimoto": lambda: Tanimoto("rdk"),
    "bleu": CorpusBleu,
    "levenshtein": Levenshtein,
}
