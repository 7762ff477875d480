"""Consent receipts of the Kantara Initiative, version 1.1.0 (2018), in and out.

A receipt can only say that a person agreed: refusals and withdrawals have no form in it. What it cannot say exactly
counts for less here, never for more: its time is in whole seconds, so the event takes the beginning of that second and
covers content from its end on; it knows no age, so training waits until another event tells it.

| of a receipt | of an event |
|---|---|
| consentReceiptID, consentTimestamp, jurisdiction, language | record_id, event_time, jurisdiction, language |
| piiPrincipalId | pseudonym where it has 64 hex digits, else the person's own id, which needs the key |
| services[].service | org_id |
| services[].purposes[].purpose | purpose, by its value ("train_chat_compose"); others are left out |
| …piiCategory | content_kind and pii_type, by their values; others are left out |
| …consentType | EXPLICIT, or the purpose is left out |
| …termination | expires_at in ISO 8601, or "until withdrawn" |
| …thirdPartyDisclosure | needed for the purpose publish |
| policyUrl | notice_id, with the version as "#version=2"; 1 where it names none |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from dp_train.consent.events import (
    CollectionMethod,
    ConsentEvent,
    EntityRole,
    EventState,
    LawfulBasis,
    PiiType,
    Purpose,
    is_pseudonym,
)
from dp_train.conversations import ContentKind
from dp_train.errors import ConfigError, DataError

VERSION = "KI-CR-v1.1.0"
MARK = "consentReceiptID"
"""A row with this field is a receipt."""

FOR_EVER = "until withdrawn"
CONTROLLER = ("piiController", "contact", "address", "email", "phone")
"""What version 1.1.0 asks a receipt to say of the controller."""

_EXPLICIT = "EXPLICIT"
_AT = "#version="
_PURPOSES = {purpose.value: purpose for purpose in Purpose}
_KINDS = {kind.value for kind in ContentKind}
_PII = {kind.value for kind in PiiType}


def event_fields(receipt: Mapping[str, Any], *, received: datetime) -> dict[str, Any]:
    """The fields of the event that a receipt tells of, as `imports` takes them from any row.

    Raises:
      DataError: it is no receipt of this version, or says nothing that can be kept; says what, never what it holds.
    """
    if receipt.get("version") != VERSION:
        raise DataError(f"receipt: version is another one; expected {VERSION}")
    seconds = receipt.get("consentTimestamp")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds < 1 << 33:
        raise DataError("receipt: consentTimestamp cannot be read; expected whole seconds since 1970")
    when = datetime.fromtimestamp(seconds, UTC)
    organisation, entries = _entries(receipt)
    kinds, types, end = _same(entries)
    notice, _, version = str(receipt.get("policyUrl", "")).partition(_AT)
    if not notice or (version and not (version.isascii() and version.isdigit() and len(version) < 10)):
        raise DataError('receipt: policyUrl cannot be read; expected the notice, and its version as "#version=2"')
    principal = receipt.get("piiPrincipalId")
    if not isinstance(principal, str) or not principal:
        raise DataError("receipt: piiPrincipalId is missing; expected the person's id")
    return {
        "record_id": receipt[MARK],
        "pii_principal_id" if is_pseudonym(principal) else "person_id": principal,
        "org_id": organisation,
        "entity_role": EntityRole.SELF.value,
        "purpose": [str(entry["purpose"]) for entry in entries],
        "content_kind": kinds,
        "pii_type": types,
        "event_state": EventState.GIVEN.value,
        "event_time": when,
        "recorded_time": max(received, when),
        "data_from": when + timedelta(seconds=1),
        "expires_at": end,
        "notice_id": notice,
        "notice_version": int(version or 1),
        "language": receipt.get("language"),
        "jurisdiction": receipt.get("jurisdiction"),
        "lawful_basis": LawfulBasis.CONSENT.value,
        "collection_method": CollectionMethod.IMPORT.value,
    }


def _entries(receipt: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]]]:
    """The service's name and its purposes that are known here and were agreed to."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    try:
        for service in receipt["services"]:
            for entry in service["purposes"]:
                purpose = _PURPOSES.get(entry["purpose"])
                shown = purpose is not Purpose.PUBLISH or entry.get("thirdPartyDisclosure") is True
                if purpose is not None and shown and entry["consentType"] == _EXPLICIT:
                    found.append((str(service["service"]), entry))
    except (KeyError, TypeError, AttributeError):
        raise DataError("receipt: services cannot be read; expected an array with purposes") from None
    if not found:
        raise DataError(
            f"receipt: no explicit consent to a purpose that is known here; expected one of {', '.join(_PURPOSES)}"
        )
    if len({service for service, _ in found}) > 1:
        raise DataError("receipt: several services have purposes that are known here; expected a receipt for each")
    return found[0][0], [entry for _, entry in found]


