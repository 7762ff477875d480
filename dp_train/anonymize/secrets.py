"""Keys of vendors by their shape, passwords that are assigned, and passphrases of several words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from dp_train.anonymize.keywords import PASSWORD as PASSWORD_WORD
from dp_train.anonymize.keywords import keywords
from dp_train.anonymize.labels import Labels, Place

_VENDOR_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:SG\.[\w\-]{16,}\.[\w\-]{16,}|whsec_\w{16,}|(?:AC|SK)[0-9a-f]{32}|hf_[A-Za-z0-9]{20,}|pypi-[\w\-]{16,}"
    r"|do[opr]_v1_[0-9a-f]{32,}|dckr_pat_[\w\-]{16,}|dapi[0-9a-f]{32}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{24,}|sq0[a-z]{3}-[\w\-]{16,}"
    r"|\d{8,10}:AA[\w\-]{30,}|hv[sbr]\.[\w\-]{16,}|GOCSPX-[\w\-]{16,}|1//0[\w\-]{20,}|lin_api_\w{16,}|ntn_\w{20,}|secret_\w{32,}"
    r"|pat\w{14}\.[0-9a-f]{32,}|AT[AC]TT3[\w\-=]{16,}|ATBB\w{20,}|figd_[\w\-]{16,}|gl(?:sa|c|ptt|dt|rt|soat)[_\-][\w\-]{16,}"
    r"|sntry[su]_[\w=+/\-]{20,}|dp\.(?:pt|st|ct)\.\w{20,}|PMAK-[0-9a-f\-]{24,}|rubygems_[0-9a-f]{32,}|AGE-SECRET-KEY-1[0-9A-Z]{40,}"
    r"|r8_\w{20,}|gsk_\w{20,}|xai-\w{20,}|pplx-\w{20,}|sbp_[0-9a-f]{20,}|pscale_(?:tkn|pw|oauth)_[\w\-]{16,}|nfp_\w{20,}"
    r"|NR(?:AK|II|AA)-[\w\-]{16,}|[0-9a-f]{32}-us\d{1,2}|key-[0-9a-f]{32}"
    r"|EAA[A-Za-z0-9]{40,}|v1\.0-[0-9a-f]{24,}-[0-9a-f]{24,})"
)
_BEGINS = (
    *(
        "SG.",
        "whsec_",
        "AC",
        "SK",
        "hf_",
        "pypi-",
        "_v1_",
        "dckr_",
        "dapi",
        "shp",
        "sq0",
        ":AA",
        "hv",
        "GOCSPX",
        "1//0",
        "lin_api",
    ),
    *(
        "ntn_",
        "secret_",
        "pat",
        "ATT3",
        "CTT3",
        "ATBB",
        "figd_",
        "gl",
        "sntry",
        "dp.",
        "PMAK-",
        "rubygems_",
        "AGE-SECRET",
    ),
    *("r8_", "gsk_", "xai-", "pplx-", "sbp_", "pscale_", "nfp_", "NR", "-us", "key-", "EAA", "v1.0-"),
)
_DISCORD = re.compile(r"(?<![\w\-])[MNO][\w\-]{23,30}\.[\w\-]{6}\.[\w\-]{27,}")
_BASIC = re.compile(r"\bauthorization:\s*basic\s+([A-Za-z0-9+/=]{8,})", re.IGNORECASE)
_ACCOUNT_KEY = re.compile(r"\b(?:AccountKey|SharedAccessKey|sig)=([\w+/%=\-]{16,})")
# "Password=x", "DB_PASSWORD: x", "PGPASSWORD='x'": whatever stands there, up to a separator of connection strings.
_PASSWORD_ASSIGNED = re.compile(
    r"(?:password|passwd|_pwd|\bpwd|\bpassphrase)[\"']?\s?[=:]\s?([\"'`]?)([^\s\"'`;,&\[\])]{3,64})",
    re.IGNORECASE,
)
_MAC = re.compile(
    r"(?<![\w:\-.])(?:(?:[0-9a-f]{2}[:\-]){7}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})(?![\w:\-])"
    r"|\b(?:mac|bluetooth|wlan|wifi|hardware|address|adresse)[^\w\n]{0,3}(?:is )?((?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{12})(?!\w)",
    re.IGNORECASE,
)

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)

_KNOWN_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|glpat-[\w\-]{16,}|xox[abeoprs]-[\w\-]{10,}|AIza[\w\-]{30,}|npm_[A-Za-z0-9]{20,}|ya29\.[\w\-]{20,}"
    r"|[spr]k[\-_](?:(?:live|test|proj|ant|or)[\-_])?[\w\-]{16,}|eyJ[\w\-]{8,}\.[\w\-]{8,}(?:\.[\w\-]*)?)"
)
_BEARER = re.compile(r"\bbearer\s+([\w\-.~+/=]{8,})", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?:key|secret|token|credential)s?[\"']?(?:\s+[^\W\d]+){0,4}?\s*(?:\bis\b|[:=])\s*[\"'`“]?([^\s\"'`”,;\[]{8,})",
    re.IGNORECASE,
)
_LONG = re.compile(r"(?<![\w+/=\-])[\w+/=\-]{20,}+")
_SEGMENT = re.compile(r"[A-Za-z0-9+=]{16,}")
_RUN = re.compile(r"[\w\-=]{16}|sntry")  # every vendor's key has such a run
AMONG_DOTS = re.compile(r"\.[0-9a-f]{4}\.", re.IGNORECASE)
"""What an address in Cisco's dots has in it."""

