"""The exceptions that end a command early on purpose, and a common remedy."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """An error that the user can fix.

    The message names the key, the value, what was expected and the remedy, in one or two lines. The
    command line shows it without a traceback and exits with code 1.
    """


class Stopped(BaseException):
    """A signal has stopped the training, and its checkpoint is saved.

    Like KeyboardInterrupt it is not an Exception, so that it ends a sweep and not only one job.
    ``signum`` is the signal; the process exits with 128 + signum, as shells expect.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


class Pruned(Stopped):
    """A search has pruned this training. Its checkpoint is saved."""

    def __init__(self) -> None:
        super().__init__(0)


def did_you_mean(typed: str, known: Sequence[str]) -> str:
    """Return `` (did you mean 'x'?)`` if a known word is close to the typed one, else ""."""
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(typed.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[near[0]]}'?)" if near else ""
