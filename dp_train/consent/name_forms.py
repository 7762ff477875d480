"""The ways in which people write one display name: parts, handles, initials, nicknames, other alphabets.

`forms_of` lists them for one person; `dp_train.consent.names` looks for them in text. Given names (the US
census of 1990, public domain) and nicknames are only ever asked about the names of a roster, never about
the words of a text: a gazetteer over text flags half of all messages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from dp_train.consent.name_letters import INVISIBLE, UNSPACED, fold, words
from dp_train.consent.name_romanised import romanised_groups, romanised_otherwise, without_schwas

HONORIFICS = ("さん", "様", "くん", "君", "ちゃん", "氏", "先生", "씨", "님")
_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_CAMEL = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]{2,}")
_TITLES_TEXT = "mr mrs ms miss mx dr prof professor sir herr frau mme m jr sr ii iii iv phd md"
_TITLES = frozenset(_TITLES_TEXT.split())
# Given and family names that are also common English words, months included.
_COMMON_TEXT = """
    amber angel april art august autumn baker bank banks bell best bill black bond booth brook brooks brown buck
    burns bush butler carol carpenter case cash chance chase chip christian church clay cliff colt cook cooper
    cross crystal daisy dale dawn day dean don drew duke early faith farmer field fields fisher flower flowers
    forest foster fox frank frost gardener gene ginger glen golden good grace grant gray green guy hall harmony
    heath heather hill hope house hunt hunter iris ivory ivy jack jan jean jewel jolly joy june justice keen key
    king knight lance lane law lily little long love low lucky major march mark marks marsh mason may mercy
    miles mill miller mills moon moody morning nick noble north page park parks pat patience peace pearl penny
    piper pit point pope porter post potter power powers price prince pride ray read reed rich river rivers rob
    robin rock rocky roman rose ruby rusty sage sandy savage sharp short silver singer skip sky small smart snow
    spring star sterling stone storm story strange street strong sue summer summers sunny swift temple thorn
    tiger van violet wade walker ward waters weeks wells west white wild will wills winter winters wise wolf
    wood woods woody young ace just bee bud cat chad chuck dot drake gene guy hank herb jet jules kit lane lou max
    mel nan pip rod sally tad ted val
    """
COMMON = frozenset(_COMMON_TEXT.split())
# Two capitals that are more often these than anybody's initials.
_ABBREVIATIONS_TEXT = """
    ab ad ai am ap ar as at au bc bi br bs by ca cc cd ceo cfo ci cm co cpu cs css cto cv cx da db dc dj dl dm
    dr dx ec ed eg em eod es eta et eu ex fr fs ft fyi ga gb go gp gps gpu gt he hi hq hr html id ie if il im in
    io ip is it ios jk js kb kg ki km kpi la lb lg ll lp ma mb mc md me mg ml mm mr ms mt mvp my na nb nda nfc
    no np ny ok on op or os pa pc pdf pi pl pm pms po pr ps pt qa qb re rn roi rt sa sc sd se sh sla so sp sql
    ss st sv tb td th tl tls to tv uae ui uk un up url us usa utc ux va vc vm vp vr vs wc we wp xl xp xr yo
    """
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())
_NICKNAMES: dict[str, str] = {
    "abigail": "abby gail",
    "albert": "al bert albie",
    "alexander": "alex al xander sasha lex",
    "alexandra": "alex sasha sandra lexi",
    "alfred": "al alf fred freddie",
    "alice": "ali allie",
    "amanda": "mandy",
    "andrea": "andy andi",
    "andrew": "andy drew",
    "anthony": "tony ant",
    "antonio": "toni tony toño",
    "arthur": "art artie",
    "barbara": "barb barbie babs",
    "benjamin": "ben benny benji",
    "bernard": "bernie",
    "catherine": "cathy cat kate katie cath",
    "charles": "charlie chuck chas",
    "charlotte": "charlie lottie",
    "christian": "chris",
    "christina": "chris chrissy tina",
    "christine": "chris chrissy tina",
    "christopher": "chris topher kit",
    "cynthia": "cindy",
    "daniel": "dan danny",
    "danielle": "dani",
    "david": "dave davey",
    "deborah": "deb debbie",
    "diana": "di",
    "donald": "don donnie",
    "dorothy": "dot dottie",
    "douglas": "doug",
    "edward": "ed eddie ned ted teddy",
    "eleanor": "ellie nell nora",
    "elizabeth": "liz lizzie beth betty eliza libby lisa betsy",
    "emily": "em emmy",
    "eugene": "gene",
    "federico": "fede",
    "ferdinand": "ferdi",
    "fernando": "fer nando",
    "florian": "flo",
    "frances": "fran frannie",
    "francis": "frank fran",
    "francisco": "paco pancho fran",
    "frederick": "fred freddie",
    "friedrich": "fritz",
    "gabriel": "gabe",
    "gabriele": "gabi",
    "george": "georgie",
    "gerald": "gerry jerry",
    "gregory": "greg",
    "guillaume": "gui",
    "guillermo": "guille memo",
    "harold": "harry hal",
    "heinrich": "heinz heini",
    "henry": "harry hank hal",
    "isabel": "isa bel",
    "isabella": "bella izzy isa",
    "jacob": "jake",
    "jacqueline": "jackie",
    "jacques": "jacquot",
    "james": "jim jimmy jamie jem",
    "janet": "jan",
    "jason": "jay",
    "jeffrey": "jeff",
    "jennifer": "jen jenny jenn",
    "jeremy": "jez",
    "jessica": "jess jessie",
    "joao": "joãozinho jão",
    "johannes": "hannes hans jo",
    "john": "johnny jack jon",
    "jonathan": "jon jonny nathan",
    "jose": "pepe",
    "joseph": "joe joey",
    "joshua": "josh",
    "josephine": "josie jo",
    "juan": "juanito",
    "judith": "judy",
    "julia": "jules",
    "karl": "kalle",
    "katherine": "kate kathy katie kat kathie kay",
    "kathleen": "kathy kate katie",
    "katharina": "kathi kati",
    "kenneth": "ken kenny",
    "kimberly": "kim kimmy",
    "kristina": "kris tina",
    "lawrence": "larry",
    "leonard": "leo len lenny",
    "lillian": "lily lil",
    "louis": "lou louie",
    "louise": "lou",
    "lucille": "lucy",
    "manuel": "manu manolo",
    "margaret": "maggie meg peggy marge margie greta",
    "maria": "mari",
    "martin": "marty",
    "matthew": "matt matty",
    "matthias": "matze",
    "maximilian": "max",
    "megan": "meg",
    "melissa": "mel missy lissa",
    "michael": "mike mikey mick micky mickey",
    "michelle": "shelly micha",
    "mikhail": "misha",
    "mohammed": "mo",
    "nancy": "nan",
    "natalie": "nat",
    "nathan": "nate nat",
    "nathaniel": "nate nat",
    "nicholas": "nick nicky nico",
    "nicolas": "nico nick",
    "nicole": "nicky nikki",
    "nikolai": "kolya",
    "olivia": "liv livvy",
    "pamela": "pam",
    "patricia": "pat patty tricia trish patti",
    "patrick": "pat paddy",
    "peter": "pete",
    "philip": "phil",
    "phillip": "phil",
    "rachel": "rach",
    "raymond": "ray",
    "rebecca": "becky becca",
    "richard": "rick ricky rich dick richie",
    "robert": "bob bobby rob robbie bert",
    "roberto": "beto",
    "ronald": "ron ronnie",
    "rosemary": "rose rosie",
    "russell": "russ",
    "samantha": "sam sammy",
    "samuel": "sam sammy",
    "sandra": "sandy",
    "sebastian": "seb basti bastian",
    "sophia": "sophie",
    "stefan": "steffen",
    "stephanie": "steph steffi",
    "stephen": "steve stevie",
    "steven": "steve stevie",
    "susan": "sue susie suzie",
    "suzanne": "sue suzie",
    "teresa": "terry tess tere",
    "terrence": "terry",
    "theodore": "ted teddy theo",
    "theresa": "terry tess",
    "thomas": "tom tommy",
    "timothy": "tim timmy",
    "tobias": "tobi",
    "ursula": "uschi",
    "valerie": "val",
    "victor": "vic",
    "victoria": "vicky tori vic vicki",
    "vincent": "vince vinnie",
    "virginia": "ginny",
    "vladimir": "vova volodya",
    "walter": "walt wally",
    "wilhelm": "willi",
    "william": "will bill billy willie liam",
    "wolfgang": "wolfi",
    "zachary": "zach zack",
}
# Letters that people write as two.
_UMLAUTS_TEXT = "ä:ae ö:oe ü:ue ø:oe æ:ae å:aa đ:dj"
_RINGS_TEXT = "å:aa"
_UMLAUTS, _RINGS = ({ord(pair[0]): pair[2:] for pair in text.split()} for text in (_UMLAUTS_TEXT, _RINGS_TEXT))


class Form(NamedTuple):
    """A way to write a name: folded words, and what has to hold for them to count.

    `folded` and `exact` are the whole stretch of text as it has to be, up to case or to the letter; empty
    where the words are enough. A `guarded` form is a common word too, and has to be written like a name.
    A `whole` form holds more than one part of the name, or is an id or a handle: it tells one person of many.
    """

    words: tuple[str, ...]
    person_id: str
    folded: str = ""
    exact: str = ""
    guarded: bool = False
    whole: bool = False


@lru_cache(maxsize=4096)
def forms_of(person_id: str, name: str) -> tuple[Form, ...]:
    """Every form of one person's display name and id; people recur, so the last few thousand are kept."""
    groups = _groups(name)
    found: dict[tuple[str, ...], Form] = {}
    for variant in _spellings(groups):
        for form in _spoken(variant):
            found.setdefault(form, Form(form, person_id, guarded=_is_guarded(form), whole=_is_whole(form, variant)))
    if len(groups) == 1:
        whole = tuple(words(groups[0]))
        for piece in _handle_pieces(groups[0]):
            if (piece,) != whole:  # "code" of code_master has to be written like a name, "jane" of jane_roe not
                guarded = piece not in given_names() or piece in COMMON
                found[(piece,)] = Form((piece,), person_id, guarded=guarded)
    for called in _shortened(groups):
        found.setdefault((called,), Form((called,), person_id, guarded=True))
    forms = list(found.values()) + [form for form in _initials(person_id, groups) if form.words not in found]
    spelled = tuple(words(person_id))
    if len(person_id) >= 4 and spelled and spelled not in found:
        forms.append(Form(spelled, person_id, folded=person_id.strip("@").casefold(), whole=True))
    return tuple(forms)


