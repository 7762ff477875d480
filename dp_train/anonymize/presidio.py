"""Presidio as one more finder; an extra, for what `patterns` and the roster do not know.

Both run offline. `presidio_finder`: its pattern recognizers; a blank spaCy pipeline cuts words, and no model of names
is loaded. `people_finder`: people who are not on the roster, by a spaCy model that is installed. Slower than everything
else here by far.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from dp_train.anonymize.anonymizer import Finder
from dp_train.anonymize.patterns import CARD, EMAIL, IBAN, IP, PERSON, PHONE, SECRET, SSN, URL, PatternSpan
from dp_train.errors import ConfigError

MIN_SCORE = 0.4
"""Presidio's own middle: what it takes for a mere possibility stays."""

_TOKENS = {
    "EMAIL_ADDRESS": EMAIL,
    "PHONE_NUMBER": PHONE,
    "URL": URL,
    "IP_ADDRESS": IP,
    "CREDIT_CARD": CARD,
    "IBAN_CODE": IBAN,
    "US_SSN": SSN,
}
_LEFT_ALONE = {"DATE_TIME", "PERSON", "LOCATION", "NRP", "ORGANIZATION"}


# Presidio takes a full stop between two words for a host: "it.So", "os.system".
_LINK = re.compile(r"[a-z][a-z0-9+.\-]*://|www\.|[\w.\-]+\.[a-z]{2,}(?::\d+)?[/?#]", re.IGNORECASE)


def _is_link(text: str) -> bool:
    """Whether what is taken for a link says so itself; bare hosts are for `patterns` to tell."""
    return _LINK.match(text) is not None


@cache
def presidio_finder() -> Finder:
    """A function from text to what Presidio finds in it; other identifiers than the known ones become [SECRET].

    Raises:
      ConfigError: Presidio is not installed.
    """
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ModuleNotFoundError as error:
        raise ConfigError(
            "config: anonymize.presidio=true, and Presidio is not installed; pip install 'dp_train[presidio]'"
        ) from error

    class Blank(SpacyNlpEngine):  # type: ignore[misc]
        """A pipeline without a model, so that nothing is fetched."""

        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}

    engine = Blank()
    engine.load()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(nlp_engine=engine, languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    wanted = [entity for entity in analyzer.get_supported_entities("en") if entity not in _LEFT_ALONE]

    def presidio(text: str) -> list[PatternSpan]:
        found: list[Any] = analyzer.analyze(text, language="en", entities=wanted, score_threshold=MIN_SCORE)
        return [
            PatternSpan(each.start, each.end, _TOKENS.get(each.entity_type, SECRET))
            for each in found
            if each.entity_type != "URL" or _is_link(text[each.start : each.end])
        ]

    return presidio


# What a model takes for a person in chat and is none: single letters, numbers, words without a capital.
_NAME = re.compile(r"[^\W\d_]*[A-ZÀ-ÖØ-ÞΑ-ΩА-ЯЁ\u0530-\uffff][^\W_]+")


@cache
def people_finder(model: str) -> Finder:
    """A function from text to whom a spaCy model takes for a person; each becomes [PERSON], who it is is not told.

    Nothing is fetched: the package of the model has to be installed. What it misses and takes by mistake is measured by
    `scripts/bench_redaction.py --people MODEL`; a model knows one language.

    Raises:
      ConfigError: Presidio or the model is not installed.
    """
    try:
        import spacy
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

        pipeline = spacy.load(model, exclude=["lemmatizer", "parser"])
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"config: anonymize.people={model}, and Presidio is not installed; pip install 'dp_train[presidio]'"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"config: anonymize.people={model}; expected an installed spaCy model; pip install its package"
        ) from error

    class Loaded(SpacyNlpEngine):  # type: ignore[misc]
        """The one pipeline that was loaded above, so that nothing is fetched."""

        def load(self) -> None:
            self.nlp = {pipeline.lang: pipeline}

    engine = Loaded(ner_model_configuration=NerModelConfiguration())
    engine.load()

    def people(text: str) -> list[PatternSpan]:
        found = engine.process_text(text, pipeline.lang)
        return [
            PatternSpan(entity.start_char, entity.end_char, PERSON)
            for entity in found.entities
            if entity.label_ in ("PERSON", "PER") and "[" not in entity.text and _NAME.search(entity.text)
        ]

    people.__name__ = f"people:{model}"
    return people


__all__ = ["people_finder", "presidio_finder"]
