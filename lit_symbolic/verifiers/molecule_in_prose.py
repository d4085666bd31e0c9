"""Finds the molecule in what a chat model writes around it, and has that certified."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.molecules.reading import Span, read_molecule

MAX_CHARACTERS = 20_000
MAX_WORDS = 200
"""So many words are read as molecules, the longest first."""

_QUOTED = (
    re.compile(r"```[^\n`]*\n([^`]*)```"),
    re.compile(r"<(?:SMILES|answer)>([^<]*)", re.IGNORECASE),
    re.compile(r"`([^`\n]+)`"),
)
_WORD = re.compile(r"[^\s'\"`*,;]+")
_TELLTALE = re.compile(r"[=#()\[\]0-9]")


@dataclass(frozen=True)
class MoleculeInProse:
    """Certifies the molecule that stands somewhere in an answer; findings are at its place in the whole answer.

    Args:
        verifier: What certifies the molecule.

    Example:
        >>> from lit_symbolic.verifiers.chemistry import MoleculeVerifier
        >>> text = "Sure! Here it is:\\n```smiles\\nCC(C)(C)(C)O\\n```\\nI hope this helps."
        >>> [finding] = MoleculeInProse(MoleculeVerifier()).verify(Problem("molecules", "0", ""), text).findings
        >>> finding.kind, finding.start, text[finding.start]
        ('valence', 29, 'C')
    """

    verifier: Verifier

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify the molecule of an answer."""
        start, end = molecule_span(text)
        certificate = self.verifier.verify(problem, text[start:end])
        findings = [replace(finding, start=finding.start + start, end=finding.end + start) for finding in certificate.findings]
        return replace(certificate, findings=tuple(findings))


def molecule_span(text: str) -> Span:
    """Where the molecule of an answer stands.

    It is the last code block, tag or quotation in backticks; else the longest word that is a molecule, a full stop behind it
    left away; else the longest that looks like one; else the whole answer.

    Example:
        >>> for text in ("CCO", "The molecule is CC(=O)Nc1ccccc1.", "Try `CCN`, not CCCCO", "I cannot say", "It is C1CC(=O."):
        ...     print(text[slice(*molecule_span(text))])
        CCO
        CC(=O)Nc1ccccc1
        CCN
        I cannot say
        C1CC(=O
    """
    if len(text) > MAX_CHARACTERS or len(text.split()) < 2:
        return 0, len(text)
    for pattern in _QUOTED:
        quoted = [match.span(1) for match in pattern.finditer(text) if match[1].strip()]
        if quoted:
            return quoted[-1]
    words = [(match.start(), match.start() + len(match[0].rstrip(".:!?"))) for match in _WORD.finditer(text)]
    longest = sorted((span for span in words if span[1] > span[0]), key=lambda span: (span[0] - span[1], -span[0]))[:MAX_WORDS]
    molecules = (span for span in longest if span[1] - span[0] > 1 and read_molecule(text[slice(*span)]).valid)
    alike = (span for span in longest if _TELLTALE.search(text, *span))
    return next(molecules, None) or next(alike, None) or (0, len(text))