PASSWORD = Labels(
    """
    password passwort kennwort mot_de_passe contraseña senha palavra-passe password_è parola_d'ordine wachtwoord lösenord
    kodeord adgangskode passord salasana hasło heslo jelszó parola parolă şifre пароль κωδικός συνθηματικό סיסמה סיסמא
    كلمة_السر كلمة_المرور पासवर्ड পাসওয়ার্ড รหัสผ่าน mật_khẩu kata_sandi sandi 密码 密碼 口令 パスワード 비밀번호 암호 passwd pwd|
    """
)
_IS = r"\s*(?:[:：=]\s*|(?:is|ist|lautet|è|é|es|est|on|är|er|je|to|este|:n)\s|\s*は|\s*是|\s)?[\"'`“”„«「『]?"
# Without a sign of giving it has to look like a password: a digit or a sign among letters.
_PASSWORD_VALUE = re.compile(
    rf"(?P<is>{_IS})(?P<value>(?=[^\s\"'`”“,;\[]*\d)(?=[^\s\"'`”“,;\[]*[^\W\d_])[^\s\"'`”“,;\[\]」』]{{5,40}}|(?<=[:：=] )[^\s\"'`”“,;\[\]」』]{{4,40}})"
)
_QUOTED = re.compile(r"\s*(?:is|was|ist|lautet|è|é|es|est|:|=)?\s*[\"“„«「『]([^\"”“»」』\n]{4,80})[\"”“»」』]")
_TAIL = re.compile(r"(?<=[\w!?@#$%])(?:です|だよ|だ|입니다|이에요|[.!?。）)]+)\Z")

PHRASES = Labels(
    """
    passphrase pass_phrase seed_phrase recovery_phrase backup_phrase secret_phrase mnemonic seed_words recovery_words
    phrase_secrète phrase_de_passe phrase_de_récupération frase_semilla frase_de_recuperación frase_secreta frase_de_paso
    frase_de_recuperação frase_segreta frase_di_recupero merksatz passwort-satz passwortsatz wiederherstellungsphrase
    wachtwoordzin herstelzin lösenfras återställningsfras tunnuslause hasło_złożone fraza_odzyskiwania кодовая_фраза
    парольная_фраза сид-фраза seed-фраза секретна_фраза parola_öbeği kurtarma_ifadesi パスフレーズ リカバリーフレーズ 助记词 助記詞 恢复短语
    암호문구 복구_구문
    """
)
_PHRASE = re.compile(
    r"[^\W\d_]*\s*(?:(?:for|of)(?: [\w']+){1,3}\s)?(?:[:：=]\s*|(?:is|was|ist|lautet|est|es|è|é|är|jest)\s|は|\s*是)?\s*"
    r"(?P<quote>[\"“„«「『'‘]?)(?P<words>[^\W\d_]+(?:[ \-][^\W\d_]+){2,23})"
)
_GIVEN = re.compile(r"[:：=「『\"“„«'‘]|は|是|\b(?:is|ist|lautet|est|es|è|é|är|jest)\b")
# A sentence about passphrases is none: "the passphrase is longer than a password".
_ABOUT = re.compile(
    r"(?:not|longer|too|a|the|an|wrong|needed|required|stored|kept|used|always|only|very|still|just|safe|in|on|for|ein|eine|"
    r"zu|une?|trop|muy|una?)\b",
    re.IGNORECASE,
)


def private_keys(text: str) -> Iterator[Place]:
    """Find private keys between their lines."""
    return (match.span() for match in _PRIVATE_KEY.finditer(text))


