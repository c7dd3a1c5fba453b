"""The one exception that a user's mistake ends in."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message names the file or key, the field, what was found and what was expected.

    The command line prints the message as one line and exits with code 2; anything else is a bug and keeps
    its traceback.
    """


def unknown(where: str, value: str, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is none of the `valid` ones; it offers the nearest.

    >>> unknown("config.yaml: backbone", "spvcn", ["spvcnn", "minkunet14a"])
    InputError("config.yaml: backbone: 'spvcn' is not known, did you mean 'spvcnn'?")
    """
    valid = list(valid)
    small = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(value.lower(), small, n=1)
    hint = f"did you mean {small[near[0]]!r}?" if near else f"expected one of {', '.join(map(repr, valid))}"
    return InputError(f"{where}: {value!r} is not known, {hint}")
