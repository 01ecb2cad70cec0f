"""Prompt templates: one file each, YAML front matter, then parts (system:, user:, assistant:) in Jinja2."""

from tasks.core.findings import Finding
from tasks.core.prompts.front_matter import DocumentField, FewShot, FrontMatter, Judge, Output, Sampler, Sampling
from tasks.core.prompts.template import SUFFIX, Prompt, check_prompt, parse_prompt, read_prompt

__all__ = [
    "SUFFIX",
    "DocumentField",
    "FewShot",
    "Finding",
    "FrontMatter",
    "Judge",
    "Output",
    "Prompt",
    "Sampler",
    "Sampling",
    "check_prompt",
    "parse_prompt",
    "read_prompt",
]
