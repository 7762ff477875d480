"""Datasets of Hugging Face that lie on this machine, with the columns of `readers.parquet_schema`.

Nothing is downloaded. The package is an extra, `dp_train[hf]`, and is imported when such a corpus is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dp_train.conversations import Conversation
from dp_train.corpora.readers import FileCorpus
from dp_train.corpora.rows import from_row
from dp_train.errors import ConfigError, DataError

_LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}


def read_hf(path: str | os.PathLike[str]) -> FileCorpus:
    """A corpus of one conversation a row: what `save_to_disk` wrote, or a parquet or jsonl file, or a folder of them.

    Rows are as in `readers`, with the roster as a list of `{person_id, name}`; of a saved `DatasetDict` name the folder
    of one split. Rows are read as a stream.

    Raises:
      ConfigError: the package datasets is not installed.
      DataError: there is nothing at `path`, or nothing that can be read so. Rows are looked at when they are read.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path.name}: no such file or folder; expected a dataset on this machine")
    _datasets()
    return FileCorpus(path, _conversations)


def _conversations(path: Path) -> Iterator[Conversation]:
    rows, number = _rows(path), 0
    while True:
        number += 1
        try:
            row = next(rows, None)
        except DataError:
            raise
        except Exception as error:  # its own errors are of many kinds, and their words may hold rows
            raise DataError(
                f"{path.name} row {number}: datasets cannot read it ({type(error).__name__}); {_EXPECTED}"
            ) from error
        if row is None:
            return
        try:
            yield from_row(row)
        except DataError as error:
            raise DataError(f"{path.name} row {number}: {error}") from None


def _rows(path: Path) -> Iterator[Any]:
    datasets = _datasets()
    if (path / "dataset_info.json").exists():
        yield from datasets.load_from_disk(str(path))
        return
    files = sorted(file for file in path.iterdir() if file.suffix in _LOADERS) if path.is_dir() else [path]
    kinds = {_LOADERS.get(file.suffix, "") for file in files}
    kind = kinds.pop() if len(kinds) == 1 else ""
    if not kind:
        raise DataError(f"{path.name}: not a dataset; {_EXPECTED}")
    yield from datasets.load_dataset(kind, data_files=[str(file) for file in files], split="train", streaming=True)


_EXPECTED = (
    "expected a folder that save_to_disk wrote (of a DatasetDict, the folder of one split), or parquet or jsonl files; "
    "corpus=csv reads csv"
)


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("corpus=hf: the package datasets is not installed; pip install 'dp_train[hf]'") from error
    return datasets
