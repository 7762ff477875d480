#!/usr/bin/env python
"""What anonymisation finds and what it takes by mistake: recall and precision of each type, and its speed.

    python scripts/bench_redaction.py                     # generated and labelled lines, a table
    python scripts/bench_redaction.py --gitter FOLDER     # names of participants that survive in real chat, too
    python scripts/bench_redaction.py --json --speed      # everything as one object, with messages a second
    python scripts/bench_redaction.py --write             # also what the privacy card quotes (recall_figures.json)

1. generated: lines of five locales, with values of Faker and with sentences written here; a third of them
   hold numbers and words that identify nobody. Nicknames are those of the package `nicknames`.
2. labelled: 200 lines of the embedded corpus (scripts/redaction_labels.jsonl), labelled by reading.
3. hand: lines of 38 locales written before the recognisers (scripts/redaction); the half that a hash of the line picks
   was never looked at while they were tuned ("held out"). ordinary: sentences that identify nobody, written by hand or
   of the embedded public corpus; whatever is replaced there is a mistake.
4. residual: threads of 40 messages of a public chat; the share of messages in which the user name of a
   participant, or the first name that it begins with, still stands. First names are Faker's, not the product's.

A labelled place is found when nothing of its letters and digits is left, but for an ending after an apostrophe; the
type of the surrogate does not matter. A surrogate is a mistake when it replaced no labelled letter.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import hashlib
import json
import random
import re
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_train.anonymize import Anonymizer
from dp_train.anonymize.anonymizer import Finder
from dp_train.anonymize.patterns import TOKENS
from dp_train.anonymize.presidio import people_finder, presidio_finder
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.corpora.synthetic import Population, SyntheticCorpus

HERE = Path(__file__).resolve().parent
LABELS = HERE / "redaction_labels.jsonl"
WRITTEN = HERE / "redaction"
MEASURED = HERE.parent / "dp_train" / "anonymize" / "recall_figures.json"
LOCALES = ("en_US", "de_DE", "fr_FR", "es_ES", "ja_JP")
THREAD = 40
_TOKEN = re.compile("(" + r"\[P\d+\]|" + "|".join(map(re.escape, TOKENS)) + ")")

Place = tuple[int, int, str]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One message, who is in its conversation, and what in it identifies somebody."""

    text: str
    roster: dict[str, str]
    places: tuple[Place, ...]
    speaker: str = "u-0001"
    mentions: tuple[str, ...] = ()

    def conversation(self) -> Conversation:
        return Conversation(
            conversation_id="line",
            org_id="bench",
            created_at=datetime(2024, 1, 1, tzinfo=UTC),
            kind=ConversationKind.THREAD,
            turns=(Turn(person_id=self.speaker, text=self.text, kind=ContentKind.CHAT, mentions=self.mentions),),
            roster=self.roster,
        )


SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "en_US": {
        "PERSON": ("thanks {}", "can {} look at it today?", "I'll ask {} about the invoice", "{} is out this week"),
        "EMAIL": ("write to {} please", "my address is {}"),
        "PHONE": ("call me on {}", "my number is {}, after six", "{} if it is urgent"),
        "URL": ("the page is {}", "see {} for the list"),
        "IP": ("the server answers at {}", "ping {} first"),
        "CARD": ("the card is {}", "just put it on {}"),
        "IBAN": ("please pay to {}", "the account is {}"),
        "SSN": ("my SSN is {}", "the form says {}"),
        "MEETING_ID": ("the meeting ID is {}", "Zoom meeting {}", "join with code {}"),
        "PASSCODE": ("the passcode is {}", "password: {}", "use PIN {}"),
        "SECRET": ("the API key is {}", "{} works for now", "token: {}"),
        "": ("the build took {} and passed", "we sold {} of them", "see section {} of the plan", "{} as agreed"),
    },
    "de_DE": {
        "PERSON": ("danke {}", "kann {} heute draufschauen?", "ich frage {} wegen der Rechnung", "{} ist im Urlaub"),
        "EMAIL": ("schreib bitte an {}", "meine Adresse ist {}"),
        "PHONE": ("ruf mich unter {} an", "meine Nummer ist {}, ab sechs", "{} wenn es eilt"),
        "URL": ("die Seite ist {}", "siehe {} für die Liste"),
        "IP": ("der Server antwortet auf {}", "erst {} anpingen"),
        "CARD": ("die Karte ist {}", "nimm einfach {}"),
        "IBAN": ("bitte auf {} überweisen", "das Konto ist {}"),
        "SSN": ("meine SSN ist {}", "im Formular steht {}"),
        "MEETING_ID": ("die Meeting-ID ist {}", "Besprechungs-ID: {}", "Konferenznummer {}"),
        "PASSCODE": ("das Kennwort ist {}", "Passwort: {}", "der Kenncode lautet {}"),
        "SECRET": ("der API-Schlüssel ist {}", "{} geht vorerst", "Token: {}"),
        "": ("der Build dauerte {} und lief durch", "wir haben {} verkauft", "siehe Abschnitt {}", "{} wie vereinbart"),
    },
    "fr_FR": {
        "PERSON": ("merci {}", "est-ce que {} peut regarder ?", "je demande à {} pour la facture", "{} est absent"),
        "EMAIL": ("écris à {} stp", "mon adresse est {}"),
        "PHONE": ("appelle-moi au {}", "mon numéro est le {}, après six heures", "{} si c'est urgent"),
        "URL": ("la page est {}", "voir {} pour la liste"),
        "IP": ("le serveur répond sur {}", "ping {} d'abord"),
        "CARD": ("la carte est {}", "mets-le sur {}"),
        "IBAN": ("paie sur {} stp", "le compte est {}"),
        "SSN": ("mon SSN est {}", "le formulaire dit {}"),
        "MEETING_ID": ("l'ID de réunion est {}", "numéro de réunion : {}", "réunion Zoom {}"),
        "PASSCODE": ("le mot de passe est {}", "mot de passe : {}", "le code secret est {}"),
        "SECRET": ("la clé API est {}", "{} marche pour l'instant", "jeton : {}"),
        "": ("le build a pris {} et passe", "on en a vendu {}", "voir la section {} du plan", "{} comme convenu"),
    },
    "es_ES": {
        "PERSON": ("gracias {}", "¿puede {} mirarlo hoy?", "le pregunto a {} por la factura", "{} está fuera"),
        "EMAIL": ("escribe a {} por favor", "mi correo es {}"),
        "PHONE": ("llámame al {}", "mi número es el {}, a partir de las seis", "{} si es urgente"),
        "URL": ("la página es {}", "mira {} para la lista"),
        "IP": ("el servidor responde en {}", "haz ping a {} primero"),
        "CARD": ("la tarjeta es {}", "cárgalo a {}"),
        "IBAN": ("paga a {} por favor", "la cuenta es {}"),
        "SSN": ("mi SSN es {}", "el formulario dice {}"),
        "MEETING_ID": ("el ID de la reunión es {}", "número de reunión: {}", "reunión de Zoom {}"),
        "PASSCODE": ("la contraseña es {}", "contraseña: {}", "el código de acceso es {}"),
        "SECRET": ("la clave API es {}", "{} vale por ahora", "token: {}"),
        "": ("el build tardó {} y pasó", "vendimos {}", "mira la sección {} del plan", "{} como acordamos"),
    },
    "ja_JP": {
        "PERSON": ("{}さん、ありがとう", "今日{}さんに聞きます", "請求書は{}にお願いします", "{} は今週休みです"),
        "EMAIL": ("{} に送ってください", "メールは {} です"),
        "PHONE": ("電話は{}です", "番号は {} です", "急ぎなら{}まで"),
        "URL": ("ページは {} です", "一覧は {} を見て"),
        "IP": ("サーバーは {} です", "まず {} に ping して"),
        "CARD": ("カードは {} です", "{} で払って"),
        "IBAN": ("{} に振り込んで", "口座は {} です"),
        "SSN": ("SSN は {} です", "書類には {} とあります"),
        "MEETING_ID": ("ミーティングIDは {} です", "会議ID: {}", "Zoom ミーティング {}"),
        "PASSCODE": ("パスコードは {} です", "パスワード: {}", "暗証番号は{}です"),
        "SECRET": ("APIキーは {} です", "とりあえず {} で", "トークン: {}"),
        "": ("ビルドは {} で通りました", "{} 売れました", "計画の {} を見て", "{} の予定です"),
    },
}


