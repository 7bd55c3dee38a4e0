# ruff: noqa: RUF001, RUF002  (mathematical symbols)
"""One spelling for every way of writing an answer: LaTeX, Unicode, Markdown and plain ASCII.

The result uses single Unicode characters for operators (∪ ∅ ± ∞ π ∈ ≤ ≥ ≠ °), ⦃ ⦄ for set braces, and
LaTeX only for ``\\frac{}{}``, ``\\sqrt{}``, ``\\binom{}{}``, matrices and named functions.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_LENGTH = 4000
"""Characters. A longer answer or target is not read at all."""

_MONEY = "\ue000"  # a dollar sign that is no math delimiter
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+")
_VULGAR_FRACTION = re.compile("[¼½¾⅐-⅞]")
_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/",
        "∕": "/", "≦": "≤", "≧": "≥", "⩽": "≤", "⩾": "≥", "⟨": "(", "⟩": ")", "“": '"', "”": '"', "’": "'",
        "º": "°", "˚": "°", "Ø": "∅", "⌀": "∅", "≡": "=", "\u200b": "", "\ufeff": "", "\0": "",
    }
)  # fmt: skip
_COMMANDS = {
    "cup": "∪", "emptyset": "∅", "varnothing": "∅", "pm": "±", "mp": "∓", "infty": "∞", "pi": "π", "in": "∈",
    "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠",
    "lt": "<", "gt": ">", "times": "*", "cdot": "*", "ast": "*", "div": "/", "degree": "°", "circ": "°",
    "lbrace": "⦃", "rbrace": "⦄", "langle": "(", "rangle": ")", "lbrack": "[", "rbrack": "]", "lor": " or ",
    "vee": " or ", "land": " and ", "wedge": " and ", "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac",
    "dbinom": "\\binom", "tbinom": "\\binom", "mid": "|", "colon": ":", "left": "", "right": "", "big": "",
    "Big": "", "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "displaystyle": "", "limits": "", "quad": " ",
    "qquad": " ", "approx": "=", "bmod": " mod ", "percent": "%", "dots": "...", "ldots": "...",
    "cdots": "...", "euro": "€", "pounds": "£",
}  # fmt: skip
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox|hbox|operatorname|boxed|fbox)"
    r"\s*\{([^{}]*)\}"
)
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"<<[^<>]*>>", ""),  # GSM8K's calculator notes
        (r"\^\s*\{?\s*°\s*\}?", "°"),
        (r"\{,\}", ","),
        (r"(?<=\d)\\,(?=\d{3}(?!\d))", ","),
        (r"\\!", ""),
        (r"\\[,;: ]|~", " "),
        (r"\\%", "%"),
        (r"\b[Pp]er ?cents?\b", "%"),
        (r"\b[Dd]egrees?\b", "°"),
        (r"<=|=<", "≤"),
        (r">=", "≥"),
        (r"!=|/=", "≠"),
        (r"\+\s*/\s*-|\+-", "±"),
        (r"(?<=\w)\s*\*\*\s*(?=[\w(-])", "^"),
        (r"\\frac\s*([0-9A-Za-z])", r"\\frac{\1}"),
        (r"(\\frac\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
        (r"(?:√|(?<![\\A-Za-z])sqrt)\s*(?:\(([^()]*)\)|(\d+|[A-Za-z])|(?=\{))", r"\\sqrt{\1\2}"),
        (r"\\sqrt\{\}\{", r"\\sqrt{"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", "π"),
        (r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])", "∞"),
        (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", "*"),
        (r"\s+", " "),
    )
)
_THOUSANDS = re.compile(r"(?<![\d.,_^])[1-9]\d{0,2}(?:,\d{3})+(?![\d,]*\d)")
_SPACED_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3})+")
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(rf"(?<![\w.^])(\d+(?:\.\d+)?) ({'|'.join(_SCALES)})\b", re.IGNORECASE)
_CURRENCIES = {_MONEY: "dollars", "€": "euros", "£": "pounds", "¥": "yen", "₹": "rupees"}


def clean(text: str) -> str:
    """Rewrites an answer into the one spelling that `read` understands; "" when nothing is left."""
    if len(text) > MAX_LENGTH:
        return ""
    text = _unicode(_delimiters(_markdown(text.strip())))
    text = text.replace("\\{", "⦃").replace("\\}", "⦄")
    text = re.sub(r"\\([A-Za-z]+)", lambda found: _COMMANDS.get(found[1], found[0]), text)
    for _ in range(8):  # nested wrappers
        text, found = _WRAPPER.subn(r" \1 ", text)
        if not found:
            break
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _money(_thousands(text.strip())).strip(" .,;:=").strip()


def to_latex(text: str) -> str:
    """The reverse for symbols that math-verify knows only as LaTeX commands."""
    for command, symbol in (("cup", "∪"), ("emptyset", "∅"), ("infty", "∞"), ("pi", "π"), ("in", "∈")):
        text = text.replace(symbol, f"\\{command} ")
    for latex, symbol in (("\\le ", "≤"), ("\\ge ", "≥"), ("\\ne ", "≠"), ("^\\circ ", "°"), ("\\{", "⦃")):
        text = text.replace(symbol, latex)
    return text.replace("⦄", "\\}").replace("%", "\\%").replace("*", " \\cdot ")


def _markdown(text: str) -> str:
    text = re.sub(r"^#+ ", "", text)
    for _ in range(3):
        for mark in ("***", "**", "__", "`", "*", "_"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.rstrip(".").endswith(mark):
                text = text.rstrip(".")[len(mark) : -len(mark)].strip()
    return re.sub(r"\*\*([^*]+)\*\*(?![\w(])", r"\1", text)


def _delimiters(text: str) -> str:
    """Removes math delimiters; what dollars remain are money (Pandoc's rule for the closing one)."""
    text = text.replace("\\$", _MONEY)
    text = re.sub(r"\$\$(.*?)\$\$", r" \1 ", text, flags=re.DOTALL)
    text = re.sub(r"\$(?=\S)([^$]*[^$\s])\$(?!\d)", r" \1 ", text)
    text = re.sub(r"\\[()]|(?<!\\)\\[\[\]]", " ", text)
    return text.replace("$", _MONEY)


def _unicode(text: str) -> str:
    text = text.translate(_CHARACTERS)
    text = _SUPERSCRIPT.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    return unicodedata.normalize("NFKC", _VULGAR_FRACTION.sub(_vulgar_fraction, text))


def _vulgar_fraction(found: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(found[0])).limit_denominator(100)
    return f" {value.numerator}/{value.denominator}"


def _thousands(text: str) -> str:
    """Drops thousands commas. Inside brackets `(1,234)` is a pair, unless other commas have spaces."""
    if text[:1] not in ("(", "[", "{", "⦃") or re.search(r", |,\S*, ", text):
        text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    return text.replace(" ", "") if _SPACED_THOUSANDS.fullmatch(text) else text


def _money(text: str) -> str:
    text = _SCALED.sub(lambda found: f"({found[1]}*10^{{{_SCALES[found[2].lower()]}}})", text)
    for sign, name in _CURRENCIES.items():
        if sign in text:
            text = re.sub(sign + r"\s*(-?\d+(?:\.\d+)?|\([^()]*\))", rf"\1 {name}", text)
            text = text.replace(sign, f" {name}")
    return text
