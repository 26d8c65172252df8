"""Presigned URLs of S3 (AWS Signature Version 4 in the query). Pure: clock and keys come in.

obstore presigns whole objects only; parts need `partNumber` and `uploadId` in the query and the length among the signed headers.
Source: AWS, Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlsplit


@dataclass(frozen=True, slots=True)
class Account:
    """Who signs, and for which region."""

    key_id: str
    secret: str
    region: str


def presign(
    account: Account,
    method: str,
    url: str,
    *,
    at: datetime,
    expires_s: int,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Return `url` with a signature in its query.

    Args:
        url: scheme, host and path, not encoded; no query.
        at: UTC.
        headers: what the request must carry besides Host, such as its Content-Length.
    """
    parts, stamp = urlsplit(url), at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{account.region}/s3/aws4_request"
    signed = {"host": parts.netloc, **{name.lower(): value.strip() for name, value in (headers or {}).items()}}
    names = ";".join(sorted(signed))
    asked = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{account.key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": names,
        **(query or {}),
    }
    path = quote(parts.path or "/", safe="/-_.~")
    text = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(asked.items()))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"{method}\n{path}\n{text}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(_key(account, stamp[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{parts.scheme}://{parts.netloc}{path}?{text}&X-Amz-Signature={signature}"


def _key(account: Account, day: str) -> bytes:
    key = f"AWS4{account.secret}".encode()
    for word in (day, account.region, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key