def generated(locale: str, seed: int, each: int) -> Iterator[Line]:
    """`each` lines of every type, and as many without any as of all types together, halved."""
    from faker import Faker

    fake, chance = Faker(locale), random.Random(f"{seed} {locale}")
    fake.seed_instance(chance.randrange(2**32))
    values = _values(fake, chance)
    for kind, sentences in SENTENCES[locale].items():
        for number in range(each * {"": 6, "PERSON": 5}.get(kind, 1)):
            people = [(fake.first_name(), fake.last_name()) for _ in range(4)]
            space = "" if locale == "ja_JP" and chance.random() < 0.5 else " "
            roster = {
                f"u-{n:04d}": f"{last}{space}{first}" if locale == "ja_JP" else f"{first} {last}"
                for n, (first, last) in enumerate(people, start=1)
            }
            if kind == "PERSON":
                form, value = _written(people[chance.randrange(1, 4)], number, locale, chance)
                label = f"PERSON {form}"
            else:
                value, label = values[kind](), kind
            if not value:
                continue
            sentence = chance.choice(sentences)
            start = sentence.index("{}")
            before = f"{fake.sentence(nb_words=6)} " if number % 2 else ""
            text = before + sentence.replace("{}", value)
            if kind == "" and number % 3 == 0:
                text = " ".join(fake.sentence(nb_words=8) for _ in range(2))
            place = (len(before) + start, len(before) + start + len(value), label)
            yield Line(text=text, roster=roster, places=(place,) if label else ())


def _written(person: tuple[str, str], number: int, locale: str, chance: random.Random) -> tuple[str, str]:
    """A form of the name and what people write for it."""
    first, last = person
    if locale == "ja_JP":
        return [("full", last + first), ("full", f"{last} {first}"), ("last", last), ("first", first)][number % 4]
    short = first.split("-")[0].split()[0]
    plain = "".join(c for c in unicodedata.normalize("NFKD", first) if not unicodedata.combining(c))
    handle = "".join(c for c in plain if c.isalpha()).lower() + chance.choice((".", "_", "")) + last[0].lower()
    writings = [
        ("full", f"{first} {last}"),
        ("first", short),
        ("last", last),
        ("lower case", short.lower()),
        ("upper case", first.upper()),
        ("without accents", plain),
        ("possessive", f"{first}'s"),
        ("mention", f"@{handle}"),
        ("mention", f"@{short}"),
        ("initials", f"{first[0]}. {last}"),
        ("initials", f"{first[0]}{last[0]}".upper()),
        ("nickname", _nickname(first, chance) if locale == "en_US" else ""),
    ]
    return writings[number % len(writings)]


def _nickname(first: str, chance: random.Random) -> str:
    from nicknames import NickNamer

    known = sorted(NickNamer().nicknames_of(first))
    return chance.choice(known).capitalize() if known else ""


