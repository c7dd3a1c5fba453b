"""The one exception that a user's mistake ends in."""


class InputError(ValueError):
    """Bad input: the message names the file or key, the field, what was found and what was expected.

    The command line prints the message as one line and exits with code 2; anything else is a bug and keeps
    its traceback.
    """
