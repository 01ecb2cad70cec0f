"""The ChatML chat template, with tools: their schemas in the system turn, calls and results as turns of their own."""

END_OF_TURN = "<|im_end|>"
CHATML_TOKENS = ("<|im_start|>", END_OF_TURN)
_TOOLS = (
    "{% macro offered(tools) %}You may call these functions:\n<tools>\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools>\n"
    'A call is written as <tool_call>{"name": ..., "arguments": {...}}</tool_call>.{% endmacro %}'
)
_CALLS = (
    "{% for call in message.tool_calls or [] %}{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}"
    '<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}"
)
CHATML = (
    _TOOLS + "{% if tools and (not messages or messages[0]['role'] != 'system') %}"
    "<|im_start|>system\n{{ offered(tools) }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% if tools and loop.first and message['role'] == 'system' %}{{ '\n\n' }}{{ offered(tools) }}{% endif %}"
    + _CALLS
    + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Conversations without tools read the same as in plain ChatML."""
