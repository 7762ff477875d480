"""Who is in a run: the private list that answers "which models was this person's data in?".

runs/…/private/people.jsonl, the folder with mode 0700 and the file with 0600:

  {"format": 1, "run": "9f2c…", "population": "7c1e…", "purpose": "train_chat_compose", "consent_root": "ab12…"}
  {"person": "00a1…"}          one line a person, sorted: the pseudonyms of everybody who owns a row of the units
  {"person": "03ff…"}

It is as private as the data (it says who took part), and stays in the run's folder: no ledger, tracker or card
takes it. Without the principal key nobody can tell who a pseudonym is. Erasure takes a person's line out and counts it
(`"erased": 1` in the header), so that what the model may still know of them stays accounted for.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dp_train.atomic import sweep, whole_file
from dp_train.consent.events import Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.errors import CheckpointError

PRIVATE = "private"
"""Folder of a run beside its checkpoint, for what is as private as the data."""

FILE = "people.jsonl"
_FORMAT = 1
_PSEUDONYM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The people of one run. Private; its repr tells no count.

    Attributes:
      run: id of the run, that of its reservation where it is in a ledger.
      identity: public name of the run, as checkpoint, ledger line, card and model have it; "" before it began.
      population: population_id of the people. purpose: what they agreed to. consent_root: by which snapshot.
      people: sorted pseudonyms, without repeats.
      erased: how many were in it and had their line erased since.
    """

    run: str
    population: str
    purpose: Purpose
    consent_root: str
    people: tuple[str, ...] = field(repr=False)
    erased: int = field(default=0, repr=False)
    identity: str = ""

    def holds(self, pseudonym: str) -> bool:
        """Whether a person is in it."""
        place = bisect_left(self.people, pseudonym)
        return place < len(self.people) and self.people[place] == pseudonym


def manifest_of(
    owners: Iterable[frozenset[str]], key: PrincipalKey, *, run: str, population: str, purpose: Purpose, root: str
) -> Manifest:
    """The manifest of units whose rows belong to `owners`, person ids as the corpus has them."""
    ids = {person for people in owners for person in people}
    people = tuple(sorted(key.pseudonym(person) for person in ids))
    return Manifest(run=run, population=population, purpose=purpose, consent_root=root, people=people)


def write_manifest(manifest: Manifest, run_folder: Path) -> Path:
    """Write it into the private part of a run's folder, whole or not at all.

    Raises:
      CheckpointError: it cannot be written.
    """
    folder = run_folder / PRIVATE
    final = folder / FILE
    header = {
        "format": _FORMAT,
        "run": manifest.run,
        "population": manifest.population,
        "purpose": manifest.purpose.value,
        "consent_root": manifest.consent_root,
        **({"erased": manifest.erased} if manifest.erased else {}),
        **({"identity": manifest.identity} if manifest.identity else {}),
    }
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with whole_file(final, mode=0o600) as out:
            out.write(json.dumps(header).encode() + b"\n")
            out.writelines(f'{{"person": "{person}"}}\n'.encode() for person in manifest.people)
    except OSError as error:
        raise CheckpointError(
            f"manifest: {final} cannot be written ({error.strerror}); free space, or work in another folder"
        ) from error
    return final


def read_manifest(run_folder: Path) -> Manifest | None:
    """The manifest of a run's folder; None where it has none.

    Raises:
      CheckpointError: there is one that cannot be read, or that nobody wrote like this.
    """
    path = run_folder / PRIVATE / FILE
    try:
        with path.open() as lines:
            header = json.loads(next(lines, "null"))
            people = tuple(json.loads(line)["person"] for line in lines)
        if header["format"] != _FORMAT:
            raise ValueError
        if not all(_PSEUDONYM.fullmatch(person) for person in people) or list(people) != sorted(set(people)):
            raise ValueError
        return Manifest(
            run=str(header["run"]),
            population=str(header["population"]),
            purpose=Purpose(header["purpose"]),
            consent_root=str(header["consent_root"]),
            people=people,
            erased=int(header.get("erased", 0)),
            identity=str(header.get("identity", "")),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"manifest: {path} cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"manifest: {path} is damaged, or of another format than {_FORMAT}; restore it, or count its run as one "
            "that everybody is in"
        ) from error


def note_identity(run_folder: Path, identity: str) -> None:
    """Write the public name of a run into its manifest, once it is known: before the run draws its first coin.

    Raises:
      CheckpointError: the manifest is missing, or cannot be read or written.
    """
    manifest = read_manifest(run_folder)
    if manifest is None:
        raise CheckpointError(f"manifest: {run_folder / PRIVATE / FILE} is missing; its run must not begin without it")
    if manifest.identity != identity:
        write_manifest(replace(manifest, identity=identity), run_folder)


def forget(run_folder: Path, pseudonym: str) -> bool:
    """Take a person out of the manifest of a run's folder and count them as erased; return whether they were in it.

    Half-written manifests that killed processes left name people, too: they are removed, whoever is in them.

    Raises:
      CheckpointError: the manifest cannot be read or written; it is as it was.
    """
    sweep(run_folder / PRIVATE, foreign_seconds=0)
    manifest = read_manifest(run_folder)
    if manifest is None or not manifest.holds(pseudonym):
        return False
    others = tuple(person for person in manifest.people if person != pseudonym)
    write_manifest(replace(manifest, people=others, erased=manifest.erased + 1), run_folder)
    return True


__all__ = ["FILE", "PRIVATE", "Manifest", "forget", "manifest_of", "note_identity", "read_manifest", "write_manifest"]
