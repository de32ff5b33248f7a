"""The one exception for what a user can fix."""


class UserError(ValueError):
    """Bad input: the message says what was expected, what came, and what to do.

    The command lines print the message alone, without a traceback, and exit with status 1.
    """
