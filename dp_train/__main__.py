"""`python -m dp_train …` is `dp-train …`, for a shell that has no scripts on its path."""

from __future__ import annotations

import sys

from dp_train.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
