"""The two ways in which a command ends early on purpose, and a remedy of many messages."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """A mistake that the user can mend.

    The message names the key, the value, what was expected and the remedy, on one or two lines.
    The command line shows it without a traceback and exits with code 1.
    """


class Stopped(BaseException):
    """Training was asked to stop by a signal, and its state is safely on disk.

    Like KeyboardInterrupt it is no Exception, so that it ends a sweep and not only one job.

    ``signum`` is the signal; the process ends with 128 + signum, as shells expect.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


class Pruned(Stopped):
    """A search gave this training up: others are more promising. Its state is on disk."""

    def __init__(self) -> None:
        super().__init__(0)


def did_you_mean(typed: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` where a known word is near to the typed one, else an empty text."""
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(typed.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[near[0]]}'?)" if near else ""
