"""Street addresses: a word for a street, a name and a number, with what stands around them (flat, postcode, town).

A street without a number ("the coast road") is no address. Town and postcode go only with a street; a British, Irish
or Canadian postcode goes alone, for it tells a few houses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain

from dp_train.anonymize.keywords import BOX, HOUSE, NUMBER, STREET, keywords
from dp_train.anonymize.labels import Labels, Place
from dp_train.anonymize.shapes import is_strange, looks

_U = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĘĚĞĢĪİĶŁĻŃŅŇŌŐŘŚŞŠŢȚȘŤŪŮŰŹŻŽΑ-ΩΆΈΉΊΌΎΏА-ЯЁІЇЄҐ"
_W = rf"[{_U}][^\W\d_]{{0,30}}(?:['’.\-][^\W\d_]{{1,30}}){{0,3}}\.?"  # a word with a capital
_SMALL = r"(?:de|du|des|de la|del|della|dei|da|do|dos|das|van|von|der|den|die|di|la|le|les|el|los|las|y|e|of|the|al|ben|d['’])"
_NAME = rf"(?:{_SMALL} ?)?{_W}(?: (?:{_SMALL} ?)?(?:{_W}|[IVX]+)){{0,4}}"
_NO = r"\d{1,5}(?: ?[A-Za-z](?![A-Za-z]))?(?:[/\-]\d{1,4}[A-Za-z]?){0,3}"

_FLAT = (
    r"(?:[,.]? (?:(?:Apt|Apartment|Unit|Suite|Ste|Flat|Floor|Fl|Rm|Wohnung|Whg|Stiege|Top|lgh|Int|Interior|piso|apto|"
    r"apartamento|bureau|appt|app|bât|et|ap|bl|sc|m|kv|кв|под|D|Daire|Kat|דירה|קומה|стр|корп|к)\b\.?:? ?[\w\-]{1,6}"
    r"|#\s?\w{1,6}|\d{1,2}[ºª°](?: ?(?:[A-Z]\b|izq\.?|dcha\.?|Dto\.?|Esq\.?))?|\d{1,2}\. ?(?:tv|th|mf|sal)\b\.?|[A-H] \d{1,3}\b|\d/\d{1,3}\b))*"
)
_POST = (
    r"(?:[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|(?:[A-Z]{1,2}-)?\d{4,5}-\d{3,4}|\d{4} ?[A-Z]{2}\b|(?:[A-Z]{1,2}-)?\d{3} \d{2}\b"
    r"|\d{2}-\d{3}\b|(?:[A-Z]{1,2}-)?\d{4,6}\b)"
)
_TOWN = rf"(?:TP\.? ?)?{_W}(?!\w)(?:[ /\-]{_W}(?!\w)){{0,2}}"
_STATE = r"(?:[A-Z]{2,4})"
# Districts and towns after the street; each part begins with a capital, or is a postcode.
_TAIL = (
    rf"(?:,? (?:Col|Kel|Kec|Mah|Quận|quận|phường|Phường|P|Q)\.? (?:{_W}|\d{{1,2}})(?: {_W}){{0,2}}){{0,3}}"
    rf"(?:(?:,| -|،)? {_POST}(?:,? {_TOWN}(?: \d{{1,2}}\b)?(?:,? [A-Z]{{1,2}}\b)?)?"
    rf"|(?:(?:,| [\-–]) {_TOWN}(?: [\-–] {_STATE}\b)?){{1,3}}(?:,? {_STATE}\b)?(?:,? {_POST}(?: {_TOWN})?)?|(?: {_TOWN})?,? {_STATE} {_POST})?"
)

_ENGLISH_TYPE = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Way|Terrace|Ter|Close"
    r"|Crescent|Cres|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Row|Mews|Grove|Gardens|Gdns|Hill|Walk|Quay|Wharf|Trail|Loop|Alley)"
)
_PATTERNS: tuple[tuple[str, ...], ...] = (
    # English; also "Flat 6, 91 Copperfield Road", "H.No. 8-2-293, Road No. 12".
    (
        rf"(?:(?:Flat|Apartment|Apt|Unit|Level|Suite|Plot|House|Floor)\.? (?:No\.? ?)?\w{{1,5}},? (?:{_W}(?: {_W}){{0,2}}, )?)?"
        rf"(?<![\w.]){_NO},? (?:[NSEW]{{1,2}}\.? )?{_W}(?: {_W}){{0,3}} {_ENGLISH_TYPE}\b\.?(?! [a-z]+ (?:fell|came))",
        r"(?<!\w)(?:H\. ?No\.?|House No\.?|Plot No\.?|Door No\.?) ?[\d\-/]+[A-Z]?(?:, (?:Road|Street|Cross|Main) No\.? ?\d+)?",
        r"(?<!\w)(?i:p\.? ?o\.? box|postfach|apartado(?: de correos)?|boîte postale) \d+",
    ),
    # One word with the street in it: German, Dutch, Scandinavian, Finnish.
    (
        rf"(?<![\w\-])[^\W\d_]{{2,40}}(?:[\-.][^\W\d_]{{1,40}}){{0,4}}(?i:straße|strasse|(?<=\w\w)str\.|gatan|vägen|straat|gracht|katu|gade|"
        rf"veien|brogade|stræde|gränd) {_NO}(?!\w| ?%)",
        rf"(?<![\w\-])[{_U}][^\W\d_]{{1,40}}(?:[\-.][^\W\d_]{{1,40}}){{0,4}}(?:weg|platz|allee|gasse|ring|ufer|damm|graben|markt|laan|plein|kade|dijk|"
        rf"singel|dreef|gata|torget|allén|vej|vegen|plads|plass|kuja|polku|tori|kaari|rinne|raitti) {_NO}(?!\w| ?%)",
        rf"(?<!\w)(?!(?:Der|Die|Das|Den|Dem|Auf|Am|Im|An|In|Zum|Zur|Ein|Eine|Einer|Unser|Unsere|Von|Vom|Pro|Je)\b){_W}[ \-]"
        rf"(?:Straße|Strasse|Str\.|Gasse|Allee|Markt|Ring|Platz|Weg|Damm|Ufer) {_NO}(?!\w| ?%)",
    ),
    # The word before: Romance, Slavic, Turkish, Greek, Indonesian, Vietnamese.
    (
        rf"(?<!\w)(?:n°|nº)? ?{_NO}(?: ?(?:bis|ter|quater)\b)?,? (?i:rue|avenue|av\.|boulevard|bd|bld|allée|allées|chemin|impasse|quai|"
        rf"cours|place|passage|square|route|ruelle|sentier)(?: (?:de|du|des|de la|de l['’]|d['’]|l['’]))? ?{_NAME}",
        rf"(?<!\w)(?i:calle|c/|avenida|avda\.?|av\.|paseo|p\.º|plaza|pza\.?|camino|carretera|ctra\.?|ronda|travesía|calzada|jirón|jr\."
        rf"|carrera|cra\.?|rua|r\.|travessa|praça|alameda|largo|estrada|rodovia|via|viale|v\.le|corso|c\.so|piazza|p\.zza"
        rf"|vicolo|strada|str\.|carrer|bulevardul|b-dul|bd\.|calea|aleea|șoseaua|șos\.) ?{_NAME}"
        rf",?(?: (?:n[ºo°.]+|nr\.?|num\.?|número|#) ?| #| |, ?){_NO}",
        rf"(?<!\w)(?i:ul\.|ulica|ulicy|ulice|ulici|al\.|aleja|alei|aleje|pl\.|plac|os\.|osiedle|nám\.|náměstí|třída|tř\.|trg|"
        rf"ulitsa|prospekt) ?{_NAME} {_NO}",
        rf"(?<!\w)(?i:ул\.?|улица|улице|улицы|вул\.?|вулиця|вулиці|пр\.|пр-т|просп\.|проспект|проспекте|проспекті|пер\.|переулок|"
        rf"переулке|провулок|бул\.|бульвар|бульваре|шоссе|площадь|площади|наб\.|набережная|пл\.|площа) ?{_NAME},?"
        rf" ?(?i:д\.|дом|буд\.|будинок|№)? ?\d{{1,4}}[А-Яа-я]?(?:/\d+)?",
        rf"(?<!\w)(?i:οδός|οδό|οδού|λεωφόρος|λεωφ\.|λεωφόρο|πλατεία) {_NAME} {_NO}",
        rf"(?<!\w)(?i:jalan|jln\.?|jl\.?|gang|gg\.) {_NAME}(?:,? (?i:no\.?|nomor) ?| ){_NO}",
        rf"(?<!\w)(?:(?i:số|ngõ|ngách|hẻm|kiệt) )?{_NO}(?:,? (?i:ngõ|ngách|hẻm) \d+)?,? (?i:đường|phố) {_W}(?: {_W}){{0,4}}",
        rf"(?<!\w){_W}(?: {_W}){{0,3}} (?i:caddesi|cad\.|cd\.|sokak|sokağı|sok\.|sk\.|bulvarı|blv\.)"
        rf",? (?:(?i:no):? ?)?{_NO}",
        rf"(?<!\w)(?:\d{{4}},? {_W},? )?{_W}(?: {_W}){{0,2}} (?i:utca|u\.|út|útja|tér|tere|körút|krt\.|sétány|köz|fasor|rakpart) {_NO}(?!\d| nap)\.?",
    ),
    # A name, a number, a postcode and a town: most of Europe without a word for the street.
    (rf"(?<!\w){_W}(?: {_W}){{0,2}} {_NO}(?=,? (?:[A-Z]{{1,2}}-)?(?:\d{{3}} \d{{2}}|\d{{4,5}}) {_TOWN})",
        rf"(?<!\w)(?:[{_U}][^\W\d_]{{1,40}}tie|(?:Am|An der|Auf dem|Im|Zum|Zur) {_W}(?: {_W})?) {_NO}(?=,? (?:\w-)?\d{{4,5}} {_W}|(?<=tie \d),)",
    ),
    # Scripts without capitals.
    (
        r"(?<!ה)(?:רחוב|רח['׳]|שדרות|שד['׳]|דרך|סמטת) (?:[\u05d0-\u05ea\"״'׳]+ ){1,3}\d{1,4}(?: ?(?:דירה|קומה|כניסה) \w{1,3})*(?:, ?[\u05d0-\u05ea]+(?: [\u05d0-\u05ea]+)?)?",
        r"[\d٠-٩]{1,4} (?:شارع|طريق|حي|جادة) (?:[\u0621-\u064a]+ ?){1,3}(?:، ?[\u0621-\u064a]+)?",
        r"(?<!ال)(?:شارع|طريق|حي|جادة) (?:[\u0621-\u064a]+ ){1,3}?(?:(?:رقم|،) ?)?[\d٠-٩]{1,4}(?:، ?[\u0621-\u064a]+)?",
        r"(?:(?:मकान|फ्लैट|घर|प्लॉट)(?: ?(?:नंबर|नं\.?|संख्या))? ?[\d०-९]{1,5}[\w/\-]{0,10}|(?<![\d०-९])[\d०-९]{1,4}(?:[/\-][\d०-९]{1,4})?,? (?=[\u0900-\u097f]+ (?:रोड|मार्ग|गली|नगर|पथ)))"
        r"(?:,? (?:[\u0900-\u097f]+|[\d०-९]{1,6})){0,8}",
        r"(?:(?:বাড়ি|বাড়ি|বাসা|হাউজ|ফ্ল্যাট)(?: নং)? ?[\d০-৯]+)(?:,? (?:[\u0980-\u09ff]+|[\d০-৯]{1,4})){0,8}",
        r"(?:எண்|கதவு எண்|வீடு) ?\d+[\w/]*(?:,? (?:[\u0b80-\u0bff]+|\d{6})){1,6}",
        r"(?<!\d)\d{1,4}(?:/\d{1,4})? ?(?:หมู่ ?\d+ ?)?(?:ถนน|ถ\.|ซอย|ซ\.|หมู่บ้าน) ?[\u0e00-\u0e7f]+(?: ?\d{1,3}(?!\d))?(?: ?(?:ถนน|ซอย|แขวง|เขต|ตำบล|อำเภอ|จังหวัด|ต\.|อ\.|จ\.)[\u0e00-\u0e7f]+)*(?: ?(?:กรุงเทพ[\u0e00-\u0e7f]*|[\u0e00-\u0e7f]{3,})?(?= ?\d{5}))?(?: ?\d{5})?",
        r"(?:〒?\d{3}-\d{4} ?)?(?:[\u4e00-\u9fff]{2,3}[都道府県])?(?:[\u4e00-\u9fffぁ-んァ-ヶー]{1,6}[市区町村郡]){1,3}[\u4e00-\u9fffぁ-んァ-ヶー]{0,8}\d{1,4}(?:丁目|番地?|号|[\-−ー]|の|条|(?=[\-−]))(?:[\d\-−]|番地?|号|丁目)*(?: ?[\u4e00-\u9fffァ-ヶーA-Za-z]{2,12}\d{2,4}(?:号室)?)?",
        r"(?:[\u4e00-\u9fff]{2,7}(?:省|自治区))?(?:[\u4e00-\u9fff]{2,4}市)?(?:[\u4e00-\u9fff]{1,4}[区區县縣鄉镇鎮])?[\u4e00-\u9fff\d]{1,8}(?:路|街|巷|弄|大道|胡同)(?:[一二三四五六七八九十\d]+段)?(?:\d{1,4}[巷弄])?\d{1,5}[号號](?:[之\-]\d+)?(?:[\dA-Z]{1,4}(?:栋|幢|座|楼|樓|单元|室|层|號|号|f|F)(?:之\d+)?)*",
        r"(?:[가-힣]{2,7}(?:시|도) )?(?:[가-힣]{1,5}(?:시|군|구) ){0,2}(?:[가-힣]{1,5}[읍면동] )?[가-힣]{1,8}(?:로|길)(?: ?\d{1,4}번?길)? ?\d{1,4}(?:-\d{1,4})?(?:번지)?(?:,? ?\d{1,3}동)?(?:,? ?\d{1,4}호)?(?![가-힣]?[\d일월년분원])",
    ),
)  # fmt: skip
_POSTCODES = re.compile(
    r"(?<![\w.\-])(?:(?:GIR 0AA|[A-PR-UWYZ][A-HK-Y]?\d[A-HJ-Z\d]? \d[ABD-HJLN-UW-Z]{2})|[ABCEGHJ-NPR-TVXY]\d[A-CEGHJ-NPR-TV-Z] \d[A-CEGHJ-NPR-TV-Z]\d"
    r"|[AC-FHKNPRTV-Y]\d[\dW] [\dAC-FHKNPRTV-Y]{4})(?![\w\-])"
)
_OF_OTHER_SCRIPTS = tuple(map(re.compile, _PATTERNS[-1]))
# What has to be in a text for a group to be looked for; most texts with a digit in them have none of it.
_NUMBER_AND_CAPITAL = re.compile(
    rf"\d\w{{0,5}},? (?:[NSEW]{{1,2}}\.? )?[{_U}]|No\b\.? ?\d|(?i:box|postfach|apartado|postale) \d"
)
_WITHIN_A_WORD = Labels(
    """~straße ~strasse ~str. ~gatan ~vägen ~straat ~gracht ~katu ~gade ~veien ~stræde ~gränd ~weg ~platz ~allee ~gasse ~ring
    ~ufer ~damm ~graben ~markt ~laan ~plein ~kade ~dijk ~singel ~dreef ~gata ~torget ~allén ~vej ~vegen ~plads ~plass ~kuja
    ~polku ~tori ~kaari ~rinne ~raitti"""
)
_WORD_BEFORE = Labels(
    """rue ave av. boul bd bld allée chemin impasse quai cours place passage square route ruelle sentier calle c/ paseo p.º plaza
    pza camino carretera ctra ronda travesía calzada jirón jr. carrera cra rua r. travessa praça alameda largo estrada rodovia
    via v.le corso c.so piazza p.zza vicolo strada str. carrer bulevardul b-dul calea aleea șos ul. ulic al. alei alej pl. plac
    os. osiedle nám třída tř. trg ulitsa prospekt ул вул пр просп пер провулок бул шосс площ наб пл. οδό λεωφ πλατεία jalan jl
    gang gg. đường phố cad cd. sok sk. bulv blv utca u. út tér körút krt sétány köz fasor rakpart"""
)
_POSTCODE = re.compile(r"\d\w?,? (?:[A-Z]{1,2}-)?\d{3}")
_OTHER = re.compile(r"[\u0590-\u06ff\u0900-\u0bff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_GROUPS = tuple(tuple(map(re.compile, group)) for group in _PATTERNS[:-1])
_AROUND = re.compile(rf"{_FLAT}{_TAIL}")


# Sharper: what stands in, or right beside, every place that one pattern finds. See `_may_stand`.
_ENGLISH_STREET = re.compile(rf" {_ENGLISH_TYPE}\b")
_SPACE_AND_DIGIT = re.compile(r" \d")
_A_NUMBER_BEFORE = re.compile(r"\d ?[A-Za-z]?(?: ?(?:bis|ter|quater))?,? \Z", re.IGNORECASE)
_A_NUMBER_AFTER = re.compile(r"[^\W\d_]{0,6}\.?,? (?:no:? ?)?\d", re.IGNORECASE)
_POSTCODE_AND_TOWN = re.compile(rf"\d[A-Za-z]?,? (?:\w{{1,2}}-)?(?:\d{{3}} \d{{2}}|\d{{4,5}}) [{_U}]")
_FRENCH = Labels(
    "rue avenue av. boulevard bd bld allée chemin impasse quai cours place passage square route ruelle sentier"
)
_ROMANCE = Labels(
    """calle c/ avenida avda av. paseo p.º plaza pza camino carretera ctra ronda travesía calzada jirón jr. carrera cra rua
    r. travessa praça alameda largo estrada rodovia via v.le corso c.so piazza p.zza vicolo strada str. carrer
    bulevardul b-dul bd. calea aleea șos"""
)
_SLAVIC = Labels("ul. ulica ulic al. alej alei pl. plac os. osiedle nám třída tř. trg ulitsa prospekt")
_CYRILLIC = Labels("ул вул пр просп пер провулок бул шосс площ наб пл")
_GREEK = Labels("οδό λεωφ πλατεία")
_INDONESIAN = Labels("jalan jln jl gang gg.")
_VIETNAMESE = Labels("đường phố")
_TURKISH = Labels("caddesi cad. cd. sokak soka sok. sk. bulvar blv.")
_HUNGARIAN = Labels("utca u. út tér tere körút krt sétány köz fasor rakpart")


def street_addresses(text: str) -> list[Place]:
    """Streets with a number, as far as the address goes, the longest first; and postcodes that tell a few houses."""
    found: list[Place] = []
    for match in _streets(text):
        around = _AROUND.match(text, match.end())
        found.append((match.start(), around.end() if around else match.end()))
    if not text.islower() and looks(text, b" 0AA", b"A0A 0A0", b"A00 ", b"A0A "):
        found += (match.span() for match in _POSTCODES.finditer(text))
    if not text.isascii() and _OTHER.search(text):
        for match in chain.from_iterable(pattern.finditer(text) for pattern in _OF_OTHER_SCRIPTS):
            if any(map(str.isdigit, match.group())):
                found.append((match.start(), match.start() + len(match.group().rstrip())))
    return sorted(found, key=lambda place: place[0] - place[1])


def _streets(text: str) -> Iterator[re.Match[str]]:
    """Where a pattern of an alphabet with capitals holds, group by group."""
    sharp = not is_strange(text)
    english, within, before, by_postcode = _GROUPS
    words = keywords(text)
    street, house, box = english
    by_street = words & STREET and _ENGLISH_STREET.search(text) is not None
    by_house = words & HOUSE and words & NUMBER
    if (by_street or by_house or words & BOX) and _NUMBER_AND_CAPITAL.search(text):
        yield from street.finditer(text) if by_street else ()
        yield from house.finditer(text) if by_house else ()
        yield from box.finditer(text) if words & BOX else ()
    ends = _WITHIN_A_WORD.ends(text)
    if ends and (not sharp or any(_SPACE_AND_DIGIT.match(text, end) for end in ends)):
        yield from chain.from_iterable(pattern.finditer(text) for pattern in within)
    capital = not text.islower()  # names of the groups that follow begin with one
    if capital and _WORD_BEFORE.places(text):
        yield from chain.from_iterable(
            pattern.finditer(text) if not sharp else find(pattern, text)
            for pattern, find in zip(before, _BY_WORD, strict=True)
        )
    if capital and looks(text, b" 000", b"-000") and _POSTCODE.search(text):
        town, name = by_postcode
        if not sharp or _POSTCODE_AND_TOWN.search(text):
            yield from chain(town.finditer(text), name.finditer(text))
        elif "tie " in text:
            yield from name.finditer(text)


_Finder = Callable[[re.Pattern[str], str], Iterator[re.Match[str]]]


def _begins_with(labels: Labels) -> _Finder:
    """What `finditer` gives, of a pattern that begins with one of the labels."""

    def find(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
        reached = 0
        for start in sorted({start for start, _ in labels.places(text)}):
            match = pattern.match(text, start) if start >= reached else None
            if match:
                yield match
                reached = match.end()

    return find


def _holds(labels: Labels, beside: Callable[[str, Place], object] = lambda text, place: True) -> _Finder:
    """What `finditer` gives, of a pattern that has one of the labels in it, and beside the label what is asked."""

    def find(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
        return pattern.finditer(text) if any(beside(text, place) for place in labels.places(text)) else iter(())

    return find


def _after_a_number(text: str, label: Place) -> object:
    return _A_NUMBER_BEFORE.search(text, max(0, label[0] - 12), label[0])


def _before_a_number(text: str, label: Place) -> object:
    return _A_NUMBER_AFTER.match(text, label[1])


_BY_WORD: tuple[_Finder, ...] = (
    _holds(_FRENCH, _after_a_number),
    *map(_begins_with, (_ROMANCE, _SLAVIC, _CYRILLIC, _GREEK, _INDONESIAN)),
    _holds(_VIETNAMESE),
    *(_holds(labels, _before_a_number) for labels in (_TURKISH, _HUNGARIAN)),
)
"""How each pattern of the group with a word before, or after, is looked for; in the order of the group."""
