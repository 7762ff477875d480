"""The page that a person sees: what they agreed to, in which models their words were, and one button to leave.

Plain HTML without a script. Every value passes `html.escape`; nothing of a request is put into a page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from dp_train.privacy.rounding import rounded_up

STYLE = (
    "body{font:1rem/1.6 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}table{border-collapse:collapse;width:100%;margin:1rem 0 2rem}caption{text-align:left;"
    "font-weight:600}th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #767676;vertical-align:top}"
    "button{font:inherit;padding:.6rem 1.2rem;color:#fff;background:#a01010;border:2px solid #a01010;"
    "border-radius:.3rem}button:focus{outline:3px solid #1a1a1a;outline-offset:2px}pre{white-space:pre-wrap}"
    "[role=status]{border-left:.4rem solid #1a6b1a;padding-left:1rem}"
)
STYLE_HASH = "'sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode() + "'"

PURPOSES = {
    "train_meeting_summary": "train models that summarise meetings",
    "train_chat_compose": "train models that help to write messages",
    "provide_feature": "provide the features that you use",
    "publish": "publish texts",
}
STATES = {
    "ConsentGiven": "you agreed",
    "RenewedConsentGiven": "you agreed again",
    "ConsentRefused": "you said no",
    "ConsentWithdrawn": "you opted out",
    "ConsentRevoked": "consent was revoked",
    "ConsentExpired": "consent ended",
    "ConsentInvalidated": "consent was found invalid",
    "ConsentRequested": "you were asked",
    "ConsentRequestDeferred": "you did not answer yet",
    "ConsentUnknown": "unknown, which counts as no",
    "ConsentHeld": "a record about you could not be read, which counts as no",
    "HoldResolved": "that record was looked into",
    "IdentitiesLinked": "two of your ids were joined",
}


def document(title: str, *parts: str) -> str:
    """A whole page; `parts` are HTML, `title` is text."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n'
        f"<body><main><h1>{escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def plain(title: str, text: str) -> str:
    """A page of one paragraph."""
    return document(title, f"<p>{escape(text)}</p>")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """A table of texts, or a sentence where it has no row."""
    lines = list(rows)
    if not lines:
        return f"<p>{escape(empty)}</p>"
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>\n" for line in lines)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"


def personal(found: Mapping[str, Any], *, form: str, notice: Callable[[str], str | None]) -> str:
    """The page of one person.

    Args:
      found: as `runs.person.about` gives it. form: `Signer.form` of the session.
      notice: gives the text behind a hash, where it is kept.
    """
    agrees = any(answer == "granted" for answer in found["answers_today"].values())
    parts = [_status(found, agrees)]
    parts.append(
        table(
            "What your data may be used for today",
            ("purpose", "answer"),
            ((_purpose(name), _answer(said)) for name, said in found["answers_today"].items()),
            "Nothing is known.",
        )
    )
    parts.append(
        table(
            "What you said",
            ("when", "what", "for which purposes", "about", "text"),
            map(_event, found["events"]),
            "Nothing is kept about you.",
        )
    )
    parts.append(
        table(
            "Models that your words were in",
            ("purpose", "trained", "in use", "how much it can tell about you (ε, δ)", "versions"),
            map(_run, found["runs"]),
            "Your words are in no model that is known here.",
        )
    )
    if found["runs_not_found"]:
        parts.append(f"<p>{len(found['runs_not_found'])} runs that you may be in are not found.</p>")
    parts += [f"<p>{escape(line[0].upper() + line[1:])}.</p>" for line in found["explanations"]]
    parts += _notices(found["events"], notice)
    if agrees or not found["events"]:
        parts.append(
            '<form method="post" action="/me/opt-out"><h2>Opt out</h2>'
            "<p>From now on nothing of yours is used for any purpose. A model that was trained before is not unlearnt; "
            "it is retrained, blocked or retired.</p>"
            f'<input type="hidden" name="form" value="{escape(form)}"><button type="submit">Opt out of everything'
            "</button></form>"
        )
    return document("Your consent", *parts)


def _status(found: Mapping[str, Any], agrees: bool) -> str:
    if found["erased_since"]:
        text = f"You were erased on {found['erased_since'][:10]}. Nothing else is kept about you."
    elif found["held_since"]:
        text = "A record about you could not be read. Until a person has looked into it, it counts as no."
    else:
        text = "You agree to some uses of your data." if agrees else "Nothing of yours may be used."
    return f'<p role="status">{escape(text)}</p>'


def _purpose(name: str) -> str:
    return PURPOSES.get(name, name.replace("_", " "))


def _answer(said: str) -> str:
    return "yes" if said == "granted" else f"no ({said.replace('_', ' ')})"


def _event(event: Mapping[str, Any]) -> tuple[str, ...]:
    purposes = ", ".join(map(_purpose, event.get("purpose", ()))) or "all"
    kinds = ", ".join(name.replace("_", " ") for name in event.get("content_kind", ())) or "everything"
    text = f"{event['notice_id']}, version {event.get('notice_version', 0)}" if event.get("notice_id") else ""
    said = STATES.get(event["event_state"], event["event_state"])
    by_signal = " (signal of your browser)" if event.get("collection_method") == "gpc_signal" else ""
    return str(event["event_time"])[:16].replace("T", " "), said + by_signal, purposes, kinds, text


def _run(run: Mapping[str, Any]) -> tuple[str, ...]:
    bounded = run["bounded_per_person"]
    bound = f"ε = {rounded_up(run['epsilon'])}, δ = {run['delta']:.1e}" if bounded else "not bounded for one person"
    use = "no longer" if run["out_of_use"] else "yes" if run["keeps"] else "no model is kept"
    return _purpose(run["purpose"]), str(run["started"] or "")[:10], use, bound, ", ".join(run["model_versions"])


def _notices(events: Iterable[Mapping[str, Any]], notice: Callable[[str], str | None]) -> list[str]:
    """The texts that the events name, as text."""
    named = {(e.get("notice_id", ""), e.get("notice_version", 0), e.get("notice_sha256", "")) for e in events}
    found = []
    for name, version, sha256 in sorted(named, key=str):
        text = notice(sha256) if sha256 else None
        if text is not None:
            title = f"Text of {name}, version {version}"
            found.append(f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>")
    return found


def reference(openapi: Mapping[str, Any]) -> str:
    """The paths of an OpenAPI document as a page, for people; it loads nothing from anywhere."""
    rows = [
        (method.upper(), path, str(said.get("summary", "")), str(said.get("description", "")))
        for path, methods in openapi["paths"].items()
        for method, said in methods.items()
    ]
    about = openapi["info"]
    return document(
        str(about["title"]),
        f"<p>{escape(str(about.get('description', '')))}</p>",
        table("Paths", ("method", "path", "what", "how"), rows, "none"),
        '<p><a href="/openapi.json">openapi.json</a></p>',
    )