def _values(fake: Any, chance: random.Random) -> dict[str, Callable[[], str]]:
    """How a value of each type is made."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

    def some(count: int, of: str = letters) -> str:
        return "".join(chance.choices(of, k=count))

    def grouped(number: str, sizes: Iterable[int]) -> str:
        parts, place = [], 0
        for size in sizes:
            parts.append(number[place : place + size])
            place += size
        return chance.choice((" ", "-", "")).join(part for part in [*parts, number[place:]] if part)

    def iban() -> str:
        value = str(fake.iban())
        return " ".join(re.findall(".{1,4}", value)) if chance.random() < 0.5 else value

    def secret() -> str:
        hexadecimal = "0123456789abcdef"
        return chance.choice(
            (
                lambda: "AKIA" + some(16, letters[:26] + letters[-10:]),
                lambda: "ghp_" + some(36),
                lambda: "xoxb-" + some(12, letters[-10:]) + "-" + some(24),
                lambda: "sk-" + some(40),
                lambda: some(32, hexadecimal),
                lambda: some(64, hexadecimal),
                lambda: some(40),
                lambda: f"eyJ{some(30)}.eyJ{some(40)}.{some(43)}",
                lambda: f"-----BEGIN PRIVATE KEY-----\n{some(64)}\n{some(64)}\n-----END PRIVATE KEY-----",
            )
        )()

    def meeting() -> str:
        if chance.random() < 0.3:
            return "-".join(some(n, letters[26:52]) for n in (3, 4, 3))
        return grouped(str(chance.randrange(10**10, 10**11)), (3, 4, 4))

    def nothing() -> str:
        return str(
            chance.choice(
                (
                    lambda: fake.date(),
                    lambda: fake.date(pattern=chance.choice(("%d.%m.%Y", "%m/%d/%Y", "%d %B"))),
                    lambda: fake.time(),
                    lambda: f"{chance.randrange(1000, 10**6):,}",
                    lambda: f"{chance.random() * 1000:.2f} €",
                    lambda: f"v{chance.randrange(9)}.{chance.randrange(30)}.{chance.randrange(90)}",
                    lambda: f"#{chance.randrange(1000, 99999)}",
                    lambda: f"{chance.randrange(100)} %",
                    lambda: f"{fake.word()}_{fake.word()}.py",
                    lambda: f"{fake.word()}-{fake.word()}-{chance.randrange(2000, 2030)}",
                    lambda: f"{chance.randrange(1, 31)}-{chance.randrange(31, 60)}",
                    lambda: f"10:{chance.randrange(10, 60)}-11:{chance.randrange(10, 60)}",
                    lambda: some(7, "0123456789abcdef"),
                    lambda: f"PROJ-{chance.randrange(100, 9999)}",
                )
            )()
        )

    return {
        "EMAIL": lambda: str(fake.email()),
        "PHONE": lambda: str(fake.phone_number()),
        "URL": lambda: str(chance.choice((fake.url, fake.uri, fake.domain_name))()),
        "IP": lambda: str(chance.choice((fake.ipv4, fake.ipv6))()),
        "CARD": lambda: grouped(fake.credit_card_number(), (4, 4, 4, 4)),
        "IBAN": iban,
        "SSN": lambda: f"{chance.randrange(100, 900)}-{chance.randrange(10, 100)}-{chance.randrange(1000, 10000)}",
        "MEETING_ID": meeting,
        "PASSCODE": lambda: some(chance.randrange(6, 11), letters[-10:] if chance.random() < 0.5 else letters),
        "SECRET": secret,
        "": nothing,
    }


def labelled() -> Iterator[Line]:
    """The lines labelled by hand."""
    for row in map(json.loads, LABELS.read_text(encoding="utf-8").splitlines()):
        places = tuple((start, end, kind) for start, end, kind in row["spans"])
        mentions = tuple(row["mentions"])
        yield Line(text=row["text"], roster=row["roster"], places=places, speaker=row["speaker"], mentions=mentions)


_MARKED = re.compile(r"\{([A-Z_]+)\|([^}]*)\}")


def hand(*, held_out: bool) -> Iterator[tuple[str, Line]]:
    """Locale and line, of one half of the lines written by hand; which half a line is in, its hash says."""
    for locale, line in _written_lines("hand_lines.txt", "hand_secrets.txt"):
        if hashlib.sha256(line.text.encode()).digest()[0] % 2 == held_out:
            yield locale, line


def _written_lines(*files: str) -> Iterator[tuple[str, Line]]:
    for file in files:
        locale, roster = "", dict[str, str]()
        for row in (WRITTEN / file).read_text(encoding="utf-8").splitlines():
            if row.startswith("@"):
                locale, _, names = row.removeprefix("@ ").partition(": ")
                roster = {f"u-{number:04d}": name for number, name in enumerate(names.split("; "), start=1)}
            elif row and not row.startswith("#"):
                yield locale, _marked(row, roster)


def _marked(row: str, roster: dict[str, str]) -> Line:
    text, places, reached = "", [], 0
    for match in _MARKED.finditer(row):
        text += row[reached : match.start()]
        places.append((len(text), len(text) + len(match[2]), match[1]))
        text, reached = text + match[2], match.end()
    return Line(text=text + row[reached:], roster=roster, places=tuple(places), speaker="somebody-else")


def ordinary() -> Iterator[Line]:
    """Sentences that identify nobody: those written by hand, and 2,000 of the embedded public corpus without a slip."""
    for row in (WRITTEN / "ordinary.txt").read_text(encoding="utf-8").splitlines():
        if row and not row.startswith("#"):
            yield Line(text=row, roster={}, places=(), speaker="somebody-else")
    texts: dict[str, None] = {}
    for script in SyntheticCorpus(200, Population.PUBLIC).scripts():
        slips = {slip.turn for slip in script.slips}
        texts |= {
            turn.text: None
            for number, turn in enumerate(script.conversation.turns)
            if number not in slips and "@" not in turn.text
        }
    for text in list(texts)[:2000]:
        yield Line(text=text, roster={}, places=(), speaker="somebody-else")


def mistakes(lines: Iterable[Line], show: str = "", finders: tuple[Finder, ...] = ()) -> dict[str, Any]:
    """How many sentences there are, and in how many something is replaced though there is nothing to find."""
    anonymizer, sentences, wrong = Anonymizer(finders=finders), 0, 0
    for line in lines:
        done = anonymizer(line.conversation()).turns[0].text
        sentences, wrong = sentences + 1, wrong + (done != line.text)
        if done != line.text and show in ("all", "wrong"):
            print(f"wrong: {line.text!r} {done!r}", file=sys.stderr)
    return {"sentences": sentences, "replaced": wrong, "share": round(wrong / sentences, 5)}


def replaced(before: str, after: str) -> list[Place]:
    """Where the surrogates of `after` stood in `before`, told from the text between them."""
    parts = _TOKEN.split(after)
    pattern = "".join(re.escape(part) if n % 2 == 0 else "(.+?)" for n, part in enumerate(parts))
    match = re.fullmatch(pattern, before, re.DOTALL)
    if match is None:
        raise SystemExit("bench_redaction: a text was changed in other ways than by surrogates")
    kinds = ["PERSON" if token.startswith("[P") and token[2].isdigit() else token[1:-1] for token in parts[1::2]]
    return [(*match.span(n + 1), kind) for n, kind in enumerate(kinds)]


def measure(
    lines: Iterable[Line], show: str = "", finders: tuple[Finder, ...] | None = None
) -> dict[str, dict[str, Any]]:
    """Type → recall and how many, precision and how many. With `show`, what was missed or wrong goes to stderr.

    Args:
      finders: these alone, and neither names of the roster nor patterns.
    """
    anonymizer = Anonymizer() if finders is None else Anonymizer(names=False, patterns=False, finders=finders)
    there, found, made, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for line in lines:
        spans = replaced(line.text, anonymizer(line.conversation()).turns[0].text)
        covered = {place for start, end, _ in spans for place in range(start, end)}
        wanted = {place for start, end, _ in line.places for place in range(start, end)}
        for start, end, kind in line.places:
            left = [c for place in range(start, end) if place not in covered and (c := line.text[place]).isalnum()]
            if left and re.search(rf"['’]{re.escape(''.join(left))}\Z", line.text[start:end]):
                left = []
            there[kind] += 1
            found[kind] += not left
            if left and show in ("all", kind):
                print(f"missed {kind}: {line.text!r} {sorted(line.roster.values())}", file=sys.stderr)
        for start, end, kind in spans:
            made[kind] += 1
            right[kind] += not wanted.isdisjoint(range(start, end))
            if wanted.isdisjoint(range(start, end)) and show in ("all", "wrong"):
                print(f"wrong {kind}: {line.text!r} {line.text[start:end]!r}", file=sys.stderr)
    return {
        kind: {
            "recall": round(found[kind] / there[kind], 4) if there[kind] else None,
            "labelled": there[kind],
            "precision": round(right[kind] / made[kind], 4) if made[kind] else None,
            "replaced": made[kind],
        }
        for kind in sorted({*there, *made})
    }


def threads(folder: Path, messages: int) -> Iterator[Conversation]:
    """Stretches of a room, as conversations whose roster is who speaks or is mentioned in them."""
    rows: list[dict[str, Any]] = []
    with gzip.open(folder / "messages.jsonl.gz", "rt", encoding="utf-8") as file:
        everybody: dict[str, str] = {}
        for number, row in enumerate(map(json.loads, file)):
            if number >= messages:
                break
            if not row["user_id"] or not row["username"]:
                continue
            everybody[row["username"].lower()] = row["user_id"]
            if rows and (len(rows) == THREAD or rows[-1]["room"] != row["room"]):
                yield _thread(rows, everybody)
                rows = []
            rows.append(row)
    if rows:
        yield _thread(rows, everybody)


def _thread(rows: list[dict[str, Any]], everybody: dict[str, str]) -> Conversation:
    roster = {row["user_id"]: row["username"] for row in rows}
    for row in rows:
        for name in re.findall(r"@([\w\-]+)", row["text"]):
            if name.lower() in everybody:
                roster.setdefault(everybody[name.lower()], name)
    return Conversation(
        conversation_id="thread",
        org_id="bench",
        created_at=datetime(2015, 1, 1, tzinfo=UTC),
        kind=ConversationKind.THREAD,
        turns=tuple(Turn(person_id=row["user_id"], text=row["text"], kind=ContentKind.CHAT) for row in rows),
        roster=roster,
    )


def residual(conversations: Iterable[Conversation]) -> dict[str, Any]:
    """Messages with a participant's user name or first name, before and after; those with a surrogate of a person."""
    firsts, ordinary = _first_names()
    anonymizer, counts = Anonymizer(), Counter[str]()
    for conversation in conversations:
        users = {name.lower() for name in conversation.roster.values() if len(name) >= 3}
        first = {name for user in conversation.roster.values() for name in _begins_with(user, firsts)} - ordinary
        done = anonymizer(conversation)
        for before, after in zip(conversation.turns, done.turns, strict=True):
            counts["messages"] += 1
            counts["with a surrogate of a person"] += bool(re.search(r"\[P\d+\]", after.text))
            for what, names in (("user name", users - ordinary), ("first name", first)):
                counts[f"{what} before"] += _holds(before.text, names)
                counts[f"{what} after"] += _holds(after.text, names)
    total = counts.pop("messages")
    return {"messages": total} | {what: round(count / total, 5) for what, count in counts.items()}