def unspaced_forms(name: str) -> Iterator[str]:
    """Names in scripts that put no spaces between words cannot be found as words."""
    name = INVISIBLE.sub("", _ASIDE.sub(" ", unicodedata.normalize("NFC", name))).strip()
    if not UNSPACED.search(name):
        return
    parts = name.split()
    forms = {name, "".join(parts), *parts}
    decomposed = unicodedata.normalize("NFD", name)
    if decomposed != name:
        forms |= {decomposed, "".join(decomposed.split()), *decomposed.split()}
    if len(parts) == 1 and len(name) <= 6:  # nothing tells the family name from the given one
        forms |= {cut for size in (1, 2, 3) for cut in (name[:size], name[-size:]) if size < len(name)}
    # One character alone is a word like any other; with what people add to names it is one.
    called = (form + honorific for form in forms if len(form) == 1 for honorific in HONORIFICS)
    yield from (form for form in (*forms, *called) if len(form) > 1)


@cache
def given_names() -> frozenset[str]:
    """Frequent given names of four or more letters, folded."""
    listed = files("dp_train.consent").joinpath("given_names.txt").read_text(encoding="utf-8").split()
    return frozenset(listed) | {nickname for group in _nicknames().values() for nickname in group if len(nickname) >= 4}


@cache
def _nicknames() -> dict[str, tuple[str, ...]]:
    """Given name → what else its bearers are called."""
    return {fold(name): tuple(map(fold, others.split())) for name, others in _NICKNAMES.items()}