def _same(entries: list[Mapping[str, Any]]) -> tuple[list[str], list[str], datetime | None]:
    """Content kinds, kinds of personal data and end, which all the purposes have to share."""
    said = set()
    for entry in entries:
        categories = entry.get("piiCategory")
        if not isinstance(categories, list) or not all(isinstance(each, str) for each in categories):
            raise DataError("receipt: piiCategory cannot be read; expected an array of text")
        said.add((frozenset(categories) & _KINDS, frozenset(categories) & _PII, _end(entry.get("termination"))))
    if len(said) > 1:
        raise DataError("receipt: purposes differ in piiCategory or termination; expected a receipt for each")
    kinds, types, end = said.pop()
    if not kinds:
        raise DataError(f"receipt: piiCategory names no kind of content; expected one of {', '.join(sorted(_KINDS))}")
    return sorted(kinds), sorted(types), end


def _end(text: object) -> datetime | None:
    if text == FOR_EVER:
        return None
    try:
        end = datetime.fromisoformat(str(text))
    except ValueError:
        end = datetime.min
    if end.tzinfo is None:
        raise DataError(
            f'receipt: termination cannot be read; expected a time in ISO 8601 with an offset, or "{FOR_EVER}"'
        )
    return end


def receipt_of(event: ConsentEvent, controller: Mapping[str, Any]) -> dict[str, Any] | None:
    """The receipt of a grant, to be given to the person; None for an event that is no person's grant.

    Args:
      controller: as `read_controller` gives it.
    """
    if event.pii_principal_id is None or not event.event_state.grants:
        return None
    categories = sorted(each.value for each in (*event.content_kind, *event.pii_type))
    purposes = [
        {
            "purpose": purpose.value,
            "purposeCategory": ["1 - Core Function" if purpose is Purpose.PROVIDE_FEATURE else "3 - Delivery"],
            "consentType": _EXPLICIT,
            "piiCategory": categories,
            "primaryPurpose": purpose is Purpose.PROVIDE_FEATURE,
            "termination": FOR_EVER if event.expires_at is None else event.expires_at.isoformat(),
            "thirdPartyDisclosure": purpose is Purpose.PUBLISH,
            **({"thirdPartyName": "the public"} if purpose is Purpose.PUBLISH else {}),
        }
        for purpose in Purpose
        if purpose in event.purpose
    ]
    return {
        "version": VERSION,
        "jurisdiction": event.jurisdiction or "unknown",
        "consentTimestamp": int(event.event_time.timestamp()),
        "collectionMethod": "unknown" if event.collection_method is None else event.collection_method.value,
        MARK: event.record_id,
        "language": event.language or "und",
        "piiPrincipalId": event.pii_principal_id,
        "piiControllers": [dict(controller)],
        "policyUrl": f"{event.notice_id}{_AT}{event.notice_version}",
        "services": [{"service": event.org_id, "purposes": purposes}],
        "sensitive": False,
        "spiCat": [],
    }


def read_controller(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Who the controller is, for receipts: a YAML file with the keys of `CONTROLLER`.

    Raises:
      ConfigError: the file cannot be read, or a key is missing.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"controller {path}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"controller {path}: not YAML; expected {', '.join(CONTROLLER)}") from error
    if not isinstance(values, dict) or not all(values.get(name) for name in CONTROLLER):
        raise ConfigError(f"controller {path}: a key is missing; expected {', '.join(CONTROLLER)}")
    return values