def _holds(text: str, names: set[str]) -> bool:
    return not names.isdisjoint(re.findall(r"[\w\-]+", text.lower())) or not names.isdisjoint(
        re.findall(r"[^\W_]+", text.lower())
    )


def _first_names() -> tuple[set[str], set[str]]:
    """First names of six locales, and English words that are no evidence of a name."""
    from faker import Faker

    names: set[str] = set()
    for locale in ("en_US", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR"):
        for provider in Faker(locale).factories[0].providers:
            names |= {name.lower() for name in getattr(provider, "first_names", ()) if len(name) >= 4}
    words = next(p for p in Faker("en_US").factories[0].providers if hasattr(p, "word_list")).word_list
    return names, {word.lower() for word in words}


def _begins_with(user: str, firsts: set[str]) -> list[str]:
    """The first name at the beginning of a user name: up to a capital, digit or sign, or five letters and more."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", user)
    if parts and parts[0].lower() in firsts:
        return [parts[0].lower()]
    whole = user.lower()
    return next(([whole[:n]] for n in range(len(whole), 4, -1) if whole[:n] in firsts), [])


def speed(conversations: list[Conversation], rounds: int = 3) -> float:
    """Messages a second of CPU time of one process: the best of some rounds."""
    anonymizer, messages = Anonymizer(), sum(len(conversation.turns) for conversation in conversations)
    best = float("inf")
    gc.freeze()  # the conversations were read before: walking them is no part of the work
    for _ in range(rounds):
        start = time.process_time()
        for conversation in conversations:
            anonymizer(conversation)
        best = min(best, time.process_time() - start)
    return round(messages / best)


def overall(rows: Iterable[dict[str, Any]], what: str, count: str) -> float:
    """The share over all types together."""
    known = [(row[what] * row[count], row[count]) for row in rows if row[what] is not None]
    return round(sum(n for n, _ in known) / sum(n for _, n in known), 4)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--each", type=int, default=120, help="generated lines of a type and locale")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gitter", type=Path, help="folder with messages.jsonl.gz")
    parser.add_argument("--messages", type=int, default=10**9, help="of the chat, from its beginning")
    parser.add_argument("--people", metavar="MODEL", help="a spaCy model, on people who are on no roster")
    parser.add_argument("--presidio", action="store_true", help="Presidio alone on the lines written by hand")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--show", default="", help="print what was missed of a type, 'wrong' or 'all'")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"write {MEASURED.name} into the package")
    args = parser.parse_args()
    lines = {locale: list(generated(locale, args.seed, args.each)) for locale in LOCALES}
    result: dict[str, Any] = {
        "generated": measure((line for group in lines.values() for line in group), args.show),
        "locales": {locale: measure(group) for locale, group in lines.items()},
        "labelled": measure(labelled(), args.show),
        "hand": measure((line for half in (False, True) for _, line in hand(held_out=half))),
        "held_out": measure(line for _, line in hand(held_out=True)),
        "ordinary": mistakes(ordinary(), args.show),
    }
    if args.show:
        measure((line for _, line in hand(held_out=False)), args.show)
    if args.people:
        finder = people_finder(args.people)
        english = [line for line in ordinary() if line.text.isascii()]
        found = measure((line for _, line in _written_lines("strangers.txt")), args.show, (finder,))
        result["people"] = {"model": args.people, **found, "ordinary": mistakes(english, args.show, (finder,))}
    if args.presidio:
        everything = (line for half in (False, True) for _, line in hand(held_out=half))
        result["presidio alone"] = measure(everything, finders=(presidio_finder(),))
    chat = args.gitter is not None and (args.gitter / "messages.jsonl.gz").exists()
    if chat:
        result["residual"] = residual(threads(args.gitter, args.messages))
    else:
        print("residual: skipped; --gitter FOLDER with messages.jsonl.gz measures it", file=sys.stderr)
    if args.speed:
        corpus = SyntheticCorpus(2000, Population.PRIVATE, kinds=(ConversationKind.THREAD,))
        result["messages_per_second"] = {"embedded threads": speed(list(corpus.conversations()))}
        if chat:
            result["messages_per_second"]["chat"] = speed(list(threads(args.gitter, 40_000)))
    if args.write:
        command = f"python scripts/bench_redaction.py --each {args.each} --seed {args.seed} --write"
        write(result, command + (f" --gitter FOLDER --messages {args.messages}" if chat else ""))
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)


def write(result: dict[str, Any], command: str) -> None:
    """What the privacy card quotes."""
    data = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "generated": result["generated"],
        "labelled": result["labelled"],
        "hand": result["hand"],
        "held_out": result["held_out"],
        "ordinary": result["ordinary"],
        "residual": result.get("residual"),
    }
    MEASURED.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def show(result: dict[str, Any]) -> None:
    """A table: types down, recall and precision of both sets, recall of each locale across."""
    by_locale = defaultdict(dict, dict(result["locales"].items()))
    print(f"{'type':24}{'recall':>8}{'n':>6}{'precision':>11}{'n':>6}  " + "".join(f"{name:>7}" for name in LOCALES))

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    for part in ("generated", "labelled", "hand", "held_out", "presidio alone"):
        if part not in result:
            continue
        print(f"— {part}")
        for kind, row in result[part].items():
            across = "".join(f"{cell(by_locale[name].get(kind, {}).get('recall')):>7}" for name in LOCALES)
            print(
                f"{kind:24}{cell(row['recall']):>8}{row['labelled']:6}{cell(row['precision']):>11}{row['replaced']:6}"
                f"  {across if part == 'generated' else ''}"
            )
        rows = result[part].values()
        print(
            f"{'all':24}{overall(rows, 'recall', 'labelled'):8.3f}{'':6}{overall(rows, 'precision', 'replaced'):11.3f}"
        )
    for name in ("ordinary", "people", "residual", "messages_per_second"):
        if name in result:
            print(f"— {name}: {result[name]}")


if __name__ == "__main__":
    main()
