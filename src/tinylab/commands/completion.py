"""``tinylab completion``: tab completion in bash, zsh and fish.

The shell script is small: it calls ``tinylab completion answer`` with the line up to the cursor,
and falls back to file names. Hydra's own completion does not know tinylab's commands. Without Hydra
and torch, an answer takes a tenth of a second.
"""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tinylab.commands import COMMANDS
from tinylab.commands.parser import Parser
from tinylab.config.groups import choices, groups
from tinylab.config.keys import defaults, words_of
from tinylab.config.option import FOLDERS
from tinylab.config.options import options, without_code
from tinylab.config.values import shown
from tinylab.errors import UserError
from tinylab.ui.console import say

BASH = """\
_tinylab() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##*[[:space:]]}"
    mapfile -t COMPREPLY < <("$1" completion answer "$line" 2>/dev/null)
    # Where = breaks words, bash wants only what comes after it.
    if [[ $COMP_WORDBREAKS == *=* && $word == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]]; then
        compopt -o nospace
    fi
}
complete -o default -F _tinylab tinylab"""
ZSH = """\
#compdef tinylab
_tinylab() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    local -a answers=(${(f)"$($words[1] completion answer "$line" 2>/dev/null)"})
    if (( ! $#answers )); then
        compset -P '*='
        _files
        return
    fi
    compadd -S '' -- ${(M)answers:#*[=.]}
    compadd -- ${answers:#*[=.]}
}
(( $+functions[compdef] )) || { autoload -U compinit && compinit }
compdef _tinylab tinylab"""
FISH = """\
function __tinylab
    set -l answers (tinylab completion answer (commandline -cp | string collect) 2>/dev/null)
    if test (count $answers) -gt 0
        printf '%s\\n' $answers
    else
        set -l key (string match -r '.*=' -- (commandline -ct))
        set -l path (string replace -r '.*=' '' -- (commandline -ct))
        printf '%s\\n' "$key"(__fish_complete_path $path)
    end
end
complete -c tinylab -f -a '(__tinylab)'"""
# Shell -> its script, and the command that installs it.
SCRIPTS = {
    "bash": (BASH, "tinylab completion bash >> ~/.bashrc"),
    "zsh": (ZSH, "tinylab completion zsh >> ~/.zshrc"),
    "fish": (FISH, "tinylab completion fish > ~/.config/fish/completions/tinylab.fish"),
}
TRAIN_FLAGS = ("--help", "--from", "--multirun", "--cfg", "--info", "--resolve", "--hydra-help")
# Command -> number of words before its first config key.
WITH_KEYS = {"train": 1, "cite": 1, "evaluate": 2, "inspect": 1, "list": 1, "remove": 1}


def main(arguments: list[str]) -> None:
    """Run the command: print a shell's script, or answer it."""
    if arguments[:1] == ["answer"]:
        for answer in answers(" ".join(arguments[1:])):
            say(answer)
        return
    parser = Parser(
        prog="tinylab completion",
        description="Print a shell script that completes commands, config keys and options.",
        epilog="to install it: " + "; ".join(lasting for _, lasting in SCRIPTS.values()),
    )
    parser.add_argument("shell", choices=SCRIPTS, help="the shell to complete in")
    say(SCRIPTS[parser.parse_args(arguments).shell][0])


def answers(line: str) -> list[str]:
    """Return the possible completions of the last word of a command line."""
    words = line.split()
    word = "" if line[-1:].isspace() else words.pop()
    with contextlib.suppress(UserError):  # a file that is still being written
        without_code(words)
    return sorted({each for each in _candidates(words[1:], word) if each.startswith(word)})


def _candidates(words: Sequence[str], word: str) -> Iterable[str]:
    """Return what may follow ``words``; ``word`` is the start of it."""
    if not words:
        return [*COMMANDS, "--help", "--version"]
    if words[0] not in COMMANDS:
        return []
    if word.startswith("-"):
        return TRAIN_FLAGS if words[0] == "train" else _flags(words[0])
    if words[0] == "completion":
        return SCRIPTS
    if len(words) < WITH_KEYS.get(words[0], math.inf) or words[-1] == "--from":
        return []
    candidates = _values(word) if "=" in word else _keys(words, word)
    return [each for each in candidates if words[0] != "evaluate" or each.startswith("dataset")]


def _flags(command: str) -> list[str]:
    """Return the flags of a command, parsed from its source: importing it may import torch."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    own = re.findall(r'\badd(?:_argument)?\(\s*"(--[\w-]+)"', source)
    shared = re.findall(r"\bparser\.add_(\w+)\(\)", source)  # by methods of Parser
    return ["--help", *own, *(f"--{name}" for name in shared)]


def _keys(words: Sequence[str], word: str) -> Iterator[str]:
    """Return groups, sections and keys; those of a section after its name and a dot."""
    section, dot, _ = word.partition(".")
    known = options(section) if dot and section in FOLDERS else ()  # a YAML file may have any keys
    chosen = [name for name in known if f"{section}={name}" in words]
    if not dot:
        yield from (f"{group}=" for group in groups())
    for key, choice in defaults():
        if not dot:
            yield f"{key.partition('.')[0]}." if "." in key else f"{key}="
        elif key.startswith(f"{section}.") and (not chosen or choice in ("", *chosen)):
            yield f"{key}="


def _values(word: str) -> list[str]:
    """Return the options of a group or the default of a key; in a sweep also after a comma."""
    key, _, value = word.partition("=")
    if key in groups():
        known = choices(key)
    else:
        values = [default for (name, _), default in defaults().items() if name == key]
        known = [shown(value) for value in values if value is not None]
        known += ["true", "false"] if any(isinstance(value, bool) for value in values) else []
        known += words_of().get(key, ())
    before = value[: value.rfind(",") + 1]
    return [f"{key}={before}{option}" for option in known]
