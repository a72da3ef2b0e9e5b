"""The error of handshakes, by itself because multiprocessing takes long to import."""

from multiprocessing import AuthenticationError as StandardAuthenticationError

from npipes._npipes import AccessDeniedError

__all__ = ["AuthenticationError"]


class AuthenticationError(AccessDeniedError, StandardAuthenticationError):
    """The two ends of a connection have not proved to each other that they have the same authkey.

    It is also a multiprocessing.AuthenticationError.
    """


AuthenticationError.__module__ = "npipes"
