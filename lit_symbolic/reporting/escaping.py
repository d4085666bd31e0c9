"""Makes text that a model wrote safe to put on a page, and visible down to its last odd character.

A model's answer is hostile: it may hold markup, quotes, null bytes, half a surrogate pair (which no UTF-8 file can
hold) or direction marks that make a page show another order of characters than the text has.
"""

from __future__ import annotations

import html
import re

_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff"
    "\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The text with every character that cannot be shown, or that hides or reorders others, spelled out.

    Newlines and tabs stay. The result can always be encoded as UTF-8.

    Args:
        text: Any string.

    Returns:
        Control characters as their pictures, all else odd as ``⟨U+…⟩``.

    Example:
        >>> visible("a\x00b\u202ec\ud83d")
        'a␀b⟨U+202E⟩c⟨U+D83D⟩'
    """
    return _ODD.sub(_spell, text)


def escape(text: str) -> str:
    """The text for an HTML page, in an element or in a quoted attribute; see :func:`visible`.

    Example:
        >>> escape('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(visible(text), quote=True)


def _spell(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
