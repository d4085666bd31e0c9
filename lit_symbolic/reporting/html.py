"""The page that shows a run: its learning curves, and its answers with every token coloured by its reward.

One file without a script's help or a network: style, drawings and the few lines of script that show tooltips at once
stand in it, and its content security policy forbids everything else. All text is treated as hostile.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from lit_symbolic.reporting.curves import Curve, number, render_curve
from lit_symbolic.reporting.escaping import escape

MAX_FAULTS_LISTED = 3
MAX_QUOTE_CHARACTERS = 60
SHORT_PROMPT_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token of an answer.

    Args:
        text: The characters it stands for; empty if an earlier token shows them already.
        reward: Its reward; None if it has none (then it is drawn like a masked one).
        masked: It is left out of the loss.
        findings: What the symbolic tool objects to there, each a sentence.
        is_end: It ends the answer.
    """

    text: str
    reward: float | None
    masked: bool = False
    findings: tuple[str, ...] = ()
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One answer with what was found about it.

    Args:
        prompt: What was asked.
        tokens: The answer, token by token.
        correct: The verifier's word on the whole.
        status: How the verification ended: ``ok``, ``timeout`` or ``crashed`` (no evidence), or another word to show.
        length: Tokens sampled.
    """

    prompt: str
    tokens: tuple[TokenView, ...]
    correct: bool
    status: str
    length: int


@dataclass(frozen=True, slots=True)
class ReportSample:
    """One problem with its answer before and after training; None where there is none."""

    problem_id: str
    before: AnswerView | None
    after: AnswerView | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows.

    Args:
        title: The run's name.
        curves: The measures to look at first; the first of them is the headline.
        samples: Problems with their answers.
        other_curves: The rest, folded away.
        facts: Name and value of what is worth knowing about the run (seed, versions, duration).
        before_label: When the answers called before were sampled.
        after_label: When the answers called after were sampled.
        sample_note: How the samples were chosen.
    """

    title: str
    curves: tuple[Curve, ...] = ()
    samples: tuple[ReportSample, ...] = ()
    other_curves: tuple[Curve, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    before_label: str = "before"
    after_label: str = "after"
    sample_note: str = ""


def render_report(report: Report) -> str:
    """The whole page.

    Returns:
        An HTML document that can be encoded as UTF-8 and refers to nothing outside itself.

    Example:
        >>> page = render_report(Report(title="a <run>", curves=(Curve("success", (0, 1), (0.1, 0.2)),)))
        >>> page.startswith("<!doctype html>"), "a &lt;run&gt;" in page
        (True, True)
    """
    style, script = _resource("report.css"), _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = "".join((_header(report), _curves(report), _samples(report), _figures((*report.curves, *report.other_curves))))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{style}</style></head>\n"
        f'<body><main>{body}</main><div id="tip" hidden></div><script>{script}</script></body></html>\n'
    )


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _header(report: Report) -> str:
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in report.facts)
    return f'<header><h1>{escape(report.title)}</h1>{_headline(report)}<dl class="facts">{facts}</dl></header>'


def _headline(report: Report) -> str:
    points = report.curves[0].finite() if report.curves else []
    if not points:
        return ""
    (x_first, first), (x_last, last) = points[0], points[-1]
    span = f"iteration {number(x_first)} to {number(x_last)}" if x_last != x_first else f"iteration {number(x_last)}"
    values = f'<span class="from">{number(first)}</span><span class="arrow">→</span>' if x_last != x_first else ""
    return f'<p class="headline">{values}<strong>{number(last)}</strong><span>{escape(report.curves[0].name)}, {span}</span></p>'


def _curves(report: Report) -> str:
    if not report.curves and not report.other_curves:
        return ""
    shown = "".join(map(render_curve, report.curves))
    rest = "".join(map(render_curve, report.other_curves))
    fold = (
        f'<details><summary>{len(report.other_curves)} more curves</summary><div class="charts">{rest}</div></details>'
        if rest
        else ""
    )
    return f'<section><h2>Learning curves</h2><div class="charts">{shown}</div>{fold}</section>'


GROUPS = (
    ("newly solved", "wrong before, correct after"),
    ("lost", "correct before, wrong after"),
    ("solved both times", "correct before and after"),
    ("not solved", "wrong before and after"),
    ("one answer only", "no second answer to compare with"),
)


def _group(sample: ReportSample) -> int:
    if sample.before is None or sample.after is None:
        return 4
    return {(False, True): 0, (True, False): 1, (True, True): 2, (False, False): 3}[sample.before.correct, sample.after.correct]


def _samples(report: Report) -> str:
    if not report.samples:
        return ""
    answers = [answer for sample in report.samples for answer in (sample.before, sample.after) if answer]
    scale = max((abs(_reward(token) or 0.0) for answer in answers for token in answer.tokens), default=0.0) or 1.0
    solved = [sum(1 for s in report.samples if (a := getattr(s, side)) and a.correct) for side in ("before", "after")]
    parts = [
        "<section><h2>Answers, token by token</h2>",
        f'<p class="note">{len(report.samples)} problems: {solved[0]} solved {escape(report.before_label)}, '
        f"{solved[1]} {escape(report.after_label)}. {escape(report.sample_note)}</p>",
        _legend(scale),
    ]
    for index, (name, meaning) in enumerate(GROUPS):
        members = [sample for sample in report.samples if _group(sample) == index]
        if members:
            parts.append(f'<h3 class="group">{name} <span>{len(members)}, {meaning}</span></h3>')
            parts += [_sample(sample, report, scale) for sample in members]
    parts.append("</section>")
    return "".join(parts)


