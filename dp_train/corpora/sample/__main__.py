"""`python -m dp_train.corpora.sample FOLDER` writes the sample's files into a folder."""

from __future__ import annotations

import sys

from dp_train.corpora.sample import write_sample
from dp_train.errors import DpTrainError


def main(arguments: list[str]) -> int:
    """Exit code of the command."""
    if len(arguments) != 1:
        print("usage: python -m dp_train.corpora.sample FOLDER", file=sys.stderr)
        return 2
    try:
        write_sample(arguments[0])
    except DpTrainError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