def _groups(name: str) -> list[str]:
    """The words of a name as they are written, given name first, without titles and asides."""
    name = _ASIDE.sub(" ", name)
    family, comma, given = name.partition(",")
    if comma and words(given) and fold(given.strip(" .")) not in _TITLES:
        name = f"{given} {family}"  # "Berg, Anna" is Anna Berg
    folded = [(group, words(group)) for group in name.split()]
    return [group for group, parts in folded if parts and not (len(parts) == 1 and parts[0] in _TITLES)]


def _spellings(groups: list[str]) -> Iterator[list[tuple[str, ...]]]:
    """The name's words as written, with two letters for an umlaut, and in Latin letters."""
    written = [group.casefold() for group in groups]
    umlauts = [group.translate(_UMLAUTS) for group in written]
    rings = [group.translate(_RINGS) for group in written]
    latin = romanised_groups(written)
    seen: list[list[tuple[str, ...]]] = []
    for spelling in (written, umlauts, rings, list(map(without_schwas, latin)) if latin != written else latin, latin):
        folded = [tuple(words(group)) for group in spelling]
        if folded not in seen and all(folded):
            seen.append(folded)
            yield folded
    for spelling in romanised_otherwise(written):
        folded = [tuple(words(group)) for group in spelling]
        if folded not in seen and all(folded):
            yield folded
    seen = [seen[0], seen[-1]] if fold("".join(latin)) != fold("".join(written)) else seen[:1]
    for ending, other in (("iy", "y"), ("iy", "i"), ("ey", "ei")):
        if len(seen) > 1 and any(part.endswith(ending) for group in seen[-1] for part in group):
            yield [tuple(p.removesuffix(ending) + other if p.endswith(ending) else p for p in g) for g in seen[-1]]


