"""A byte-level BPE vocabulary, learnt from public text alone.

A vocabulary is a release: its merges say which strings were frequent in the text that it was learnt
from, and no ε covers them (docs/privacy.md). So it is trained on the public population only, and private
text is spelled with what that gave. Bytes make every text spellable, so nothing is ever unknown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dp_train.anonymize import SURROGATES
from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus
from dp_train.errors import ConfigError, ConsentError, ModelError

PAD, BOS, EOS, SEP = "<pad>", "<s>", "</s>", "<sep>"
SUMMARY, MESSAGE = "<summary>", "<message>"
MARKERS = (SUMMARY, MESSAGE)
"""Stand between the prompt and what the model is to write; one a task."""

_CONTROL = (PAD, BOS, EOS, SEP, *MARKERS)
_ALPHABET = 256
MIN_VOCAB = _ALPHABET + len(_CONTROL) + len(SURROGATES)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE of at most `vocab_size` entries; deterministic in the order of `texts`.

    The surrogates of `dp_train.anonymize` and the control tokens are one token each. Control tokens
    cannot be typed: a text that spells "</s>" becomes its characters, so nobody can end or begin a
    message from inside it. Decoding gives back the text, surrogates included.

    Args:
      texts: *public* texts, e.g. `public_texts(corpus)`; read once, as a stream.
      vocab_size: number of entries, all special ones included; small texts may give fewer.

    Raises:
      ConfigError: `vocab_size` has no room for bytes, control tokens and surrogates.
    """
    if vocab_size < MIN_VOCAB:
        raise ConfigError(
            f"tokenizer: vocab_size={vocab_size}; expected at least {MIN_VOCAB}, for {_ALPHABET} bytes, "
            f"{len(_CONTROL)} control tokens and {len(SURROGATES)} surrogates"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SURROGATES),
        special_tokens=list(_CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_surrogates(texts), trainer)
    # Not special: surrogates are words of the text and have to survive decoding.
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in SURROGATES])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        sep_token=SEP,
        additional_special_tokens=list(MARKERS),
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )


def public_texts(corpus: ConsentedCorpus) -> Iterator[str]:
    """Turns and summaries of a corpus whose people agreed to publication.

    Raises:
      ConsentError: the corpus was gated for another purpose.
    """
    if corpus.purpose is not Purpose.PUBLISH:
        raise ConsentError(
            f"tokenizer: corpus is consented for {corpus.purpose.value}; expected publish: a vocabulary is not "
            "covered by any ε"
        )
    for conversation in corpus.conversations():
        for turn in conversation.turns:
            yield turn.text
        if conversation.summary is not None:
            yield conversation.summary


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Load what `save_pretrained` of a tokenizer wrote, from this machine only.

    Raises:
      ModelError: there is no tokenizer at `path`.
    """
    if not (path / "tokenizer.json").is_file():
        raise ModelError(f"tokenizer: no tokenizer.json in {path}; train one, or give the folder of one")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of vocabulary and merges: names the tokenizer in starting points, cards and reports."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _without_surrogates(texts: Iterable[str]) -> Iterator[str]:
    """Surrogates have tokens already; left in, "[P" and "1]" would take places in the vocabulary."""
    surrogate = re.compile("|".join(re.escape(token) for token in SURROGATES))
    for text in texts:
        yield from filter(None, surrogate.split(text))
