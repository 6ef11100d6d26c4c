"""Single texts: what is taken out of them, and when one is too poor to learn from.

Patterns are kept narrow: what looks like an address but is none stays, since a text full of holes teaches holes.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from finetune_api.datafilters import PiiKind, QualityFilter

_DROPPED_WITH_CONTENT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:a|abbr|article|aside|b|blockquote|body|br|button|center|code|dd|div|dl|dt|em|figure|font|footer|form|h[1-6]|"
    r"head|header|hr|html|i|iframe|img|input|label|li|link|main|meta|nav|ol|option|p|pre|section|select|small|span|"
    r"strong|sub|sup|table|tbody|td|th|thead|title|tr|u|ul|video)\b[^<>]*>",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffe\uffff]")

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-zA-Z]{2,}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")
_ADDRESS = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])")
_PHONE = re.compile(
    r"(?<![\w+])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?|\(\d{2,4}\)[ .-]?)\d{2,4}(?:[ .-]?\d{2,4}){1,4}(?!\w)"
)


def without_html(text: str) -> str:
    """Tags and comments go, with the content of scripts and styles; `a < b` and `List<int>` stay."""
    return _TAG.sub("", _DROPPED_WITH_CONTENT.sub("", text))


def without_control_characters(text: str) -> str:
    """All but tab, line feed and carriage return."""
    return _CONTROL.sub("", text)


def without_personal_data(text: str, kinds: Collection[PiiKind] | None = None) -> str:
    """`[EMAIL]` for an e-mail address, and so on. IBANs and card numbers only where their check digits are right."""
    wanted = set(PiiKind) if kinds is None else set(kinds)
    if PiiKind.EMAIL in wanted:
        text = _EMAIL.sub("[EMAIL]", text)
    if PiiKind.IBAN in wanted:
        text = _IBAN.sub(lambda m: "[IBAN]" if is_iban(m.group()) else m.group(), text)
    if PiiKind.CREDIT_CARD in wanted:
        text = _CARD.sub(lambda m: "[CARD]" if is_card(m.group()) else m.group(), text)
    if PiiKind.IP_ADDRESS in wanted:
        text = _ADDRESS.sub("[IP]", text)
    if PiiKind.PHONE in wanted:
        text = _PHONE.sub("[PHONE]", text)
    return text


def is_card(text: str) -> bool:
    """ISO/IEC 7812-1, annex B (Luhn)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [2 * d - 9 * (d > 4) if index % 2 else d for index, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and any(digits)


def is_iban(text: str) -> bool:
    """ISO 13616: the rotated number, letters as 10 to 35, is 1 modulo 97."""
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def good(text: str, limits: QualityFilter) -> bool:
    """Shares of words, letters and repeated lines, as in the rules of MassiveText (Rae et al. 2021, appendix A1.1),
    without its word lists: no language is asked for."""
    if limits.min_words is not None and len(text.split()) < limits.min_words:
        return False
    if limits.min_letters_percent is not None:
        solid = [c for c in text if not c.isspace()]
        if 100 * sum(c.isalpha() for c in solid) < limits.min_letters_percent * len(solid):
            return False
    if limits.max_repeated_lines_percent is not None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if 100 * (len(lines) - len(set(lines))) > limits.max_repeated_lines_percent * len(lines):
            return False
    return True
