"""The cause of a child's end is found wherever it is in its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.child_logs import cause_in, find_cause, new_log

ENGINE = "(EngineCore pid=20) ERROR 11-28 20:54:55 [core.py:1512]"
SERVER = "(APIServer pid=10) ERROR 11-28 20:54:56 [async_llm.py:906]"
SHUTDOWN = "\n".join(
    [
        "(APIServer pid=10) INFO 11-28 20:54:57 [launcher.py:279] [shutdown] API server: engine client stopped",
        "INFO:     Shutting down",
        "INFO:     Application shutdown complete.",
        "/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: There appear to be 1 leaked object",
        "  warnings.warn('resource_tracker: There appear to be %d '",
    ]
    + ["INFO:     Finished server process"] * 40
)
DIED_IN_A_REQUEST = f"""\
(APIServer pid=10) INFO 11-28 20:54:44 [loggers.py:335] Engine 000: Running: 0 reqs
{ENGINE} EngineCore encountered a fatal error.
{ENGINE} Traceback (most recent call last):
{SERVER} AsyncLLM output_handler failed.
{ENGINE}   File "/venv/vllm/lora/layers.py", line 91, in _expand
{SERVER} Traceback (most recent call last):
{ENGINE}     logits += torch.einsum("bi,boi->bo", update, rows)
{ENGINE}               ^^^^^^^^^^^^
{SERVER}   File "/venv/vllm/v1/engine/async_llm.py", line 849, in output_handler
{ENGINE} RuntimeError: einsum(): subscript b has size 4 for operand 1
{ENGINE} which does not broadcast with previously seen size 9
{SERVER} vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)
{SHUTDOWN}
"""
DIED_AT_THE_START = f"""\
Process EngineCore:
Traceback (most recent call last):
  File "/venv/vllm/v1/engine/core.py", line 700, in run
    model = load()
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Model architectures ['Odd'] are not supported for now.

Traceback (most recent call last):
  File "/venv/vllm/entrypoints/openai/api_server.py", line 12, in <module>
    uvloop.run(run_server(args))
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
{SHUTDOWN}
"""
CHAINED = """\
Traceback (most recent call last):
  File "/a.py", line 1, in read
    json.loads(text)
ValueError: Expecting value

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/b.py", line 2, in load
    raise OSError("unreadable") from error
OSError: unreadable
"""


def found(text: str) -> str:
    cause = find_cause(text)
    assert cause is not None
    return "\n".join(cause.lines)


def test_the_engines_exception_is_found_before_its_servers_and_a_page_about_the_shutdown(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(DIED_IN_A_REQUEST, encoding="utf-8")
    shown = cause_in(log)
    assert shown.startswith("the cause in line 10 of its log:\n    RuntimeError: einsum()")
    assert "does not broadcast" in shown and 'line 91, in _expand\n        logits += torch.einsum("bi' in shown
    assert "EngineDeadError" not in shown and "hutdown" not in shown


def test_what_stopped_the_start_is_found_before_the_exception_that_refers_to_it() -> None:
    shown = found(DIED_AT_THE_START)
    assert "ValidationError" in shown and "'Odd'] are not supported" in shown and "root cause" not in shown


def test_of_a_chain_the_first_exception_is_the_cause_unless_another_one_ended_the_handling() -> None:
    assert found(CHAINED).startswith("ValueError: Expecting value")
    handled = CHAINED.replace("The above exception was the direct cause of the following exception:",
                              "During handling of the above exception, another exception occurred:")  # fmt: skip
    assert found(handled).startswith("OSError: unreadable")


def test_the_last_of_several_exceptions_counts_but_none_that_was_ignored() -> None:
    assert found(CHAINED + DIED_AT_THE_START).startswith("pydantic_core")
    assert found(DIED_AT_THE_START + "Exception ignored in: <function Pool.__del__>\n" + CHAINED[:110]).startswith(
        "pyd"
    )


@pytest.mark.parametrize("consequence", ["asyncio.exceptions.CancelledError", "SystemExit: 1", "EOFError"])
def test_exceptions_of_processes_whose_partner_is_gone_are_shown_only_if_there_is_nothing_else(
    consequence: str,
) -> None:
    alone = f'Traceback (most recent call last):\n  File "/c.py", line 3, in wait\n    await it\n{consequence}\n'
    assert found(alone).startswith(consequence)
    assert found(CHAINED + alone).startswith("ValueError")


@pytest.mark.parametrize(
    "line",
    [
        "Killed",
        "Fatal Python error: Segmentation fault",
        "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB",
        "Out of memory: Killed process 4242 (python)",
        "(Worker pid=7) ERROR 11-28 20:54:55 [worker.py:1] OSError: [Errno 28] No space left on device",
        "api_server.py: error: unrecognized arguments: --fast",
        "\x1b[31mterminate called after throwing an instance of 'c10::Error'\x1b[0m",
        "ERROR 11-28 20:54:55 [core_client.py:1] Engine core proc EngineCore died unexpectedly",
        "2026-11-28 20:54:55,123 ERROR root: the port is taken",
    ],
)
def test_without_a_traceback_the_words_of_kernel_library_or_logger_count(line: str) -> None:
    shown = found(f"INFO:     Started\n{line}\n{SHUTDOWN}")
    assert shown.startswith(line.replace("\x1b[31m", "").removesuffix("\x1b[0m"))


def test_a_note_about_memory_is_no_cause_and_then_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("WARNING 11-28 20:54:55 [a.py:1] this may run out of memory\nloading\n", encoding="utf-8")
    assert cause_in(log).startswith("its last lines:\n    WARNING") and cause_in(log).endswith("    loading")
    assert cause_in(tmp_path / "none") == "its last lines:\n    (no output)"


def test_long_lines_and_messages_are_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(CHAINED[:110] + "\n" + "x" * 9000 + "\ny" * 50, encoding="utf-8")
    assert len(cause_in(log)) < 1500


def test_every_attempt_has_a_log_of_its_own(tmp_path: Path) -> None:
    name = tmp_path / "run" / "vllm-evaluate.log"
    logs = [new_log(name) for _ in range(3)]
    assert [log.name for log in logs] == ["vllm-evaluate.log", "vllm-evaluate-2.log", "vllm-evaluate-3.log"]
    assert all(log.is_file() for log in logs)
