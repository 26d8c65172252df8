# One image for API, worker and migration; the command says which. Not run where it was written: see docs/operations.md.
FROM python:3.13-slim

RUN pip install --no-cache-dir uv && useradd --create-home --uid 10001 federator && install -d -o federator /app /data
WORKDIR /app
USER federator

COPY --chown=federator pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-cache --compile-bytecode
COPY --chown=federator api ./api
COPY --chown=federator db ./db
COPY --chown=federator ingest ./ingest
COPY --chown=federator lineage ./lineage

ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FEDERATOR_DATA_DIR=/data \
    FEDERATOR_HOST=0.0.0.0 \
    FEDERATOR_PORT=8080
VOLUME /data
EXPOSE 8080
CMD ["python", "-m", "api", "serve"]
