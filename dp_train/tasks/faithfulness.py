"""How much of a summary is its own words, and whether its people and numbers are those of the meeting.

All of it compares words, with no model: cheap, the same for everybody, and blind to meaning. The scores say what share
of what *can be checked so* is right; a summary that names nobody and counts nothing has none of them. Read them
beside ROUGE, and beside those of `lead_3`, which copies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dp_train.tasks.metrics import check_pairs

_NGRAMS = {"novel_unigrams": 1, "novel_bigrams": 2, "novel_trigrams": 3}
_WORD = re.compile(r"\w+")
_SURROGATE = re.compile(r"\[P\d+\]")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,:]\d+)*")
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_ONE = re.compile(r"\bone\b", re.IGNORECASE)
_LETTERS = 4
_SPELLED_TEXT = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty
    """
_SPELLED = {word: str(value) for value, word in enumerate(_SPELLED_TEXT.split())}


def faithfulness(
    outputs: Sequence[str], sources: Sequence[str], references: Sequence[str] | None = None
) -> dict[str, float]:
    """`novel_ngrams`, `speaker_precision`, `attribution_precision`, `number_precision`, of all outputs together.

    With references also `speaker_recall` and `number_recall`: what share of the people and numbers of a reference its
    output has; a summary that says nothing has full precision and no recall. A score of which nothing could be counted
    is left out.

    Args:
      outputs: summaries. sources: their transcripts, one "name: text" line a turn.
    """
    check_pairs(outputs, sources)
    found = {
        **novel_ngrams(outputs, sources),
        **_share("speaker_precision", speakers_right(outputs, sources)),
        **_share("attribution_precision", attributions_right(outputs, sources)),
        **_share("number_precision", numbers_right(outputs, sources)),
    }
    if references is None:
        return found
    check_pairs(outputs, references)
    return {
        **found,
        **_share("speaker_recall", speakers_found(outputs, sources, references)),
        **_share("number_recall", numbers_found(outputs, references)),
    }


def novel_ngrams(outputs: Sequence[str], sources: Sequence[str]) -> dict[str, float]:
    """Share of the outputs' word n-grams that do not stand in their source; 0 for what is copied.

    Words are case-folded, punctuation separates them. (Narayan, Cohen and Lapata 2018, arXiv 1808.08745, table 1.)
    It measures wording alone: what is novel may be a paraphrase or an invention.
    """
    pairs = [(_words(output), _words(source)) for output, source in zip(outputs, sources, strict=True)]
    found: dict[str, float] = {}
    for name, n in _NGRAMS.items():
        novel = []
        for output, source in pairs:
            there = set(_ngrams(source, n))
            novel += [ngram not in there for ngram in _ngrams(output, n)]
        found |= _share(name, novel)
    return found


def speakers_right(outputs: Sequence[str], sources: Sequence[str]) -> list[bool]:
    """For each mention of a person, whether that person speaks in the meeting.

    Mentions are surrogates, and the names of speakers of any of the sources, in their own spelling.

    Limits: a name that speaks in none of the sources is not known for a name; a person who is only talked about in
    the meeting counts as wrong, as one who is made up does.
    """
    turns = [_turns(source) for source in sources]
    known = sorted({name for meeting in turns for name in meeting}, key=len, reverse=True)
    return [
        name in meeting for output, meeting in zip(outputs, turns, strict=True) for name in _mentions(output, known)
    ]


def speakers_found(outputs: Sequence[str], sources: Sequence[str], references: Sequence[str]) -> list[bool]:
    """For each different person that a reference names, whether its output names that person.

    Names are known as `speakers_right` knows them.
    """
    known = sorted({name for source in sources for name in _turns(source)}, key=len, reverse=True)
    found = []
    for output, reference in zip(outputs, references, strict=True):
        there = set(_mentions(output, known))
        found += [name in there for name in dict.fromkeys(_mentions(reference, known))]
    return found


def numbers_found(outputs: Sequence[str], references: Sequence[str]) -> list[bool]:
    """For each different number of a reference, whether its output has it; in digits, or (to twenty) as a word.

    "one" as a word is no number of a reference: it is seldom meant so.
    """
    found = []
    for output, reference in zip(outputs, references, strict=True):
        there = _all_numbers(output)
        found += [number in there for number in _all_numbers(_ONE.sub("", reference))]
    return found


def attributions_right(outputs: Sequence[str], sources: Sequence[str]) -> list[bool]:
    """For each sentence that names one speaker and can be decided, whether nobody else said more of it.

    What a speaker said of a sentence is how many of its different content words (four letters or more) stand in the
    speaker's turns. It can be decided where speakers differ in that; a tie for the most counts as right.

    Limits: words are compared as they are spelled; who reports what another said takes the credit; "A asks B to …"
    names two and is left out. It finds swapped names, and cannot find a wrong verb.
    """
    found = []
    for output, source in zip(outputs, sources, strict=True):
        turns = _turns(source)
        known = sorted(turns, key=len, reverse=True)
        for sentence in _SENTENCE.split(output):
            named = set(_mentions(sentence, known))
            if len(named) != 1 or not named <= turns.keys():
                continue
            (name,) = named
            words = {word for word in _words(sentence) if len(word) >= _LETTERS} - set(_words(name))
            said = {speaker: len(words & spoken) for speaker, spoken in turns.items()}
            if min(said.values()) < max(said.values()):
                found.append(said[name] == max(said.values()))
    return found


def numbers_right(outputs: Sequence[str], sources: Sequence[str]) -> list[bool]:
    """For each number in digits, whether it stands in the source, in digits or (to twenty) as an English word.

    "1,000" is 1000, "10:30" and "2.5" are one number each, of "3pm" the 3 counts; a surrogate's number does not.
    Limits: a number is right wherever it stands, whatever it counts; one spelled out in the summary is not seen.
    """
    found = []
    for output, source in zip(outputs, sources, strict=True):
        there = _all_numbers(source)
        found += [number in there for number in _numbers(output)]
    return found


def _share(name: str, right: Sequence[bool]) -> dict[str, float]:
    return {name: sum(right) / len(right)} if right else {}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(_THOUSANDS.sub("", text))


def _all_numbers(text: str) -> dict[str, None]:
    """Different numbers, in digits and as words of numbers to twenty."""
    spelled = (_SPELLED[word] for word in _words(text) if word in _SPELLED)
    return dict.fromkeys((*_numbers(text), *spelled))


def _turns(source: str) -> dict[str, set[str]]:
    """Speaker → the words of their turns."""
    turns: dict[str, set[str]] = {}
    for line in source.split("\n"):
        name, colon, text = line.partition(": ")
        if colon:
            turns.setdefault(name, set()).update(_words(text))
    return turns


def _mentions(text: str, known: Sequence[str]) -> list[str]:
    """Surrogates, and the names in `known` (the longer first) where they stand as words."""
    names = [re.escape(name) for name in known if not _SURROGATE.fullmatch(name)]
    return re.findall("|".join([_SURROGATE.pattern, *(rf"(?<!\w){name}(?!\w)" for name in names)]), text)
