"""How a file's own columns become the fields of a conversation: other names, columns that are kept out, constants.

A column that no configuration names stays an error: a misspelt "summary" that is passed over would be a summary lost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dp_train.corpora import rows
from dp_train.errors import DataError
from dp_train.expect import expect
from dp_train.settled import settled

OF_TABLES = ("turn", "display_name", "guest")
"""Columns that a table with one row a turn has besides the fields of conversations and turns."""
KNOWN = (*rows.FIELDS, *rows.TURN_FIELDS, *OF_TABLES)
"""Every field that a file of conversations may have, in a conversation or in a turn of it."""
CONSTANTS = ("org_id", "kind")
"""Fields that may be the same in all rows of a file, and then need no column."""

_MOST_NOTED = 100
_PLAIN = re.compile(r"\w[\w .:/()-]{0,60}")


@settled
@dataclass(kw_only=True)
class ColumnsConfig:
    """Of `jsonl`, `csv` and `parquet`: how files are read whose columns differ from the schema."""

    names: dict[str, str] = field(default_factory=dict)
    """Field → what the files call it, such as `{text: body}`; a file without that name is read by the field's own."""
    left_out: list[str] = field(default_factory=list)
    """Columns of the files that are kept out; any other that is unknown is refused."""
    constants: dict[str, str] = field(default_factory=dict)
    """`org_id` or `kind` of files that do not say it, such as `{kind: thread}`."""

    def __post_init__(self) -> None:
        key = "corpus.columns"
        unknown = [name for name in self.names if name not in KNOWN]
        expect(self, f"{key}.names", not unknown, f"fields of a conversation, of a turn or of a table: {_list(KNOWN)}")
        expect(self, f"{key}.names", len(set(self.names.values())) == len(self.names), "another column for each field")
        twice = set(self.names.values()) & set(self.left_out)
        expect(self, f"{key}.left_out", not twice, "no column that corpus.columns.names reads")
        expect(self, f"{key}.constants", set(self.constants) <= set(CONSTANTS), f"values of {_list(CONSTANTS)}")

    @property
    def nothing(self) -> bool:
        """Whether files are read as they are."""
        return not (self.names or self.left_out or self.constants)

    def columns(self) -> Columns:
        """What the readers take."""
        return Columns(names=self.names, left_out=frozenset(self.left_out), constants=self.constants)


@dataclass(slots=True)
class Noted:
    """What a pass over files found in their columns: names of fields, and names that nothing reads."""

    known: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a file calls its fields.

    Attributes:
      names: field → name in the file. left_out: names in the file that are kept out.
      constants: field → its value where a row has no such column.
      noted: columns are noted here, and unknown ones kept out; with None they are refused.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    constants: Mapping[str, str] = field(default_factory=dict)
    noted: Noted | None = None

    def header(self, names: list[str], known: Collection[str]) -> list[str | None]:
        """The field of each column of a table; None for one that is kept out.

        Raises:
          DataError: names that cannot be shown, or too many that nothing reads.
        """
        return [self._field(name, known) for name in names]

    def is_table(self, names: Collection[str]) -> bool:
        """Return whether columns of these names are of a table with one row a turn: a speaker, and no list of turns."""
        fields = {*names} | {own for own, given in self.names.items() if given in names}
        return "person_id" in fields and "turns" not in fields

    def row(self, row: object) -> object:
        """A nested row with the fields' own names, in its turns and on its roster, too; what is no object stays.

        Raises:
          DataError: a field comes twice.
        """
        if not isinstance(row, Mapping):
            return row
        values = {**{name: self.constants[name] for name in self.constants}, **self._renamed(row, rows.FIELDS)}
        if isinstance(values.get("turns"), list):
            values["turns"] = [self._renamed(turn, rows.TURN_FIELDS) for turn in values["turns"]]
        if isinstance(values.get("roster"), list):
            values["roster"] = [self._renamed(entry, ("person_id", "name")) for entry in values["roster"]]
        return values

    def _renamed(self, row: object, known: Collection[str]) -> Any:
        if not isinstance(row, Mapping):
            return row
        values: dict[str, Any] = {}
        for name, value in row.items():
            field_name = self._field(name, known)
            if field_name is None:
                continue
            if field_name in values:
                raise DataError(f"{field_name} comes twice, once by the name of corpus.columns.names; leave one out")
            values[field_name] = value
        return values

    def _field(self, name: str, known: Collection[str]) -> str | None:
        """What a name of the file means; an unknown one stays as it is, and is refused by who reads on."""
        if name in self.left_out:
            return None
        own = next((own for own, given in self.names.items() if given == name and own in known), name)
        if self.noted is None:
            return own
        if own in known:
            self.noted.known.add(name)
            return own
        self._note(name)
        return None

    def _note(self, name: str) -> None:
        assert self.noted is not None
        self.noted.unknown.add(name)
        if not (isinstance(name, str) and _PLAIN.fullmatch(name)):
            raise DataError("a column's name is no plain word; rename it, or remove the column")
        if len(self.noted.unknown) > _MOST_NOTED:
            raise DataError(
                f"more than {_MOST_NOTED} columns that nothing reads; expected the same few in every row, and names "
                "that are no content"
            )


def _list(names: Collection[str]) -> str:
    return ", ".join(names)


__all__ = ["CONSTANTS", "KNOWN", "OF_TABLES", "Columns", "ColumnsConfig", "Noted"]