def _spoken(groups: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Whole name, parts, handles made of them, and nicknames of the given name."""
    if not groups:
        return
    first, last = groups[0], groups[-1]
    yield tuple(word for group in groups for word in group)
    called = [first, *((nickname,) for nickname in _nicknames().get(first[0], ()))]
    if len(groups) > 1:
        for given in called:
            yield given + last
            yield last + given
        yield (first[0], *last)
        if len(groups) > 2:  # "Dos Santos", "A. Dos Santos", "Ruiz" of Carla Ruiz Soto
            for middle in groups[1:-1]:
                if len("".join(middle)) > 3:
                    yield middle
                    yield first + middle
            family = tuple(word for group in groups[1:] for word in group)
            yield family
            yield (first[0][0], *family)
        for given in called:
            for handle in ("".join(given + last), given[0][0] + "".join(last), "".join(given) + last[0][0]):
                if len(handle) >= 5:
                    yield (handle,)
        yield (first[0][0], *last)  # "a.berg", "A. Berg"
    for group in (*called, last):
        yield group
        yield from ((word,) for word in group if len(word) > 1)
        if len(group) > 1:  # "OBrien", "AnnaLena"
            yield ("".join(group),)


def _is_guarded(form: tuple[str, ...]) -> bool:
    """Made of common words and of words of two letters alone."""
    return all(len(word) <= 2 or word in COMMON for word in form)


def _is_whole(form: tuple[str, ...], groups: list[tuple[str, ...]]) -> bool:
    """Made of the given name, or its letter, and a later part."""
    if len(groups) < 2:
        return True
    text, rest = "".join(form), groups[1:]
    return any(text.endswith("".join(group)) or text.startswith("".join(group)) for group in rest) and not any(
        form == tuple(word for group in rest[start:end] for word in group) or form in {(w,) for w in sum(rest, ())}
        for start in range(len(rest))
        for end in range(start + 1, len(rest) + 1)
    )


def _handle_pieces(name: str) -> Iterator[str]:
    """What a handle is made of: "JaneRoe_42" of jane and roe, "davidr" of david and an initial."""
    for part in _CAMEL.findall(name):
        piece = fold(part)
        if len(piece) >= 3:
            yield piece
        if piece not in given_names():
            for length in range(len(piece) - 1, 4, -1):
                if piece[:length] in given_names():
                    yield piece[:length]
                    break


def _shortened(groups: list[str]) -> Iterator[str]:
    """What follows from a given name without a list: "Scotty", "Nath" of Nathalie. Many are words too."""
    given = words(groups[0])[0] if groups else ""
    if len(given) <= 5 and len(given) >= 3 and given.isascii():
        yield from (given + ending for ending in ("y", "ie", "i"))
    yield from (given[:size] for size in range(4, len(given) - 1))


def _initials(person_id: str, groups: list[str]) -> Iterator[Form]:
    """ "AB" and "A.B." of Anna Berg, in capitals alone; none that is a common abbreviation."""
    parts = [part for group in groups for part in words(group)[:1]]
    if len(parts) < 2:
        return
    for letters in {"".join(part[0] for part in parts), parts[0][0] + parts[-1][0]}:
        if letters.isalpha() and letters not in _ABBREVIATIONS:
            yield Form((letters,), person_id, exact=letters.upper())
        yield Form(tuple(letters), person_id, exact=".".join(letters.upper()))
