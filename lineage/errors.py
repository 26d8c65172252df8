"""What can go wrong with the log.

LineageError
├── EventInvalid     the caller's event cannot be logged; correct it
├── LogConflict      the log and what we are about to write disagree; stop and call a person
├── KeyMismatch      this machine's key is not the log's; give it the right key
├── KeyRefused       a key cannot be added, retired or revoked as asked
├── WitnessRefuses   a witness has seen another log of our name; stop and call a person
├── StampRefused     a time-stamping authority is not set up, or gave nothing that can be kept; the log goes on without
└── ProofPending     the event is not sequenced yet; ask again in a moment
"""


class LineageError(Exception):
    """Base of all errors of this package."""


class EventInvalid(LineageError):
    """The event has no canonical form, or its leaf is too large."""


class LogConflict(LineageError):
    """Tiles, checkpoint or numbers disagree with what is stored. Nothing was written."""


class KeyMismatch(LineageError):
    """The log in this database is signed by another key."""


class KeyRefused(LineageError):
    """A rotation or revocation that would leave the log without a key, or names an unknown one."""


class WitnessRefuses(LogConflict):
    """A witness has cosigned a checkpoint that the present log does not follow from."""


class StampRefused(LineageError):
    """No certificates of the authority, or an answer that does not hold under them."""


class ProofPending(LineageError):
    """No proof yet: the event waits for the sequencer."""
