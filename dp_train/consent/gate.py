"""The gate: the only way from conversations to anything that can be trained on.

`gate` streams a corpus past a consent snapshot. What comes out is a `ConsentedCorpus`, and from that
come `ConsentedExamples`; neither can be made, copied or unpickled in another way, so a trainer that takes
them cannot be given what the gate did not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NoReturn, final
from weakref import WeakSet

from dp_train.consent.decisions import Reason
from dp_train.consent.events import Purpose
from dp_train.consent.names import FullNames
from dp_train.consent.removal import Passage, admit, ask_everyone
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import Conversation, ConversationKind, Corpus, Example
from dp_train.errors import ConfigError, ConsentError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPolicy:
    """How the gate treats conversations.

    A **meeting** passes whole, or not at all: everyone who speaks, writes or shares in it has to
    agree, for a summary tells what each of them said, and it may not name anybody on the roster who said no. That also
    holds for PUBLISH and PROVIDE_FEATURE, and for every conversation under TRAIN_MEETING_SUMMARY. All **else** passes
    in part: see `removal.admit`.

    Attributes:
      purpose: what the content is wanted for.
      max_removed_share: in [0, 1]. A conversation is dropped of which a larger share of turns belongs to people who
        did not agree, or quotes them by a link; of what is withheld for what it says, the share is of each author's
        own turns, and withholds the rest of them.
      own_words: whether rows will hold their author's words alone. Then no conversation is dropped for how much of it
        others took away: what one person wrote says nothing of them that a link or a name does not give away.
    """

    purpose: Purpose
    max_removed_share: float = 0.5
    own_words: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_removed_share <= 1:
            raise ConfigError(f"consent policy: max_removed_share={self.max_removed_share}; expected a share in [0, 1]")

    def needs_everyone(self, conversation: Conversation) -> bool:
        """Whether one denial drops the whole conversation."""
        if self.purpose is Purpose.TRAIN_CHAT_COMPOSE:
            return False
        return self.purpose is Purpose.TRAIN_MEETING_SUMMARY or conversation.kind is ConversationKind.MEETING


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """Counts of one pass over a corpus; of conversations, turns and reasons, never of people.

    Attributes:
      conversations_kept: of which something that was said came out.
      turns_removed: turns that went in and did not come out, or came out empty; those of dropped conversations
        included.
      removed: reason → how many of these turns; each turn counts once, so that they add up (`removal.Passage`).
      denials: reason → how often it was given: once for each (person, content kind) of a
        conversation, once for each turn that quotes or names a person who denied (OTHER_PERSON_DENIES), and
        once for each conversation of which too little was left (TOO_MUCH_REMOVED).
      set_aside: rows of imports of which nobody knows whom they are about; each may be a no.
    """

    conversations_seen: int
    conversations_kept: int
    turns_seen: int
    turns_removed: int
    denials: Mapping[Reason, int]
    removed: Mapping[Reason, int] = field(default_factory=dict)
    set_aside: int = 0

    def rows(self) -> list[tuple[str, int]]:
        """(what, count) for a table: totals first, then the reasons by falling count."""
        return [
            ("conversations seen", self.conversations_seen),
            ("conversations kept", self.conversations_kept),
            ("turns seen", self.turns_seen),
            ("turns removed", self.turns_removed),
            *([("rows of consent set aside: whose they are is unknown", self.set_aside)] if self.set_aside else []),
            *((f"removed for: {reason.value}", count) for reason, count in _falling(self.removed)),
            *((f"denied: {reason.value}", count) for reason, count in _falling(self.denials)),
        ]


def _falling(counts: Mapping[Reason, int]) -> list[tuple[Reason, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0].value))


def gate(
    corpus: Corpus,
    snapshot: ConsentSnapshot,
    policy: ConsentPolicy,
    *,
    directory: Mapping[str, str] | None = None,
) -> ConsentedCorpus:
    """Let through what the people in it agreed to.

    Guarantee: a turn comes out only if its speaker's decision for (purpose, kind of the turn), at the time and in the
    organisation of the conversation, is allowed. Guests are denied whatever is on record.
    Nothing is read before the corpus is iterated, and never more than one conversation is held.

    What one person said decides about nobody else's turn (docs/gate.md). So the gate decides twice:

    1. Which conversations and which turns there are follows from the **graph** alone: who wrote where, links, roster,
       guests, and everyone's answers. Those who did not agree, and what quotes them by a link, leave the conversation;
       the rest keeps its place and number (`Conversation.as_came`). The share that drops a conversation is of these.
    2. A turn that has to go for what it **says** is *withheld*: it stays in its place, empty, its author's still. So
       neither the ids, nor the selection, nor anybody's context move with it.

    This fixes the neighbouring relation. Two data sets are neighbours if graph and answers are the same and in one of
    them nothing that one person, who agreed, wrote says anything. Who agreed is not protected by the ε: a no takes out
    what others say to or about that person too, and may drop the conversation (`max_removed_share`) or meeting for all.
    Those who did not agree are outside of it: their words enter nothing, and show in what is missing (repetitions of
    them and answers to their questions are withheld).

    Args:
      corpus: read anew at every pass.
      snapshot: answers for every person. policy: purpose and what to do with a conversation that
        some agreed to.
      directory: person id → full name of the organisation's people, for those who are spoken about and are not on the
        roster. Their explicit no counts where the full name, or a handle of it, stands.

    Raises:
      ConsentError: the snapshot is not one that a registry made.
    """
    if type(snapshot) is not ConsentSnapshot:
        raise ConsentError(
            f"gate: the snapshot is a {type(snapshot).__name__}; expected what ConsentRegistry.snapshot gives"
        )
    known = FullNames(directory) if directory else None
    return ConsentedCorpus(_Gated(corpus, snapshot, policy, known), seal=_SEAL)


_SEAL = object()
_genuine: WeakSet[object] = WeakSet()


class _Sealed:
    """Frozen, not constructible without the seal, not copyable, and known to this module by identity."""

    __slots__ = ("__weakref__",)

    def _seal(self, seal: object) -> None:
        if seal is not _SEAL:
            raise self._refusal("made by hand")
        _genuine.add(self)

    def _check(self) -> None:
        if self not in _genuine:
            raise self._refusal("not made by the gate")

    def _refusal(self, what: str) -> ConsentError:
        return ConsentError(f"{type(self).__name__}: {what}; call gate(corpus, snapshot, policy) to get one")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise self._refusal("cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise self._refusal("cannot be changed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise self._refusal("cannot be copied or pickled")


@dataclass(frozen=True, slots=True)
class _Gated:
    """A corpus on its way past the gate, with what is to be done to each conversation afterwards."""

    corpus: Corpus
    snapshot: ConsentSnapshot
    policy: ConsentPolicy
    directory: FullNames | None
    redactions: tuple[Callable[[Conversation], Conversation], ...] = ()
    reports: list[GateReport] = field(default_factory=list)

    def conversations(self) -> Iterator[Conversation]:
        seen = kept = turns = 0
        denials: Counter[Reason] = Counter()
        removed: Counter[Reason] = Counter()
        for conversation in self.corpus.conversations():
            seen += 1
            turns += len(conversation.turns)
            passage = self._ask(conversation)
            if passage.denials:
                denials.update(passage.denials)
            if passage.removed:
                removed.update(passage.removed)
            if passage.conversation is None:
                continue
            kept += passage.turns_removed < len(conversation.turns)
            yield self._redacted(passage.conversation)
        report = GateReport(
            conversations_seen=seen,
            conversations_kept=kept,
            turns_seen=turns,
            turns_removed=removed.total(),
            denials=MappingProxyType(dict(denials)),
            removed=MappingProxyType(dict(removed)),
            set_aside=self.snapshot.set_aside,
        )
        self.reports[:] = [report]

    def _ask(self, conversation: Conversation) -> Passage:
        if self.policy.needs_everyone(conversation):
            return ask_everyone(conversation, self.snapshot, self.policy.purpose, self.directory)
        return admit(
            conversation,
            self.snapshot,
            self.policy.purpose,
            self.policy.max_removed_share,
            directory=self.directory,
            own_words=self.policy.own_words,
        )

    def _redacted(self, conversation: Conversation) -> Conversation:
        for redact in self.redactions:
            result = redact(conversation)
            if result.conversation_id != conversation.conversation_id or result.people != conversation.people:
                raise ConsentError(
                    "redact: the result has another id or other people; "
                    "return the same conversation with its text changed"
                )
            conversation = result
        return conversation


@final
class ConsentedCorpus(_Sealed):
    """Conversations whose people agreed to `purpose`, as a stream that can be read again. Made by `gate` alone.

    Guarantee: `conversations()` yields nothing that `gate` did not let through, in bounded memory.
    """

    __slots__ = ("_gated",)
    _gated: _Gated

    def __init__(self, gated: _Gated, *, seal: object = None) -> None:
        self._seal(seal)
        object.__setattr__(self, "_gated", gated)

    def __repr__(self) -> str:
        return f"ConsentedCorpus(name={self.name!r}, purpose={self.purpose.value}, root={self.root})"

    @property
    def name(self) -> str:
        """Name of the corpus that came in."""
        return self._gated.corpus.name

    @property
    def purpose(self) -> Purpose:
        """What the people agreed to."""
        return self._gated.policy.purpose

    @property
    def root(self) -> str:
        """Merkle root of the snapshot that decided."""
        return self._gated.snapshot.root

    @property
    def population_id(self) -> str:
        """Names the population, whichever snapshot decided: a new snapshot of the same people is no fresh start."""
        return self._gated.snapshot.population_id

    def persons(self) -> Callable[[str], str]:
        """One id for all spellings and linked ids of a person; see `ConsentSnapshot.persons`."""
        return self._gated.snapshot.persons()

    @property
    def policy(self) -> ConsentPolicy:
        """The policy that decided."""
        return self._gated.policy

    @property
    def report(self) -> GateReport:
        """Counts of the last whole pass; reads the corpus once if there was none."""
        if not self._gated.reports:
            for _ in self.conversations():
                pass
        return self._gated.reports[0]

    def conversations(self) -> Iterator[Conversation]:
        """Yield the conversations that passed, or what passed of them.

        Raises:
          ConsentError: the object was not made by the gate, or a redaction changed who is in it.
        """
        self._check()
        return self._gated.conversations()

    def redact(self, fn: Callable[[Conversation], Conversation]) -> ConsentedCorpus:
        """The same corpus with `fn` applied to each conversation, such as `Anonymizer()`.

        `fn` has to keep the id and the people of the conversation; a pass raises ConsentError otherwise.
        """
        self._check()
        old = self._gated
        gated = _Gated(old.corpus, old.snapshot, old.policy, old.directory, (*old.redactions, fn), old.reports)
        return ConsentedCorpus(gated, seal=_SEAL)

    def examples(self, fn: Callable[[Conversation], Iterable[Example]]) -> ConsentedExamples:
        """Examples that `fn` makes of each conversation; their owners have to be people of that conversation."""
        self._check()
        return ConsentedExamples(self, fn, seal=_SEAL)


@final
class ConsentedExamples(_Sealed):
    """Examples made from a `ConsentedCorpus`, as a stream that can be read again. Made by its `examples` alone."""

    __slots__ = ("_corpus", "_fn")
    _corpus: ConsentedCorpus
    _fn: Callable[[Conversation], Iterable[Example]]

    def __init__(
        self, corpus: ConsentedCorpus, fn: Callable[[Conversation], Iterable[Example]], *, seal: object = None
    ) -> None:
        self._seal(seal)
        object.__setattr__(self, "_corpus", corpus)
        object.__setattr__(self, "_fn", fn)

    def __repr__(self) -> str:
        return f"ConsentedExamples(name={self.name!r}, purpose={self.purpose.value}, root={self.root})"

    @property
    def name(self) -> str:
        """Name of the corpus that the examples come from."""
        return self._corpus.name

    @property
    def purpose(self) -> Purpose:
        """What the people agreed to."""
        return self._corpus.purpose

    @property
    def root(self) -> str:
        """Merkle root of the snapshot that decided."""
        return self._corpus.root

    @property
    def population_id(self) -> str:
        """Names the population, whichever snapshot decided."""
        return self._corpus.population_id

    @property
    def report(self) -> GateReport:
        """What the gate counted; see `ConsentedCorpus.report`."""
        return self._corpus.report

    def __iter__(self) -> Iterator[Example]:
        """Yield the examples that say something, conversation by conversation.

        Raises:
          ConsentError: as `places`.
        """
        return (example for example in self.places() if not example.empty)

    def places(self) -> Iterator[Example]:
        """Yield the examples and the empty places among them: what a selection has to see (`Example`).

        Raises:
          ConsentError: not made by the gate, or an example belongs to a person who is not in its conversation.
        """
        self._check()
        person = self._corpus.persons()
        for conversation in self._corpus.conversations():
            people = conversation.people
            for example in self._fn(conversation):
                if not example.owners <= people:
                    raise ConsentError(
                        "examples: an example has an owner who is not in its conversation; owners are the people "
                        "whose words enter prompt or target"
                    )
                owners = frozenset(map(person, example.owners))
                yield example if owners == example.owners else replace(example, owners=owners)
