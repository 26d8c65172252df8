"""What a user is asked after the file has been looked at: when its data are from, if neither form nor file has said so.

Until it is answered the upload is `rejected` with the code DATETIME_REQUIRED and its bytes are kept (for a month, see `uploads.to_free`).
"""

from __future__ import annotations

from uuid import UUID

from psycopg.types.json import Jsonb

from db.pools import Pool
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.model import JSON
from ingest.uploads import description
from ingest.uploads.model import IllegalArrow, State, Upload
from ingest.uploads.service import get, moment_of, move

CODE = "DATETIME_REQUIRED"


async def say_when(pool: Pool, upload_id: UUID, form: JSON) -> Upload:
    """Answer the question; the worker takes the upload up again.

    Args:
        form: `datetime`, or `start_datetime` and `end_datetime` with or without it.

    Raises:
        UploadRejected: DATETIME_REQUIRED, DATETIME_INVALID, INVALID_FIELD (422).
        UploadUnknown
        IllegalArrow: nobody asks, or the bytes are gone by now.
    """
    from ingest.worker import PROCESS_UPLOAD, defer_in  # the worker imports this package

    moment, told = moment_of(form.get("datetime")), description.range_of(form)
    if moment is None and not told:
        raise UploadRejected(CODE, "say when: datetime, or start_datetime and end_datetime", field="datetime")
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(sql("uploads.lock"), (upload_id,))
        upload = await get(conn, upload_id)
        if (upload.state, upload.error_code, upload.freed_at) != (State.REJECTED, CODE, None):
            raise IllegalArrow("nobody asks when the data are from")
        await conn.execute(sql("uploads.set_time"), (upload_id, moment, Jsonb(told)))
        received = await move(conn, upload_id, State.RECEIVED, actor=f"user:{upload.owner}")
        await defer_in(conn, PROCESS_UPLOAD, lock=f"upload/{upload_id}", upload_id=str(upload_id))
    return received
