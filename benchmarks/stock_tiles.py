"""titiler as it comes, for files that it is given by path. `uvicorn benchmarks.stock_tiles:app`."""

from __future__ import annotations

from fastapi import FastAPI
from titiler.core.factory import TilerFactory

app = FastAPI()
app.include_router(TilerFactory().router)


@app.get("/_mgmt/ping")
def ping() -> dict[str, str]:
    """It answers."""
    return {"message": "PONG"}
