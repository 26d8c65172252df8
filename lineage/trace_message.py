"""The bytes that are signed of a trace: what Go's `json.Marshal` makes of the product and the event. Pure.

Source: encoding/json of Go (`encode.go: appendString`, HTML escaping on; `\\b` and `\\f` short since Go 1.22; Go 1.27 no longer escapes the
U+FFFD that stands for bytes that are no UTF-8), and the reference client eu-cdse/trace-cli, `traceability.go: CreateSignatureContents`.
It is not RFC 8785: members stand in the order of the generated structs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

#: What Go escapes beside what JSON asks for; U+007F it writes as it is, as Python does.
_ALSO_ESCAPED = re.compile("[<>&\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
#: Stands for a byte that is no UTF-8 until all else is escaped; no decoder makes it.
_BROKEN = "\udfff"


def go_text(text: str | bytes) -> str:
    """A JSON string with its quotes, as Go writes it.

    Bytes are a Go string: each byte that is not part of valid UTF-8 becomes the six characters `\\ufffd`. A lone surrogate of a `str` came
    from a JSON escape, of which Go's decoder has made the character U+FFFD.
    """
    if isinstance(text, bytes):
        plain = _SURROGATE.sub(_BROKEN, text.decode("utf-8", "surrogateescape"))
    else:
        plain = _SURROGATE.sub(_REPLACEMENT, text)
    quoted = json.dumps(plain, ensure_ascii=False)
    quoted = _ALSO_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    return quoted.replace(_BROKEN, "\\ufffd")


def message_of(product: Mapping[str, Any], event: str) -> str:
    """The signed text of a trace: compact, `event` last; a list that is None is left out, an empty one ("explicitly none") is not."""
    members = []
    if product.get("contents") is not None:
        members.append(("contents", _listed(product["contents"], ("hash", "path"))))
    members.append(("hash", go_text(product["hash"])))
    if product.get("inputs") is not None:
        members.append(("inputs", _listed(product["inputs"], ("hash", "name"))))
    members += [("name", go_text(product["name"])), ("size", str(int(product["size"]))), ("event", go_text(event))]
    return "{" + ",".join(f'"{name}":{text}' for name, text in members) + "}"


def _listed(entries: Any, names: tuple[str, ...]) -> str:
    return (
        "["
        + ",".join("{" + ",".join(f'"{name}":{go_text(one[name])}' for name in names) + "}" for one in entries)
        + "]"
    )


def agreement(message: str, product: Mapping[str, Any], event: str) -> str:
    """How far a signed message says what the trace says, as trace-cli compares them.

    Returns:
        "exact": the same bytes; "equal": the same JSON; "partial": hash and event are the same, and of name, size, contents and inputs
        those that the message has; "differs"; "unreadable": no JSON object.
    """
    ours = message_of(product, event)
    if message == ours:
        return "exact"
    try:
        said, meant = json.loads(message), json.loads(ours)
    except (ValueError, RecursionError):
        return "unreadable"
    if not isinstance(said, dict):
        return "unreadable"
    if said == meant:
        return "equal"
    needed = all(said.get(name) == meant[name] for name in ("hash", "event"))
    optional = all(
        said[name] == meant[name] for name in ("name", "size", "contents", "inputs") if name in said and name in meant
    )
    return "partial" if needed and optional else "differs"