def _legend(scale: float) -> str:
    return (
        '<div class="legend"><p>The colour of a token is its <b>reward</b>: '
        '<span class="t pos" style="--a:.8">blue</span> is positive, <span class="t neg" style="--a:.8">orange</span> negative, '
        '<span class="t zero">pale</span> zero; <span class="t masked">hatched</span> tokens are left out of the loss, '
        'and a <span class="t zero f">wavy line</span> marks what the symbolic tool objected to '
        "(it says why in the tooltip and below the answer).</p>"
        f'<div class="scale"><span>−{number(scale)}</span><i></i><span>0</span><i></i><span>+{number(scale)}</span></div></div>'
    )


def _sample(sample: ReportSample, report: Report, scale: float) -> str:
    prompt = next((answer.prompt for answer in (sample.after, sample.before) if answer), "")
    shown = f'<pre class="prompt">{escape(prompt.strip())}</pre>'
    if len(prompt) > SHORT_PROMPT_CHARACTERS or prompt.strip().count("\n") > 3:
        shown = f"<details><summary>prompt, {len(prompt):,} characters</summary>{shown}</details>"
    sides = _answer(sample.before, report.before_label, scale) + _answer(sample.after, report.after_label, scale)
    asked = f'<div class="asked"><code>{escape(sample.problem_id)}</code>{shown}</div>'
    return f'<article>{asked}<div class="sides">{sides}</div></article>'


def _answer(answer: AnswerView | None, label: str, scale: float) -> str:
    if answer is None:
        return (
            f'<div class="answer"><div class="answer-head"><span>{escape(label)}</span></div><p class="note">no answer</p></div>'
        )
    if answer.status in ("timeout", "crashed"):
        css, verdict = "unknown", f"? no evidence ({escape(answer.status)})"
    else:
        css, verdict = ("correct", "✓ correct") if answer.correct else ("wrong", "✗ wrong")
        verdict += "" if answer.status == "ok" else f" ({escape(answer.status)})"
    total = sum(_reward(token) or 0.0 for token in answer.tokens)
    tokens = "".join(_token(token, scale) for token in answer.tokens)
    return (
        f'<div class="answer {css}"><div class="answer-head"><span>{escape(label)}</span><b>{verdict}</b></div>'
        f'<div class="tokens">{tokens}</div>{_faults(answer.tokens)}'
        f'<p class="note">{answer.length} tokens · rewards add up to {_signed(total)}</p></div>'
    )


def _token(token: TokenView, scale: float) -> str:
    reward, classes, style, words = _reward(token), ["t"], "", []
    if reward is not None:
        words.append(f"reward {_signed(reward)}")
    if token.masked or reward is None:
        classes.append("masked")
        words.append("left out of the loss" if token.masked else "no reward")
    elif reward == 0:
        classes.append("zero")
    else:
        classes.append("pos" if reward > 0 else "neg")
        style = f' style="--a:{0.12 + 0.88 * min(1.0, abs(reward) / scale):.2f}"'
    if token.findings:
        classes.append("f")
    if token.is_end:
        classes.append("end")
        words.insert(0, "end of the answer")
    title = "\n".join((", ".join(words), *token.findings))
    text = _spaced(token.text) + ("end" if token.is_end else "")
    return f'<span class="{" ".join(classes)}"{style} title="{escape(title)}">{text or "<i>⋯</i>"}</span>'


def _reward(token: TokenView) -> float | None:
    return token.reward if token.reward is not None and abs(token.reward) < 1e100 else None


def _signed(value: float) -> str:
    return number(value) if value <= 0 else f"+{number(value)}"


def _spaced(text: str) -> str:
    """The text with a dot on each space, ``⏎`` at each line's end, and its lines broken where they are."""
    marked = re.sub(" +", lambda m: f'<i class="ws">{m.group()}</i>', escape(text))
    return marked.replace("\t", "<i>⇥</i>\t").replace("\n", "<i>⏎</i><br>")


def _faults(tokens: Iterable[TokenView]) -> str:
    quotes: dict[str, str] = {}
    for token in tokens:
        for finding in token.findings:
            quotes[finding] = quotes.get(finding, "") + token.text
    items = []
    for finding, quote in list(quotes.items())[:MAX_FAULTS_LISTED]:
        cut = quote.strip()
        cut = cut if len(cut) <= MAX_QUOTE_CHARACTERS else cut[: MAX_QUOTE_CHARACTERS - 1] + "…"
        items.append(f"<li>{f'<q>{escape(cut)}</q> ' if cut else ''}{escape(finding)}</li>")
    if len(quotes) > MAX_FAULTS_LISTED:
        items.append(f"<li>and {len(quotes) - MAX_FAULTS_LISTED} more</li>")
    return f'<ul class="faults">{"".join(items)}</ul>' if items else ""


def _figures(curves: tuple[Curve, ...]) -> str:
    rows = []
    for curve in curves:
        points = curve.finite()
        if not points:
            continue
        lowest, highest = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
        cells = "".join(
            f"<td>{number(y)}{f'<small> at {number(x)}</small>' if where else ''}</td>"
            for (x, y), where in ((points[0], False), (points[-1], False), (lowest, True), (highest, True))
        )
        key = f" <code>{escape(curve.key)}</code>" if curve.key and curve.key != curve.name else ""
        rows.append(f'<tr><th scope="row">{escape(curve.name)}{key}</th>{cells}</tr>')
    if not rows:
        return ""
    return (
        '<section><h2>Figures</h2><div class="scroll"><table>'
        "<thead><tr><th>measure</th><th>first</th><th>last</th><th>lowest</th><th>highest</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
