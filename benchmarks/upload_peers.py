"""Peers of uploads, each as its users start it: `python benchmarks/upload_peers.py tuspyserver|form FOLDER PORT`.

`tuspyserver` runs in an environment of its own, `form` is FastAPI's UploadFile as it is documented.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI, UploadFile


def tuspyserver(folder: Path) -> Any:
    """A FastAPI application with tuspyserver's router at /files."""
    from tuspyserver import create_tus_router

    app = FastAPI()
    app.include_router(create_tus_router(prefix="/files", files_dir=str(folder), max_size=2**40))
    return app


def form(folder: Path) -> Any:
    """A FastAPI application that takes a multipart form."""
    app = FastAPI()

    def store(file: UploadFile) -> dict[str, str]:
        with (folder / "form").open("wb") as target:
            shutil.copyfileobj(file.file, target, 2**20)
        return {}

    app.post("/form")(store)
    return app


if __name__ == "__main__":
    import uvicorn

    kind, where, port = sys.argv[1:]
    Path(where).mkdir(parents=True, exist_ok=True)
    made = {"tuspyserver": tuspyserver, "form": form}[kind](Path(where))
    uvicorn.run(made, host="127.0.0.1", port=int(port), log_level="warning")
