"""Sends a file with tuspy as it is: `python -m tests.tus_clients.by_tuspy FILE ENDPOINT CHUNK_BYTES`. Prints the upload's URL.

Whenever tuspy gives up, it is begun again with the upload's URL, as its documentation says; it then asks for the offset.
"""

from __future__ import annotations

import sys
import time

import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

METADATA = {"filename": "sent by tuspy.tif", "title": "tuspy", "datetime": "2026-05-01T12:00:00Z"}


def send(path: str, endpoint: str, chunk_bytes: int) -> str:
    """Return the upload's URL.

    Raises:
        TimeoutError: it did not get through in half an hour.
    """
    client, url = TusClient(endpoint), None
    until = time.monotonic() + 1800
    while time.monotonic() < until:
        try:
            uploader = client.uploader(
                file_path=path, chunk_size=chunk_bytes, metadata=METADATA, url=url, retries=3, retry_delay=1
            )
            if url is None:
                url = uploader.create_url()
                uploader.set_url(url)
            uploader.upload()
            return str(url)
        except (TusCommunicationError, TusUploadFailed, requests.RequestException):
            time.sleep(0.5)
    raise TimeoutError("tuspy did not get through")


if __name__ == "__main__":
    print(send(sys.argv[1], sys.argv[2], int(sys.argv[3])))
