"""Conversations to be masked and rendered."""

TURNS = [
    {"role": "system", "content": "route"},
    {"role": "user", "content": "where is my card"},
    {"role": "assistant", "content": "cards"},
    {"role": "user", "content": "and my account"},
    {"role": "assistant", "content": "accounts"},
]
CALL = {"id": "1", "type": "function", "function": {"name": "find_card", "arguments": {"owner": "Ann"}}}
