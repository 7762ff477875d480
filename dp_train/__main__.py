"""`python -m dp_train` is `dp-train`: where the script is not on the path, or another Python is meant."""

from __future__ import annotations

import sys

from dp_train.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
