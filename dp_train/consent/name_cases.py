"""Names as languages decline them: case endings that follow a name, and words that are written onto its front."""

from __future__ import annotations

from functools import cache, lru_cache

from dp_train.consent.name_forms import Form, forms_of
from dp_train.consent.name_letters import fold
from dp_train.consent.name_romanised import script_of

_VOWEL_ENDS = "aeoyiаяеоийьαηοσ"
_ENDINGS = {
    "LATIN": """
        s es en n an in on e i u y a o om em ou ie ii iem owi owie ovi ovej ovy ova ove ovu ov ego iego emu
        iemu ej ą ę ach ami ech ih im oj ja jem lle lla llä lta ltä ssa ssä sta stä ksi na nä ta tä tta ttä
        nak nek nal nel val vel ban ben bol hoz hez höz rol tol t ot et at ert nin nun nın un ya ye yi yu da
        de dan den tan ten la le lar ler as os us is ai ui ams ims nya
        """,
    "CYRILLIC": "а у ом ем ём е и ы ою ею ой ей я ю ям ями ях ам ами ах ов ев ову еві ові ом ій ії ою єю ї є",
    "GREEK": "ς σ υ ου ο ον ω α ας η ης ε",
}  # fmt: skip
_AGGLUTINATING_TEXT = "BENGALI GUJARATI GURMUKHI DEVANAGARI TAMIL TELUGU KANNADA MALAYALAM SINHALA ORIYA"
_ENDING_FREELY_TEXT = "GEORGIAN ARMENIAN HEBREW ARABIC ETHIOPIC"
_AGGLUTINATING, _ENDING_FREELY = (frozenset(text.split()) for text in (_AGGLUTINATING_TEXT, _ENDING_FREELY_TEXT))
_PREFIXES = {
    "HEBREW": ("ו", "ה", "ב", "ל", "מ", "ש", "כ", "וה", "וב", "ול", "שה", "מה", "כש", "של"),
    "ARABIC": ("و", "ف", "ب", "ل", "ك", "ال", "وال", "بال", "لل", "ول", "وب"),
}


@lru_cache(maxsize=4096)
def declined_begins(person_id: str, name: str) -> frozenset[str]:
    """The first three letters of `declined_forms`: most texts have none of them."""
    return frozenset(form.words[0][:3] for form in declined_forms(person_id, name))


# Short common words that end as a declined name does.
_NO_CASES_TEXT = """
    are bare care cares come comes danes done fine fire gone here hire hose line lines mare mine more nine nose ones
    pose rare same some sure taken there time times very wine were where
    """
_NO_CASES = frozenset(_NO_CASES_TEXT.split())


@lru_cache(maxsize=1 << 16)
def stems(word: str) -> tuple[str, ...]:
    """What a folded word of a text may be a form of: without case endings and prefixes, longest first.

    "annalle" may be Anna's, "анны" Анна's (as "анн"), "לדנה" דנה's. Which stem is a name is the roster's to say.
    """
    if word in _NO_CASES:
        return ()
    script = script_of(word)
    found: list[str] = []
    prefixes = (prefix for prefix in _PREFIXES.get(script, ()) if word.startswith(prefix))
    bare = [word, *(word[len(prefix) :] for prefix in prefixes if len(word) > len(prefix) + 1)]
    found += bare[1:]
    most = 7 if script in _AGGLUTINATING else 3 if script in _ENDING_FREELY else 4
    for one in bare:
        for size in range(len(one) - 1, max(2, len(one) - most - 1), -1):
            ending = one[size:]
            if script in _AGGLUTINATING or script in _ENDING_FREELY or ending in _endings(script):
                found.append(one[:size])
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=4096)
def declined_forms(person_id: str, name: str) -> tuple[Form, ...]:
    """What endings may follow: single words that are no common ones, whole and without their last vowel ("анн")."""
    found: dict[str, Form] = {}
    for form in forms_of(person_id, name):
        key = form.words[0]
        if len(form.words) > 1 or form.guarded or form.exact or form.folded or len(key) < 3:
            continue
        # "Time" need not be Tim's, nor "Very" Vera's.
        found.setdefault(key, form._replace(guarded=len(key) <= 3))
    for key, form in list(found.items()):
        for changed in _other_stems(key):
            found.setdefault(changed, form._replace(words=(changed,)))
        if len(key) >= 4 and key[-1] in _VOWEL_ENDS:
            found.setdefault(key[:-1], form._replace(words=(key[:-1],), guarded=True))
    return tuple(found.values())


def _other_stems(word: str) -> list[str]:
    """Stems that change in the middle: Zdeněk → Zdeňk-ovi, Kubiec → Kubc-a, Mäkinen → Mäkis-en."""
    stems_ = [word[:-2] + word[-1]] if word[-2:] in ("ek", "ec", "ok", "ец", "ек", "ок") and len(word) >= 5 else []
    return stems_ + ([word[:-3] + "s"] if word.endswith("nen") and len(word) >= 6 else [])


@cache
def _endings(script: str) -> frozenset[str]:
    return frozenset(fold(ending) for ending in _ENDINGS.get(script, "").split())
