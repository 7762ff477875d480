"""The paths of the consent service; the one place that knows the web framework.

| path | for whom | what |
|---|---|---|
| POST /events | a system, with the token | rows, as `consent import` reads them |
| POST /opt-outs | a system | a no of a person or an organisation; answers with the signed receipt |
| GET /receipts/{record} | a system | that receipt again |
| POST /links | a system that has signed a person in | a link to their page, for some minutes and one use |
| GET /me | the person, with the link | what they agreed to, models, bounds; `Sec-GPC: 1` is recorded as a no |
| POST /me/opt-out | the person | a no to everything |
| GET /docs, /openapi.json | everybody who reaches the service | these paths |
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from dp_train.consent.events import Purpose
from dp_train.consent.principals import normalised_id
from dp_train.consent.withdrawal import GPC
from dp_train.errors import ConsentError, DataError, DpTrainError, StoreError
from dp_train.web import pages
from dp_train.web.guard import App, Guard, Limits, Rate
from dp_train.web.service import Service, shown
from dp_train.web.tokens import Kind, Said, Signer

COOKIE = "dp_train_me"
SESSION_SECONDS = 15 * 60
EXPIRED = "This link has ended or was used already. Ask for a new one where you got it."
ABOUT = (
    "Takes events and opt-outs into the consent store, and shows a person what is kept about them. Every path but /me "
    "and this page needs the header Authorization: Bearer TOKEN."
)
_BEARER = HTTPBearer(auto_error=False, description="the token of --token-file")
_PERSON = Field(min_length=1, max_length=512, description="the person's id, as the corpus has it")
_ROWS = {"schema": {"type": "string"}, "example": '{"person_id": "u017", "event_state": "ConsentWithdrawn"}'}
_BODY = {"requestBody": {"required": True, "content": {"application/x-ndjson": _ROWS, "application/json": _ROWS}}}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OptOut(_Model):
    """A no of one person or one organisation."""

    person_id: str | None = Field(None, min_length=1, max_length=512, description="the id, as the corpus has it")
    organisation: str | None = Field(None, min_length=1, max_length=512)
    purposes: list[str] = Field(default_factory=list, max_length=16, description="all, where none is named")
    method: str = Field("settings", pattern="^(settings|form|letter|email|phone|in_person|gpc)$")


class LinkRequest(_Model):
    """Whom a personal link is for: a person whom the asking system has signed in."""

    person_id: str = _PERSON
    minutes: int = Field(15, ge=1, le=60)


def make_app(
    service: Service,
    signer: Signer,
    *,
    address: str,
    hosts: frozenset[str],
    limits: Limits | None = None,
    rate: Rate | None = None,
    clock: Callable[[], float] = time.time,
) -> App:
    """The application behind its guard.

    Args:
      address: how people reach it, such as http://127.0.0.1:8765; links begin with it.
      hosts: names that requests may give as their host.
      clock: seconds since 1970, for the end of links and sessions.
    """
    app = FastAPI(title="Consent service", version="1", description=ABOUT, docs_url=None, redoc_url=None)
    is_secure = address.startswith("https://")

    def system(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if given is None or not signer.is_token(given.credentials):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def session(request: Request) -> tuple[str, Said]:
        text = request.cookies.get(COOKIE, "")
        said = signer.read(Kind.SESSION, text, clock())
        if said is None:
            raise _Expired
        return text, said

    for_systems = [Depends(system)]

    @app.post("/events", summary="take rows of consent", dependencies=for_systems, openapi_extra=_BODY)
    async def events(request: Request) -> JSONResponse:
        """One JSON object a line, or an array. 200: all read; 202: some held; 422: whose a row is cannot be read."""
        done = await run_in_threadpool(service.take_events, await request.body())
        return JSONResponse(shown(done), 422 if done.stopped else 202 if done.held else 200)

    @app.post("/opt-outs", summary="a no of a person or an organisation", dependencies=for_systems, status_code=201)
    def opt_outs(request: Request, asked: OptOut) -> dict[str, Any]:
        """Answers with the signed receipt. The header `Sec-GPC: 1` makes it a signal of the person's browser."""
        person = normalised_id(asked.person_id or "")
        if bool(person) == bool(asked.organisation):
            raise DataError("opt-out: expected one of person_id and organisation")
        try:
            purposes = frozenset(map(Purpose, asked.purposes))
        except ValueError:
            raise DataError(f"opt-out: a purpose is none of {', '.join(each.value for each in Purpose)}") from None
        done = service.opt_out(
            pseudonym=service.pseudonym(person) if person else None,
            organisation=asked.organisation or None,
            purposes=purposes,
            method=GPC if _sends_gpc(request) else asked.method,
        )
        return {"new": done.new, "receipt": done.receipt}

    @app.get("/receipts/{record}", summary="a signed receipt again", dependencies=for_systems)
    def receipts(record: Annotated[str, InPath(pattern=r"^[A-Za-z0-9._~-]{1,128}$")]) -> dict[str, Any]:
        """By the `record_id` of its statement."""
        found = service.receipt(record)
        if found is None:
            raise HTTPException(404, "no receipt of this record")
        return found

    @app.post("/links", summary="a personal link", dependencies=for_systems, status_code=201)
    def links(asked: LinkRequest) -> dict[str, Any]:
        """For a person whom the asking system has signed in; opens their page once, within the minutes."""
        if not normalised_id(asked.person_id):
            raise DataError("link: person_id is no id; expected the person's id, as the corpus has it")
        until = int(clock()) + 60 * asked.minutes
        link = signer.sign(Kind.LINK, service.pseudonym(asked.person_id), until)
        return {"url": f"{address}/me?link={link}", "until": until}

    @app.get("/me", summary="the page of a person", response_class=HTMLResponse)
    def me(request: Request, link: str | None = None) -> Response:
        """With a personal link: opens a session and shows the page. `Sec-GPC: 1` is recorded as a no."""
        if link is not None:
            now = clock()
            said = signer.read(Kind.LINK, link, now)
            if said is None or not signer.use(link, now):
                raise _Expired
            opened = RedirectResponse("/me", 303)
            text = signer.sign(Kind.SESSION, said.pseudonym, int(now) + SESSION_SECONDS)
            opened.set_cookie(
                COOKIE, text, max_age=SESSION_SECONDS, path="/me", secure=is_secure, httponly=True, samesite="lax"
            )
            return opened
        text, said = session(request)
        if _sends_gpc(request):
            service.heard_gpc(said.pseudonym)
        page = pages.personal(service.person(said.pseudonym), form=signer.form(text), notice=service.notice)
        return HTMLResponse(page)

    @app.post("/me/opt-out", summary="a person opts out", response_class=HTMLResponse)
    async def me_opt_out(request: Request) -> Response:
        """From the form of their page."""
        text, said = session(request)
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8).get("form", [""])
        if not signer.is_form(text, form[0]):
            return HTMLResponse(pages.plain("Not done", "This form is not from your page. Open your page again."), 403)
        method = GPC if _sends_gpc(request) else "settings"
        await run_in_threadpool(service.opt_out, pseudonym=said.pseudonym, method=method)
        return RedirectResponse("/me", 303)

    @app.get("/docs", summary="these paths, for people", response_class=HTMLResponse, include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(pages.reference(app.openapi()))

    _answer_errors(app)
    return Guard(app, hosts=hosts, limits=limits or Limits(), style=pages.STYLE_HASH, rate=rate)


class _Expired(Exception):
    """There is no session."""


def _sends_gpc(request: Request) -> bool:
    """Whether a request carries the Global Privacy Control signal (W3C: the header has the value 1).

    A no that is written in another way stays one: proxies join two headers ("1, 1"), others add parameters. Only an
    empty value, and one that says that there is no signal, is none.
    """
    said = [each.partition(";")[0].strip() for each in ",".join(request.headers.getlist("sec-gpc")).split(",")]
    return any(each.strip("\"'?").lower() not in ("", "0", "false") for each in said)


def _answer_errors(app: FastAPI) -> None:
    """One line each, of what was wrong with which field; never what a request said."""

    def on(kind: type[Exception], status: Callable[[Any], int], text: Callable[[Any], str]) -> None:
        async def answer(_: Request, error: Exception) -> Response:
            return JSONResponse({"error": text(error)}, status(error), getattr(error, "headers", None))

        handler: Callable[[Request, Exception], Awaitable[Response]] = answer
        app.add_exception_handler(kind, handler)

    async def expired(_: Request, error: Exception) -> Response:
        return HTMLResponse(pages.plain("Not signed in", EXPIRED), 403)

    app.add_exception_handler(_Expired, expired)
    on(RequestValidationError, lambda _: 422, _fields)
    on(StarletteHTTPException, lambda error: int(error.status_code), lambda error: str(error.detail))
    on(DataError, lambda _: 422, str)
    on(ConsentError, lambda _: 409, str)
    on(StoreError, lambda _: 503, lambda _: "the store cannot be used now")
    on(DpTrainError, lambda _: 500, lambda _: "the service cannot do this now")
    on(Exception, lambda _: 500, lambda _: "internal error")


def _fields(error: RequestValidationError) -> str:
    known = {*OptOut.model_fields, *LinkRequest.model_fields, "record", "link", "body", "path", "query"}
    wrong = sorted({str(place) for each in error.errors() for place in each["loc"] if place in known} - {"body"})
    return f"the request cannot be read ({', '.join(wrong) or 'its body'}); see /docs"
