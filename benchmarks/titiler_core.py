"""Stock titiler-core as its documentation begins with: `python benchmarks/titiler_core.py PORT`, in an environment of its own."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from titiler.core.factory import TilerFactory

app = FastAPI()
app.include_router(TilerFactory().router)


@app.get("/ping")
def ping() -> dict[str, str]:
    """Whether it answers."""
    return {}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
