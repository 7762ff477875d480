"""`dp-train init`: from files of conversations to a recipe, a key and a template of consent, with nothing to look up.

What was counted goes to the error stream, for the eyes of whoever holds the files; nothing of it is in a file.
"""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dp_train.cli.show import table
from dp_train.consent.imports import events_of_file
from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.columns import ColumnsConfig
from dp_train.errors import ConfigError, ConsentError
from dp_train.runs.own import NOTICE, Own, consent_rows, recipe_text, template_text, write_new
from dp_train.runs.populations import made_key
from dp_train.runs.project import key_path, refuse_new_store
from dp_train.runs.proposal import Proposal, propose
from dp_train.runs.survey import Survey, survey
from dp_train.store.database import absolute_url

_FEW = 500
_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


def run(options: Namespace) -> int:
    """Survey, show, propose, write; whatever can be refused is refused before anything is written.

    Raises:
      DataError: a file cannot be read. ConfigError: an option, or a file that would be overwritten.
      ConsentError: the key that is there is none, or cannot be made.
    """
    if _NAME.fullmatch(options.name) is None:
        raise ConfigError(f"init: --name {options.name}; expected letters, digits, - and _, such as own")
    columns = ColumnsConfig(
        names=_pairs("--column", options.column, "text=body"),
        constants=_pairs("--constant", options.constant, "kind=thread"),
    )
    files = _once(options.files)
    recipe, consent = Path("experiments", f"{options.name}.yaml"), Path(options.consent or "consent.csv")
    _refuse_to_overwrite(options, recipe, consent)
    asks = options.consent is None or not consent.exists()  # else its answers are taken as they are
    found = survey([Path(file) for file in files], columns)
    columns = replace(columns, left_out=sorted(found.columns.unknown))
    task = options.task or found.task
    proposal = propose(task, found.rows[task])

    screen = Console(stderr=True, highlight=False)
    screen = screen if screen.is_terminal else Console(stderr=True, highlight=False, width=200)
    screen.print(_found_table(found, proposal))
    screen.print("for your eyes alone: none of these counts is written to a file")
    if proposal.population < _FEW:
        print(
            "with so few people the noise drowns nearly all that they teach; expect a model near its public start",
            file=sys.stderr,
        )
    unnamed = sum(person not in found.named for person in found.rows[task].people)
    if unnamed:
        print(
            f"{unnamed:,} of these people have no name in the files, so anonymisation cannot find it in what is said: "
            "give the roster, or of a table --column display_name=NAME",
            file=sys.stderr,
        )
    if columns.left_out:
        print(f"kept out, for nothing reads them: {', '.join(columns.left_out)}", file=sys.stderr)

    key = key_path(options.key)
    url = absolute_url(None, Path.cwd())
    refuse_new_store(url, options.key, *files)
    made = not key.exists()
    secret = made_key(key, url)
    if not asks:
        _expect_known(consent, secret, found.rows[task].people)
    own = Own(files=files, columns=columns, consent=str(consent), key=options.key)
    lines = [f"wrote {key}: the key of pseudonyms; keep a copy elsewhere"] if made else []
    if asks:
        rows = consent_rows(found, task, now=datetime.now(UTC))
        write_new(consent, template_text(rows), private=True, replace=options.force)
        lines.append(f"wrote {consent}: it grants nothing yet")
    write_new(recipe, recipe_text(own, proposal, options.name), private=False, replace=options.force)
    lines.append(f"wrote {recipe}: every declared number, rounded and explained")
    print("\n".join([*lines, "", *_next(options.name, consent, asks=asks)]))
    return 0


def _next(name: str, consent: Path, *, asks: bool) -> list[str]:
    first = f"1. see that {consent} has the events of these people, under this key"
    if asks:
        first = _FILL_IN.format(file=consent, notice=NOTICE)
    return [first, f"2. dp-train validate experiments={name}", f"3. dp-train train experiments={name}"]


_FILL_IN = """\
1. fill in {file}, a row a person and organisation; a row that you leave as it is stays a no. For who agreed:
   event_state  ConsentGiven
   age_band     adult (of a person; dp-train consent schema lists the others)
   event_time   when they agreed, if that was earlier
   notice_id    the text that they agreed to, in place of {notice}
   data_from    from when on that text lets content be used; it stands at the day of your oldest conversation"""


def _refuse_to_overwrite(options: Namespace, recipe: Path, consent: Path) -> None:
    """Ask before hours of reading, not after.

    Raises:
      ConfigError: a file is there that would be overwritten, or is not there that was named.
    """
    if options.consent is not None and not consent.exists() and consent.suffix != ".csv":
        raise ConfigError(
            f"init: --consent {consent}: no such file; expected one that is there, or a .csv to be written"
        )
    if recipe.exists() and not options.force:
        raise ConfigError(f"init: {recipe} exists; --name OTHER writes another one, --force this one anew")
    if options.consent is None and consent.exists() and not options.force:
        raise ConfigError(
            f"init: {consent} exists and may hold answers; --consent {shlex.quote(str(consent))} takes it as it is, "
            "--force writes it anew"
        )


def _expect_known(consent: Path, key: PrincipalKey, people: Collection[str]) -> None:
    """Say of how many people there are events.

    Raises:
      ConsentError: of no one, which is what another key looks like. DataError: the file cannot be read.
    """
    known = {event.pii_principal_id for event in events_of_file(consent, key)}
    answered = sum(key.pseudonym(person) in known for person in people)
    if not answered:
        raise ConsentError(
            f"init: {consent} has no event of anyone in the files; expected some: is --key the one that they were "
            "written under?"
        )
    print(f"{answered:,} of {len(people):,} people have events in {consent}", file=sys.stderr)


def _once(files: Sequence[str]) -> list[str]:
    if len({str(Path(file).absolute()) for file in files}) < len(files):
        raise ConfigError("init: a file is named twice; expected each once")
    return list(files)


def _pairs(option: str, words: Sequence[str], example: str) -> dict[str, str]:
    """The FIELD=VALUE words of an option.

    Raises:
      ConfigError: a word is none, or a field comes twice.
    """
    found: dict[str, str] = {}
    for word in words:
        field, separator, value = word.partition("=")
        if not (field and separator and value):
            raise ConfigError(f"init: {option} {word}; expected FIELD=…, such as {option} {example}")
        if field in found:
            raise ConfigError(f"init: {option} {field}=… comes twice; expected each field once")
        found[field] = value
    return found


def _found_table(found: Survey, proposal: Proposal) -> Table:
    rows = found.rows[proposal.task]
    fewest, median, most = rows.per_person
    kept = rows.kept(proposal.max_contributions, proposal.rows_per_unit)
    return table(
        ("", ""),
        [
            *((f"{kind.value}s", f"{count:,}") for kind, count in found.conversations.items()),
            ("messages and turns", f"{found.turns:,}"),
            (f"people who speak in what {proposal.task} learns from", f"{len(rows.people):,}"),
            ("guests, who cannot agree", f"{len(found.guests):,}"),
            ("organisations", f"{len(found.organisations):,}"),
            (f"rows of {proposal.task}", f"{len(rows):,}"),
            ("rows a person", f"{fewest:,} to {most:,}, median {median:,}"),
            ("rows that the proposed bounds keep", f"{kept:,} ({kept / len(rows):.0%})"),
            ("declared instead", f"{proposal.population:,} {'rows' if proposal.shared else 'people'}"),
        ],
        title="found, if everybody agrees",
        numbers=True,
    )
