"""vLLM as a child process in an environment of its own, and the one client that talks to it."""
