"""`dp-train completion`: verbs, options, keys and their values, offered by the shell while one types.

The script that a shell loads knows nothing itself: it asks `dp-train completion words` at every Tab, so experiments of
the working folder and parts of installed packages are among the answers.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import types
import typing
from argparse import Namespace
from collections.abc import Iterator, Sequence
from enum import Enum

from dp_train.cli.verbs import GROUPS, VERBS


def run(options: Namespace) -> int:
    """Print the script of a shell, or the words that may stand where the cursor is."""
    if options.shell == "words":
        line = os.environ.get(LINE, "")
        print("\n".join(candidates([*line.split()[1:], *([""] if line[-1:].isspace() else [])])))
    else:
        print(_SCRIPTS[options.shell].replace("@LINE@", LINE), end="")
    return 0


LINE = "DP_TRAIN_COMPLETION_LINE"
"""What the script hands on: the line up to the cursor."""


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word, which may be empty, may become.

    Args:
      words: after `dp-train`, the one under the cursor last.
    """
    *before, word = words or [""]
    found = _verb(before)
    if found is None:
        start = " ".join([*before, ""]) if before else ""
        names = {name.removeprefix(start).split()[0] for name in VERBS if name.startswith(start)}
        return _starting(word, names | ({"--help", "--version"} if not before else set()))
    parser = argparse.ArgumentParser(add_help=True)
    VERBS[found].options(parser)
    options = {name: action for action in parser._actions for name in action.option_strings}
    if before and before[-1] in options and options[before[-1]].choices:
        return _starting(word, map(str, options[before[-1]].choices or ()))
    if word.startswith("-"):
        return _starting(word, {*options, "--debug"})
    for action in parser._actions:
        if not action.option_strings and action.choices:
            return _starting(word, map(str, action.choices))
    if not any(action.dest == "overrides" for action in parser._actions):
        return []
    key, equals, _ = word.partition("=")
    if equals:
        return _starting(word, (f"{key}={value}" for value in _values(key)))
    return _starting(word, _keys())


def _verb(words: Sequence[str]) -> str | None:
    """The verb that words begin with; None where it is not whole yet."""
    if words and words[0] in GROUPS:
        return " ".join(words[:2]) if " ".join(words[:2]) in VERBS else None
    return words[0] if words and words[0] in VERBS else None


def _starting(word: str, names: typing.Iterable[str]) -> list[str]:
    return sorted(name for name in set(names) if name.startswith(word))


def _keys() -> Iterator[str]:
    from dp_train.runs.config_paths import groups
    from dp_train.runs.field_docs import field_docs

    yield from (f"{group}=" for group in groups() if group != "launcher")
    yield from (f"{doc.key}=" for doc in field_docs() if not _is_part(doc.kind) and "NAME" not in doc.key)


def _values(key: str) -> list[str]:
    """The values that a key may have, where they are few."""
    from dp_train.runs.config_paths import choices, groups
    from dp_train.runs.field_docs import field_docs

    if key in groups():
        return choices(key)
    kind = next((doc.kind for doc in field_docs() if doc.key == key), None)
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    found = [str(member.value) for each in kinds if _is_words(each) for member in typing.cast("type[Enum]", each)]
    found += ["false", "true"] if bool in kinds else []
    return [*found, "null"] if found and type(None) in kinds else found


def _is_part(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _is_words(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


_SCRIPTS = {
    "bash": """\
# dp-train completion bash > ~/.local/share/bash-completion/completions/dp-train
_dp_train() {
    local line="${COMP_LINE:0:COMP_POINT}" word answer
    word="${line##* }"
    COMPREPLY=()
    while IFS= read -r answer; do
        # Bash breaks words at "=", and replaces what stands behind it.
        [[ -n $answer && $word == *=* && $COMP_WORDBREAKS == *=* ]] && answer="${answer#*=}"
        [[ -n $answer ]] && COMPREPLY+=("$answer")
    done < <(@LINE@="$line" dp-train completion words 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _dp_train dp-train
""",
    "zsh": """\
#compdef dp-train
# dp-train completion zsh > "${fpath[1]}/_dp-train"
_dp_train() {
    local -a answers keys
    answers=("${(@f)$(@LINE@="$LBUFFER" dp-train completion words 2>/dev/null)}")
    keys=("${(@M)answers:#*=}")
    answers=("${(@)answers:#*=}")
    (( $#keys )) && compadd -Q -S "" -- "${keys[@]}"
    [[ -n "${answers[1]}" ]] && compadd -Q -- "${answers[@]}"
    (( $#keys )) || [[ -n "${answers[1]}" ]] || _files
}
compdef _dp_train dp-train
if [[ "$funcstack[1]" == "_dp_train" ]]; then _dp_train "$@"; fi
""",
    "fish": """\
# dp-train completion fish > ~/.config/fish/completions/dp-train.fish
complete -c dp-train -a '(@LINE@=(commandline -cp) dp-train completion words 2>/dev/null)'
""",
}


__all__ = ["LINE", "candidates", "run"]
