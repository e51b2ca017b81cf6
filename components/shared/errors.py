"""Every error that our steps raise on purpose, and the exit code each one ends a command with.

YanshanError
|-- InvalidInput       2  data or settings are wrong: fix them, do not retry
|-- MissingCapability  3  this machine lacks a GPU, a package or disk: move or install, do not retry
|-- ServiceFault       4  store, registry or server failed: retry
`-- Refused            5  a gate said no: an answer, not a fault

A message says what, where, got, expected.
"""


class YanshanError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class InvalidInput(YanshanError):
    """Data or settings are wrong: fix them, do not retry."""

    exit_code = 2


class MissingCapability(YanshanError):
    """This machine lacks something: move or install, do not retry."""

    exit_code = 3


class ServiceFault(YanshanError):
    """A service failed: retry."""

    exit_code = 4


class Refused(YanshanError):
    """A gate said no: an answer, not a fault."""

    exit_code = 5
