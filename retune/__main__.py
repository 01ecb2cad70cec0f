"""``python -m retune``: the same as ``retune``."""

from retune.main import main

if __name__ == "__main__":
    main()
