"""`dp-train consent key`: makes the key of pseudonyms, and replaces old keys by new ones where that is safe."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from dp_train.cli.consent_people import officer_of
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.signing_keys import rotate
from dp_train.errors import ConsentError
from dp_train.runs.project import key_path

REFUSED = {
    "principal": (
        "principal key: is not replaced: what people said is kept under pseudonyms of it, and a person who objected "
        "once and is in no file here has no id from which the new one could be made, so their no would be lost; keep "
        "it, or destroy it to sever everybody"
    ),
    "ledger": (
        "ledger key: is not replaced: every hash of the ledger is made under it, and heads of them stand in run "
        "folders, tags and files elsewhere, so a chain under another key is refused as an older copy; keep it where "
        "the database is not"
    ),
    "people": (
        "people key: is not replaced: the ledger knows by it whom two populations share, and digests under another "
        "key fit none of the old ones, so all people would be charged for all runs from before; keep it beside "
        "ledger.key"
    ),
}
"""Keys whose replacement would cost a no or a budget, and why."""


def run(options: Namespace) -> int:
    """Make a principal key, or rotate the key that is named.

    Raises:
      ConsentError: that key cannot be replaced safely; nothing was changed.
    """
    if options.rotate is None:
        return _make(Path(options.file or "runs/principal.key"))
    if options.rotate in REFUSED:
        raise ConsentError(REFUSED[options.rotate])
    if options.rotate == "token":
        from dp_train.web.tokens import renew_token

        path = Path(options.file or "runs/serve.token")
        renew_token(path)
        print(f"wrote {path}: give it to your systems, and restart dp-train consent serve; all links have ended")
        return 0
    path = key_path(options.file or "runs/signing.key")
    by = officer_of(options)
    made = rotate(path, at=datetime.now(UTC), operator=by.operator, reason=by.reason)
    print(f"wrote {path}: key {made.name} signs from now on; restart dp-train consent serve, which holds the old one")
    print(f"publish signing.pub and signing-{made.name}.keys.json together: under them all earlier receipts verify")
    return 0


def _make(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConsentError(f"principal key {path}: {error.strerror}; choose a folder that can be written") from error
    made = PrincipalKey.create(path)
    print(f"wrote {path}: keep a copy where the database is not; without it no person's events lead to them any more")
    print(f"its population: {made.population_id}")
    return 0
