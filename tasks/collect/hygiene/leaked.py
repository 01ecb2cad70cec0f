"""Secrets by the shape that their issuers give them: detect-secrets' detectors, and a few issuers that it lacks.

Nothing is verified over the network. Entropy and words such as "password" are no proof and are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from tasks.collect.hygiene.finding import Finding

MARK = "[SECRET]"
HINT = re.compile(r"://|PRIVATE KEY|PuTTY-User|\S{20}")
"""What has a secret has this."""
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
"""Issuers' tokens that detect-secrets does not know yet; of npm's it takes the rest of the line as well."""


@dataclass(frozen=True)
class Shape:
    """What the secrets of an issuer look like.

    Attributes:
        kind: the issuer, or the sort of secret.
        pattern: finds it.
        group: of the pattern, that is the secret.
        is_valid: whether what was found is one.
        rest: what belongs to it behind what was found.
    """

    kind: str
    pattern: re.Pattern[str]
    group: int = 0
    is_valid: Callable[[str], bool] = bool
    rest: re.Pattern[str] = REST


def find_secrets(text: str) -> list[Finding]:
    """The secrets in a text; one that two windows show is given twice."""
    return [finding for start, end in _windows(text) for finding in _found(text, start, end)]


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text that may hold a secret.

    Some detectors take time by the square of a text's length: a long text is read in windows that overlap by more than
    a token is long.
    """
    for start in range(0, max(1, len(text) - OVERLAP), WINDOW - OVERLAP):
        if HINT.search(text, start, start + WINDOW):
            yield start, start + WINDOW


def _found(text: str, start: int, end: int) -> Iterator[Finding]:
    for shape in shapes():
        for match in shape.pattern.finditer(text, start, end):
            if shape.is_valid(match.group(shape.group)):
                left, right = match.span(shape.group)
                # A detector is content with the beginning of a token: what is left of it must go as well.
                rest = shape.rest.match(text, right)
                yield Finding(left, rest.end() if rest else right, f"secret:{shape.kind}", MARK)


@cache
def shapes() -> tuple[Shape, ...]:
    """Of all issuers."""
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
    # A block ends with its last line, at the head of another, or with the text: each is looked through once.
    block = rf"(?:(?!-----END [A-Z0-9 ]{{1,40}}-----|(?:-----)?(?:{heads})).)*+(?:-----END [A-Z0-9 ]{{1,40}}-----)?"
    token = jwt.JwtTokenDetector
    return (
        Shape("private_key", re.compile(rf"(?:-----)?(?:{heads})"), rest=re.compile(block, re.DOTALL)),
        *(Shape("jwt", pattern, is_valid=token.is_formally_valid) for pattern in token.denylist),
        *(Shape(kind, pattern) for kind, detector in detectors.items() for pattern in detector.denylist),
        *(Shape(kind, re.compile(pattern)) for kind, pattern in OWN.items()),
        *(Shape("basic_auth", pattern, group=1) for pattern in basic_auth.BasicAuthDetector.denylist),
    )
