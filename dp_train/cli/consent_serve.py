"""`dp-train consent serve`: the consent service, on loopback."""

from __future__ import annotations

from argparse import Namespace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from dp_train.cli.consent_people import open_key, signing_key
from dp_train.cli.consent_store import open_store
from dp_train.errors import ConfigError
from dp_train.runs.heads import check_start
from dp_train.runs.inventory import policy_of
from dp_train.runs.project import key_path

EXTRA = "consent serve: the web framework is not installed; pip install 'dp_train[serve]'"


def run(options: Namespace) -> int:
    """Serve until the process is ended."""
    try:
        from dp_train.web.app import make_app
        from dp_train.web.guard import Limits
        from dp_train.web.serve import serve
        from dp_train.web.service import Service
        from dp_train.web.tokens import Signer, open_token
    except ModuleNotFoundError as error:
        raise ConfigError(EXTRA) from error
    address, hosts = _address(options)
    store = open_store(options, makes=True)
    database, url = store.database, store.database.url
    try:
        check_start(database)
        key = open_key(store, key_path(options.key), make=True)
        service = Service(
            url=url,
            store=store,
            key=key,
            signing=signing_key(options),
            policy=policy_of(options.policy),
            uri=options.uri,
        )
        service.bind()
        store.check()
        token = Path(options.token_file)
        limits = Limits(rate=options.rate, burst=max(1, int(2 * options.rate)))
        app = make_app(service, Signer(open_token(token)), address=address, hosts=hosts, limits=limits)
        print(f"consent service: {address}/docs; token in {token}; Ctrl-C ends it", flush=True)
        serve(app, host=options.host, port=options.port)
    finally:
        database.close()
    return 0


def _address(options: Namespace) -> tuple[str, frozenset[str]]:
    """How people reach it, and the host names it answers to.

    Raises:
      ConfigError: it would listen beyond this machine without an https address that people reach it by.
    """
    try:
        is_loopback = ip_address(options.host).is_loopback
    except ValueError:
        is_loopback = options.host == "localhost"
    shown = f"[{options.host}]" if ":" in options.host else options.host
    hosts = {"localhost", "127.0.0.1", "[::1]", shown.lower()} if is_loopback else {shown.lower()}
    if options.public_url is None:
        if not is_loopback:
            raise ConfigError(
                f"consent serve: --host {options.host} is beyond this machine; give --public-url https://…, the "
                "address of the proxy that encrypts"
            )
        return f"http://{shown}:{options.port}", frozenset(hosts)
    parts = urlsplit(options.public_url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"consent serve: --public-url={options.public_url}; expected https://HOST, without a path")
    return options.public_url.rstrip("/"), frozenset({*hosts, parts.hostname.lower()})
