"""Settings that must stand in the environment before Prefect is imported: everything stays under RETUNE_HOME."""

from __future__ import annotations

import os

from tasks.core.home import Home


def prepare_environment(home: Home, *, verbose: bool = False) -> None:
    """Point Prefect at RETUNE_HOME and keep libraries quiet; what the user has set stays as it is."""
    defaults = {
        "RETUNE_HOME": str(home.root),
        "PREFECT_HOME": str(home.root / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(home.results),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_CLI_COLORS": "false",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    for name in ("NO_PROXY", "no_proxy"):  # our own servers are on this machine
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
