"""Find personal data by patterns, checksums and number plans: presidio's recognisers, without a language model.

Finds e-mail addresses (with a known top-level domain), telephone numbers (of a country's number plan), payment cards
(Luhn), IBANs (checksum and country), public IP addresses, MAC addresses, US social security numbers and Bitcoin
addresses (checksum). Does not find names, postal addresses and dates of birth: they need a language model.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address, IPv6Network, ip_interface
from typing import Any

from tasks.collect.hygiene.text_spans import TextSpan

LEAST_SCORE = 0.4
"""Presidio scores from 0 to 1; a lower score is a guess (nine digits could be a social security number)."""
NUMBER_PLANS = ("US", "GB", "DE", "FR", "ES", "IT", "IN", "BR")
"""Countries whose national format is found; the international format (+...) is found for all."""
EXACT_GROUPING = 3
"""phonenumbers' leniency: digits grouped exactly as the country writes them, to exclude serial numbers."""
VALID = 1
TELEPHONE = re.compile(r"\b(?:phone|telephone|tel|mobile|cell|cellphone|call|text|whatsapp|fax)\b", re.IGNORECASE)
WORDS_BEFORE = 40
PLAIN_NUMBER = re.compile(r"[(\-]*\d+(?:\.\d+)?\)*")
BEFORE_DIGITS, AFTER = re.compile(r"\d\.$"), re.compile(r"\.\d")
GLOBAL_UNICAST = IPv6Network("2000::/3")
HELD_BACK = ("torch", "transformers", "stanza", "tensorflow")
HINT = re.compile(r"@|\d(?:\D{0,9}\d){3}")
"""Every text with personal data matches this; other texts cost a microsecond."""


@dataclass(frozen=True)
class Recogniser:
    """One of presidio's recognisers and where it searches.

    Attributes:
        hint: matches near all such data; only its surroundings are analysed, so that a huge text is cheap.
        reach: characters analysed before and after a hint; longer than the data can be.
        is_meant: whether the surrounding text confirms a match.
    """

    kind: str
    hint: re.Pattern[str]
    reach: int
    engine: Any
    is_meant: Callable[[str, TextSpan], bool] = lambda text, span: True

    @property
    def mark(self) -> str:
        return f"[{self.kind.upper()}]"

    def find(self, text: str) -> Iterator[TextSpan]:
        """Matches with a sufficient score, in presidio's order."""
        for start, end in _windows(self.hint, self.reach, text):
            for found in self.engine.analyze(text[start:end], self.engine.supported_entities, None):
                place = TextSpan(start + found.start, start + found.end, self.kind, self.mark)
                if found.score >= LEAST_SCORE and self.is_meant(text, place):
                    yield place


def find_personal_data(text: str) -> list[TextSpan]:
    """Personal data in a text; among overlapping matches the preferred one comes first."""
    if not HINT.search(text):
        return []
    return [span for recogniser in recognisers() for span in recogniser.find(text)]


def _windows(hint: re.Pattern[str], reach: int, text: str) -> Iterator[tuple[int, int]]:
    start = end = None
    for match in hint.finditer(text):
        left, right = max(0, match.start() - reach), min(len(text), match.end() + reach)
        if end is not None and start is not None and left > end:
            yield start, end
            start = left
        start, end = left if start is None else start, right
    if start is not None and end is not None:
        yield start, end


@cache
def recognisers() -> tuple[Recogniser, ...]:
    """All recognisers, loaded once, when a text has a hint: loading takes about two seconds."""
    with _without_language_models():
        from presidio_analyzer import predefined_recognizers as presidio
    import tldextract

    offline = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())

    class Email(presidio.EmailRecognizer):
        """Uses tldextract's bundled list of top-level domains; presidio's own recogniser downloads it."""

        def validate_result(self, pattern_text: str) -> bool:
            return bool(offline(pattern_text).fqdn)

    class PublicIp(presidio.IpRecognizer):
        """Skips addresses that identify no person: private, loopback, documentation."""

        def invalidate_result(self, pattern_text: str) -> bool:
            return not _is_public(pattern_text)

    digits = re.compile(r"\d(?:[ ().\-/]{0,3}\d){6}")
    groups = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}")
    address = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]")
    national = presidio.PhoneRecognizer(supported_regions=NUMBER_PLANS, leniency=EXACT_GROUPING)
    return (
        Recogniser("email", re.compile("@"), 320, Email()),
        Recogniser("iban", re.compile(r"[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}"), 48, presidio.IbanRecognizer()),
        Recogniser("crypto_wallet", re.compile(r"(?:bc1|[13])[a-zA-Z0-9]{25}"), 64, presidio.CryptoRecognizer()),
        Recogniser("phone", digits, 24, presidio.PhoneRecognizer(supported_regions=(None,), leniency=VALID)),
        Recogniser("credit_card", digits, 24, presidio.CreditCardRecognizer()),
        Recogniser("mac_address", groups, 4, presidio.MacAddressRecognizer()),
        Recogniser("ip_address", address, 48, PublicIp(), _is_whole),
        Recogniser("us_ssn", re.compile(r"\d{3}[- .]\d{2}[- .]\d{4}"), 4, presidio.UsSsnRecognizer()),
        Recogniser("phone", digits, 24, national, _is_telephone),
    )


def _is_telephone(text: str, span: TextSpan) -> bool:
    """Whether the digits are grouped as a telephone number, or the words before them mention a telephone."""
    before = text[max(0, span.start - WORDS_BEFORE) : span.start]
    return not PLAIN_NUMBER.fullmatch(text, span.start, span.end) or TELEPHONE.search(before) is not None


def _is_whole(text: str, span: TextSpan) -> bool:
    """Whether no other group of digits adjoins: 1.2.3.4.5 numbers a version or a chapter."""
    return not (BEFORE_DIGITS.search(text, max(0, span.start - 2), span.start) or AFTER.match(text, span.end))


def _is_public(text: str) -> bool:
    try:
        address = ip_interface(text).ip
    except ValueError:
        return False
    return address.is_global and (not isinstance(address, IPv6Address) or address in GLOBAL_UNICAST)


@contextmanager
def _without_language_models() -> Iterator[None]:
    """Block imports of packages that presidio and spaCy can do without: they take thirteen seconds."""
    modules: dict[str, Any] = sys.modules
    held = [name for name in HELD_BACK if name not in modules]
    modules.update(dict.fromkeys(held))
    try:
        yield
    finally:
        for name in held:
            modules.pop(name, None)
