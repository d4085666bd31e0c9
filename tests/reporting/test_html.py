import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.reporting import AnswerView, Curve, Report, ReportSample, TokenView, render_report
from lit_symbolic.reporting.escaping import visible

VOID = {"meta", "br"}
LEAF_SVG = {"line", "circle", "polyline"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \"q\" 'q' &amp; </span></style> \x00 \ud83d \u202e --> ]]>"


class Page(HTMLParser):
    """Checks that elements nest, and collects what the tests look at."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tokens: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._token_depth = 0
        self._in_tokens = 0
        self.feed(page)
        self.close()
        assert self.stack == [], f"left open: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in VOID:
            return
        self.stack.append(tag)
        css = (attributes.get("class") or "").split()
        if css == ["tokens"]:
            self._in_tokens = len(self.stack)
        elif self._in_tokens and tag == "span" and "t" in css:
            self.tokens.append((attributes, ""))
            self._token_depth = len(self.stack)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in LEAF_SVG, f"<{tag}/> does not close itself in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag, f"</{tag}> closes another element"
        if len(self.stack) < self._token_depth:
            self._token_depth = 0
        if len(self.stack) < self._in_tokens:
            self._in_tokens = 0

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._token_depth:
            attributes, text = self.tokens[-1]
            self.tokens[-1] = attributes, text + data


def answer(*tokens: TokenView, **changes: object) -> AnswerView:
    return replace(AnswerView("4 4 6 8", tokens, correct=False, status="ok", length=len(tokens)), **changes)


def report_of(*tokens: TokenView, **changes: object) -> Report:
    return Report("run", samples=(ReportSample("p", answer(*tokens, **changes), None),))


def classes(page: Page) -> list[set[str]]:
    return [set((attributes["class"] or "").split()) for attributes, _ in page.tokens]


texts = st.text(st.characters(codec=None), max_size=20)
tokens = st.builds(
    TokenView,
    text=texts,
    reward=st.none() | st.floats(allow_nan=True),
    masked=st.booleans(),
    findings=st.lists(texts, max_size=3).map(tuple),
    is_end=st.booleans(),
)
answers = st.builds(
    AnswerView,
    prompt=texts,
    tokens=st.lists(tokens, max_size=6).map(tuple),
    correct=st.booleans(),
    status=st.sampled_from(["ok", "rejected", "timeout", "crashed"]) | texts,
    length=st.integers(0, 99),
)


@given(
    st.lists(st.builds(ReportSample, problem_id=texts, before=st.none() | answers, after=st.none() | answers), max_size=4), texts
)
def test_any_report_is_well_formed_and_shows_every_token_once(samples: list[ReportSample], title: str) -> None:
    page = render_report(Report(title, samples=tuple(samples), facts=((title, title),)))
    page.encode("utf-8")
    parsed = Page(page)
    assert len(parsed.tokens) == sum(len(a.tokens) for s in samples for a in (s.before, s.after) if a)
    assert [tag for tag, _ in parsed.tags].count("script") == 1


@given(st.text(st.characters(codec=None), max_size=200))
def test_a_tokens_text_is_read_back_as_it_was(text: str) -> None:
    ((_, shown),) = Page(render_report(report_of(TokenView(text + "|", 0.0)))).tokens
    # html.parser keeps newlines apart as <br>, which has no text; the marks for whitespace are added by the page.
    assert shown == visible(text + "|").replace("\n", "⏎").replace("\t", "⇥\t")


def test_hostile_text_is_shown_and_adds_no_element_and_no_attribute_anywhere() -> None:
    curve = Curve(HOSTILE, (0, 1), (0.1, 0.2), HOSTILE, HOSTILE)
    token = TokenView(HOSTILE, -1.0, findings=(HOSTILE,))
    view = AnswerView(HOSTILE, (token,), False, HOSTILE, 1)
    hostile = Report(
        HOSTILE, (curve,), (ReportSample(HOSTILE, view, view),), (curve,), ((HOSTILE, HOSTILE),), HOSTILE, HOSTILE, HOSTILE
    )

    def harmless(value: object) -> object:
        if isinstance(value, str):
            return "x y" if value == HOSTILE else value
        if isinstance(value, tuple):
            return tuple(harmless(item) for item in value)
        if hasattr(value, "__dataclass_fields__"):
            return replace(value, **{name: harmless(getattr(value, name)) for name in value.__dataclass_fields__})  # type: ignore[type-var]
        return value

    def skeleton(page: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in page.tags if tag not in ("i", "details", "summary")]

    page = Page(render_report(hostile))
    assert skeleton(page) == skeleton(Page(render_report(harmless(hostile))))  # type: ignore[arg-type]
    assert "<script>alert(1)</script>" in page.text
    assert page.text.count("⟨U+D83D⟩") >= 8
    assert "\x00" not in page.text


def test_nothing_outside_the_page_is_referred_to() -> None:
    view = answer(TokenView("4", 1.0), TokenView("+", -1.0, findings=("syntax: no",)))
    page = render_report(Report("run", (Curve("c", (0, 1), (0, 1)),), (ReportSample("p", view, view),), facts=(("seed", "1"),)))
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|<link|@import|url\(|<base|<iframe", page)
    assert "default-src 'none'" in page


def test_the_content_security_policy_allows_the_pages_own_script_and_no_other() -> None:
    page = render_report(Report("run"))
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(
        attributes["content"] or "" for tag, attributes in Page(page).tags if tag == "meta" and "http-equiv" in attributes
    )
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_colour_follows_sign_and_size_of_the_reward() -> None:
    page = Page(render_report(report_of(*(TokenView("t", reward) for reward in (2.0, 1.0, 0.0, -1.0, None)))))
    assert classes(page) == [{"t", "pos"}, {"t", "pos"}, {"t", "zero"}, {"t", "neg"}, {"t", "masked"}]
    strong, half, _, negative, _ = (attributes.get("style") for attributes, _ in page.tokens)
    assert strong == "--a:1.00"
    assert half == negative == "--a:0.56"


def test_a_masked_token_is_grey_whatever_its_reward_and_still_says_it() -> None:
    page = Page(render_report(report_of(TokenView("t", -1.0, masked=True), TokenView("u", 1.0))))
    assert classes(page)[0] == {"t", "masked"}
    assert page.tokens[0][0]["title"] == "reward −1, left out of the loss"


def test_findings_are_underlined_and_told_in_the_tooltip_and_below_the_answer_with_what_they_quote() -> None:
    finding = "arithmetic: 1 + 1 is 2"
    page = Page(
        render_report(
            report_of(
                TokenView("1 + 1 =", 0.0), TokenView(" 3", -1.0, findings=(finding,)), TokenView("!", 0.0, findings=(finding,))
            )
        )
    )
    assert [("f" in css) for css in classes(page)] == [False, True, True]
    assert finding in (page.tokens[1][0]["title"] or "")
    assert f"3!{' '}{finding}" in page.text


def test_only_a_correct_answer_has_the_check_mark_and_missing_evidence_is_no_failure() -> None:
    def verdict(**changes: object) -> str:
        return Page(render_report(report_of(TokenView("t", 0.0), **changes))).text

    assert "✓ correct" in verdict(correct=True)
    assert "✗ wrong" in verdict()
    assert "✗ wrong (rejected)" in verdict(status="rejected")
    assert "✗" not in verdict(status="timeout")
    assert "no evidence (timeout)" in verdict(status="timeout")


def test_whitespace_shows() -> None:
    page = render_report(
        report_of(TokenView("a  b\n", 0.0), TokenView("\t", 0.0), TokenView("", 0.0), TokenView("", 1.0, is_end=True))
    )
    assert 'a<i class="ws">  </i>b<i>⏎</i><br>' in page
    assert [text for _, text in Page(page).tokens] == ["a  b⏎", "⇥\t", "⋯", "end"]


def test_problems_are_grouped_by_what_training_changed() -> None:
    right, wrong = answer(TokenView("t", 1.0), correct=True), answer(TokenView("t", 0.0))
    samples = [
        ReportSample("a", wrong, wrong),
        ReportSample("b", right, wrong),
        ReportSample("c", wrong, right),
        ReportSample("d", right, right),
    ]
    text = Page(render_report(Report("run", samples=tuple(samples)))).text
    places = [text.index(word) for word in ("newly solved", "lost", "solved both times", "not solved")]
    assert places == sorted(places)
    assert "4 problems: 2 solved before, 2 after" in text


def test_the_headline_is_the_first_curve_from_its_first_to_its_last_value() -> None:
    text = Page(
        render_report(Report("run", (Curve("held-out pass@1", (0, 120), (0.035, 0.183)), Curve("kl", (0, 1), (0, 3)))))
    ).text
    assert "0.035→0.183held-out pass@1, iteration 0 to 120" in text