def vendor_keys(text: str) -> Iterator[Place]:
    """Find keys that say by their first letters whose they are."""
    if any(map(text.__contains__, _BEGINS)):
        yield from (match.span() for match in _VENDOR_KEY.finditer(text))
    yield from (match.span() for match in _DISCORD.finditer(text))


def may_be_vendor_key(piece: str) -> bool:
    """Whether one is in what has no space in it."""
    return _RUN.search(piece) is not None and (
        _VENDOR_KEY.search(piece) is not None or _DISCORD.search(piece) is not None
    )


def credentials(text: str) -> Iterator[Place]:
    """Find what a header or a connection string holds."""
    return (match.span(1) for pattern in (_BASIC, _ACCOUNT_KEY) for match in pattern.finditer(text))


def known_secrets(text: str) -> Iterator[Place]:
    """Find keys and tokens by their first letters, those of the largest vendors."""
    return (match.span() for match in _KNOWN_SECRET.finditer(text))


def may_be_known_secret(piece: str) -> bool:
    """Whether one is in what has no space in it."""
    return _KNOWN_SECRET.search(piece) is not None


def bearers(text: str) -> Iterator[Place]:
    """Find what a bearer brings."""
    return (match.span(1) for match in _BEARER.finditer(text))


def assigned(text: str) -> Iterator[Place]:
    """Find what is assigned to a key, a secret, a token or a credential."""
    for match in _assignments(text) if text.isascii() else _ASSIGNED.finditer(text):
        if any(map(str.isdigit, match[1])) and any(map(str.isalpha, match[1])):
            yield match.start(1), match.start(1) + len(match[1].rstrip(".!?)"))


def _assignments(text: str) -> Iterator[re.Match[str]]:
    """What `finditer` gives, looked for only where one of its words stands."""
    lowered, reached = text.lower(), 0
    for start in sorted(start for word in _SECRET_WORDS for start in _starts(lowered, word)):
        match = _ASSIGNED.match(text, start) if start >= reached else None
        if match:
            yield match
            reached = match.end()


def _starts(text: str, word: str) -> Iterator[int]:
    start = text.find(word)
    while start >= 0:
        yield start
        start = text.find(word, start + len(word))


_SECRET_WORDS = ("key", "secret", "token", "credential")


def random_words(text: str) -> Iterator[Place]:
    """Find long words that look like drawn letters."""
    return (match.span() for match in _LONG.finditer(text) if _looks_random(match.group()))


def may_be_random(piece: str) -> bool:
    """Whether a long word with a digit is in what has no space in it."""
    return any(map(str.isdigit, piece)) and _LONG.search(piece) is not None


def _looks_random(word: str) -> bool:
    """Whether a long word is a key: by a stretch of letters with three digits, or as mixed-case base64."""
    for segment in _SEGMENT.findall(word):
        digits = sum(char.isdigit() for char in segment)
        if 3 <= digits < len(segment) and _bits(segment) >= 3.2:
            return True
    mixed = all(any(test(char) for char in word) for test in (str.isupper, str.islower, str.isdigit))
    return mixed and len(word) >= 32 and "-" not in word and "_" not in word and _bits(word) >= 4.4


def _bits(text: str) -> float:
    """Entropy per character of the characters' own distribution."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def hardware_addresses(text: str) -> Iterator[Place]:
    """MAC addresses with eight pairs, in Cisco's dots, or without separators after a word for them."""
    yield from (match.span(1 if match[1] else 0) for match in _MAC.finditer(text))


def phrases(text: str) -> Iterator[Place]:
    """Passphrases and seed phrases: three words or more that are given as one."""
    for end in PHRASES.ends(text):
        match = _PHRASE.match(text, end)
        if match is None or not (match["quote"] or not _ABOUT.match(match["words"])):
            continue
        if _GIVEN.search(text, end, match.start("words")):
            yield match.span("words")


def passwords(text: str) -> Iterator[Place]:
    """Passwords after a word for one in the main languages, and what is assigned to a variable of that name."""
    if keywords(text) & PASSWORD_WORD and ("=" in text or ":" in text):
        yield from (match.span(2) for match in _PASSWORD_ASSIGNED.finditer(text))
    for end in PASSWORD.ends(text):
        quoted = _QUOTED.match(text, end)
        given = _PASSWORD_VALUE.match(text, end)
        if quoted:
            yield quoted.span(1)
        elif given:
            value = _TAIL.sub("", given["value"])
            yield given.start("value"), given.start("value") + len(value)
