"""Find secrets by their issuers' token formats: detect-secrets' detectors, and a few issuers it lacks.

Nothing is verified over the network. Entropy and words such as "password" prove nothing and are not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from tasks.collect.hygiene.text_spans import TextSpan

MARK = "[SECRET]"
HINT = re.compile(r"://|PRIVATE KEY|PuTTY-User|\S{20}")
"""Every text with a secret matches this."""
WINDOW, OVERLAP = 8192, 4096
"""In characters."""
REST = re.compile(r"[\w+/=\-]*(?:\.[\w+/=\-]+)*")
OWN = {
    "anthropic": r"sk-ant-[A-Za-z0-9_\-]{80,}",
    "github": r"github_pat_[A-Za-z0-9_]{82}",
    "google": r"AIza[0-9A-Za-z_\-]{35}",
    "huggingface": r"hf_[A-Za-z]{34}",
    "npm": r"npm_[A-Za-z0-9]{36}",
}
"""Token formats that detect-secrets lacks; its own npm pattern also takes the rest of the line."""


@dataclass(frozen=True)
class Shape:
    """The format of an issuer's secrets; ``rest`` matches what follows the pattern's match."""

    kind: str
    pattern: re.Pattern[str]
    group: int = 0
    is_valid: Callable[[str], bool] = bool
    rest: re.Pattern[str] = REST


def find_secrets(text: str) -> list[TextSpan]:
    """The secrets in a text; a secret in two overlapping windows is returned twice."""
    return [span for start, end in _windows(text) for span in _found(text, start, end)]


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Overlapping parts of a text that may hold a secret: some detectors are quadratic in its length."""
    for start in range(0, max(1, len(text) - OVERLAP), WINDOW - OVERLAP):
        if HINT.search(text, start, start + WINDOW):
            yield start, start + WINDOW


def _found(text: str, start: int, end: int) -> Iterator[TextSpan]:
    for shape in shapes():
        for match in shape.pattern.finditer(text, start, end):
            if shape.is_valid(match.group(shape.group)):
                left, right = match.span(shape.group)
                # A detector may match only the beginning of a token: the remainder must be redacted as well.
                rest = shape.rest.match(text, right)
                yield TextSpan(left, rest.end() if rest else right, f"secret:{shape.kind}", MARK)


@cache
def shapes() -> tuple[Shape, ...]:
    from detect_secrets.plugins import (
        aws,
        azure_storage_key,
        basic_auth,
        discord,
        github_token,
        gitlab_token,
        jwt,
        mailchimp,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    detectors = {
        "aws": aws.AWSKeyDetector,
        "azure_storage": azure_storage_key.AzureStorageKeyDetector,
        "discord": discord.DiscordBotTokenDetector,
        "github": github_token.GitHubTokenDetector,
        "gitlab": gitlab_token.GitLabTokenDetector,
        "mailchimp": mailchimp.MailchimpDetector,
        "openai": openai.OpenAIDetector,
        "pypi": pypi_token.PypiTokenDetector,
        "sendgrid": sendgrid.SendGridDetector,
        "slack": slack.SlackDetector,
        "square": square_oauth.SquareOAuthDetector,
        "stripe": stripe.StripeDetector,
        "telegram": telegram_token.TelegramBotTokenDetector,
        "twilio": twilio.TwilioKeyDetector,
    }
    heads = "|".join(pattern.pattern for pattern in private_key.PrivateKeyDetector.denylist)
    # A block ends with its END line, at the next head, or with the text: linear time.
    block = rf"(?:(?!-----END [A-Z0-9 ]{{1,40}}-----|(?:-----)?(?:{heads})).)*+(?:-----END [A-Z0-9 ]{{1,40}}-----)?"
    token = jwt.JwtTokenDetector
    return (
        Shape("private_key", re.compile(rf"(?:-----)?(?:{heads})"), rest=re.compile(block, re.DOTALL)),
        *(Shape("jwt", pattern, is_valid=token.is_formally_valid) for pattern in token.denylist),
        *(Shape(kind, pattern) for kind, detector in detectors.items() for pattern in detector.denylist),
        *(Shape(kind, re.compile(pattern)) for kind, pattern in OWN.items()),
        *(Shape("basic_auth", pattern, group=1) for pattern in basic_auth.BasicAuthDetector.denylist),
    )
