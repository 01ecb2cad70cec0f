"""Environment variables that must be set before Prefect is imported, and where the logs of libraries go."""

from __future__ import annotations

import logging
import os

from tasks.core.home import Home

LIBRARY_LOG = "libraries.log"


def prepare_environment(home: Home, *, verbose: bool = False) -> None:
    """Point Prefect at RETUNE_HOME and keep libraries quiet; variables that the user has set keep their values."""
    os.environ["RETUNE_HOME"] = str(home.root)  # absolute: children have other working folders
    defaults = {
        "PREFECT_HOME": str(home.root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_CLI_COLORS": "false",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",  # else it prints every step of its database's migration
        "GIT_PYTHON_REFRESH": "quiet",
    }
    for name in ("NO_PROXY", "no_proxy"):  # our own servers are on this machine
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def log_libraries_to_file(home: Home) -> None:
    """Send log records and warnings of libraries to a file in the logs; call it after Prefect was imported.

    Prefect replaces the handlers of the root logger when it is imported. A root logger without a handler prints
    warnings to the terminal.
    """
    home.logs.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(home.logs / LIBRARY_LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
