"""Users' texts as they are kept: NFC, without control, direction and half characters, bounded."""

from __future__ import annotations

import unicodedata


def clean_text(text: str, most: int | None, *, lines: bool = False) -> str:
    """The text as it is stored and shown, at most `most` characters (None: all that are left); with `lines`, line breaks and tabs stay."""
    allowed = "\n\t" if lines else ""
    kept = "".join(
        sign
        for sign in text
        if sign in allowed or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    )
    return unicodedata.normalize("NFC", kept).strip()[:most].strip()
