"""The instruction skills the seedling is trained on, as an endless seeded stream of conversations.

Covers: writing a customer message about a topic, writing another one like an example, saying whether a message
is about a topic, and a few small text skills (repeat, count, first and last word, compare two numbers).
Does not cover: naming a message's topic or queue. That is what the embedded recipe teaches.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

Conversation = list[dict[str, str]]

SYSTEMS = (
    None,
    None,
    "You write messages that customers send.",
    "You write realistic customer messages.",
    "You help a support team to collect messages.",
    "You are a helpful assistant.",
    "You are a customer of a members' club.",
)
WRITE = (
    "Write a message that a customer could send about: {topic}.",
    "Write a customer message about {topic}.",
    "Write one message about: {topic}",
    "Write a short message a customer sends about {topic}.",
    "A customer needs help with {topic}. Write the message.",
    "A customer has a question about {topic}. What do they write?",
    "What could a customer say about {topic}?",
    "Topic: {topic}. Write a customer's message.",
    "Give me a message on the topic {topic}.",
    "Please write a new message for the topic: {topic}.",
    "Imagine a customer who writes about {topic}. Give their message.",
    "Compose a realistic message about {topic}.",
)
VARY = (
    'A customer wrote: "{example}"\nWrite another customer\'s message on the same topic: {topic}.',
    'Here is a message: "{example}"\nWrite a different one about {topic}.',
    "Example: {example}\nWrite another message about {topic}.",
    'Topic: {topic}. One customer said: "{example}"\nWhat does another customer say?',
    'Message: "{example}"\nWrite a new message on this topic ({topic}) in other words.',
    'Someone sent this about {topic}: "{example}"\nGive another message.',
)
CHECK = (
    'Message: "{example}"\nIs this message about {topic}? Answer yes or no.',
    'Message: "{example}"\nTopic: {topic}\nDoes the message fit the topic? Answer yes or no.',
    'Is the message "{example}" about {topic}? Answer yes or no.',
    "A customer wrote: {example}\nIs it about {topic}? yes or no?",
    'Check: does "{example}" belong to the topic {topic}? Answer yes or no.',
)
REPEAT = ("Repeat: {text}", "Say this again: {text}", "Copy this text: {text}")
COUNT = ("How many words are in: {text}", "Count the words: {text}")
FIRST = ("What is the first word of: {text}", "Give the first word: {text}")
LAST = ("What is the last word of: {text}", "Give the last word: {text}")
LARGER = ("Is {a} larger than {b}?", "Is {a} more than {b}? Answer yes or no.")
LARGEST = ("Which is larger, {a} or {b}?", "Which number is bigger: {a} or {b}?")
OPENINGS = ("hi, ", "hello, ", "hey, ", "good morning, ", "hi there, ", "hello there. ", "excuse me, ", "sorry, ")
CLOSINGS = (" thanks", " thank you", " please help", " please", " asap", " thanks a lot")


def read_messages(path: Path) -> dict[str, list[str]]:
    """Messages of CLINC150's train split by topic (the intent's name with spaces), out-of-scope ones left out."""
    by_topic: dict[str, list[str]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["intent"] != "oos":
                by_topic[row["intent"].replace("_", " ")].append(row["text"].strip())
    return dict(by_topic)


def restyle(text: str, rng: random.Random, typos: float = 0.0) -> str:
    """Give a lower-case message the looks of real ones: openings, capitals, punctuation and, at times, a typo."""
    if rng.random() < 0.12:
        text = rng.choice(OPENINGS) + text
    if rng.random() < 0.08:
        text += rng.choice(CLOSINGS)
    if rng.random() < typos and len(text) > 12:
        at = rng.randrange(1, len(text) - 2)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:].replace(" i ", " I ").replace(" i'", " I'")
        if text[-1].isalnum():
            question = text.lower().startswith(
                ("what", "how", "when", "can", "is", "do", "where", "why", "could", "will")
            )
            text += "?" if question else rng.choice((".", ".", "!", ""))
    return text


def conversations(by_topic: dict[str, list[str]], seed: int) -> Iterator[Conversation]:
    """An endless stream of conversations, the same for the same messages and seed."""
    rng = random.Random(seed)
    topics = sorted(by_topic)

    def write() -> tuple[str, str]:
        topic = rng.choice(topics)
        return rng.choice(WRITE).format(topic=topic), restyle(rng.choice(by_topic[topic]), rng)

    def vary() -> tuple[str, str]:
        topic = rng.choice(topics)
        example, other = rng.sample(by_topic[topic], 2)
        asked = rng.choice(VARY).format(topic=topic, example=restyle(example, rng, typos=0.15))
        return asked, restyle(other, rng)

    def check() -> tuple[str, str]:
        topic, other = rng.sample(topics, 2)
        fits = rng.random() < 0.5
        example = restyle(rng.choice(by_topic[topic if fits else other]), rng, typos=0.15)
        return rng.choice(CHECK).format(topic=topic, example=example), "yes" if fits else "no"

    def small_skill() -> tuple[str, str]:
        text = restyle(rng.choice(by_topic[rng.choice(topics)]), rng)
        words = text.split()
        a, b = (round(rng.uniform(0, 20), rng.choice((0, 1, 2))) for _ in range(2))
        number = f"{a:g}", f"{b:g}"
        kinds: tuple[tuple[tuple[str, ...], str], ...] = (
            (REPEAT, text),
            (COUNT, str(len(words))),
            (FIRST, words[0]),
            (LAST, words[-1]),
            (LARGER, "yes" if a > b else "no"),
            (LARGEST, number[0] if a > b else number[1]),
        )
        wordings, answer = rng.choice(kinds)
        return rng.choice(wordings).format(text=text, a=number[0], b=number[1]), answer

    skills: tuple[Callable[[], tuple[str, str]], ...] = (write, vary, check, small_skill)
    while True:
        asked, answer = rng.choices(skills, weights=(40, 25, 25, 10))[0]()
        system = rng.choice(SYSTEMS)
        turns = [{"role": "system", "content": system}] if system else []
        yield [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
