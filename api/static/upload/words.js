// What the service says by codes, in words for people.

const number = new Intl.NumberFormat('en')

export function size(bytes) {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000
  return `${unit && bytes < 100 ? bytes.toFixed(1) : number.format(Math.round(bytes))} ${units[unit]}`
}

/** What a field of the type datetime-local holds, as a moment in UTC. */
export function utc(value) {
  return `${value.length === 16 ? `${value}:00` : value}Z`
}

export const STATES = {
  received: 'All bytes have arrived; waiting for a worker.',
  scanning: 'The file is being checked.',
  converting: 'Map tiles are being made of it.',
  registering: 'It is being put into the catalogue.',
  ready: 'Ready: it is on the map.',
  rejected: 'The file was refused.',
  failed: 'The conversion failed.',
  detached: 'Its item was deleted by somebody who edits this collection; the file itself is still there.',
  deleting: 'It is being deleted.',
  deleted: 'It was deleted.',
}

/** Problem codes. What a file was refused for is told at length in docs/rasters.md. */
export const CODES = {
  // who may
  TOKEN_REQUIRED: 'Uploads need a key here. Enter yours above, then go on.',
  TOKEN_INVALID: 'This key is not known here. Look at it again, then go on.',
  TOKEN_EXPIRED: 'This key has expired. Enter another above, then go on.',
  TOKEN_REVOKED: 'This key was revoked. Enter another above, then go on.',
  WRITES_ARE_LOCAL: 'Uploads from other machines need a key, and the operator has set none.',
  INSUFFICIENT_SCOPE: 'Your key does not allow uploads.',
  QUOTA_EXCEEDED: 'You have reached your quota. Finish or delete other uploads first.',
  // what was said of it
  COLLECTION_UNKNOWN: 'There is no such collection.',
  COLLECTION_NOT_WRITABLE: 'This collection takes no uploads.',
  NOT_ALLOWED: 'You may see this collection, but not send files into it. Its owner can let you, or choose another one.',
  DATETIME_REQUIRED: 'Say when the data are from.',
  DATETIME_INVALID: 'This date and time is not valid.',
  TITLE_INVALID: 'This title cannot be used.',
  INVALID_FIELD: 'One of the fields is not valid.',
  INVALID_METADATA: 'What was said of the file could not be read.',
  // the way of its bytes
  TOO_LARGE: 'The file is too large.',
  LENGTH_MISMATCH: 'The number of bytes is not the one that was announced.',
  CHECKSUM_MISMATCH: 'The bytes were damaged on their way. Send the file again.',
  INCOMPLETE_BODY: 'The connection broke. Go on where it stopped.',
  INTERRUPTED: 'Another request took over. Go on where it stopped.',
  LOCKED: 'This file is being sent by another page or program.',
  OFFSET_CONFLICT: 'The file was sent by another page or program, too. Go on from where it is.',
  SENDER_SILENT: 'No bytes came for too long. Go on where it stopped.',
  ALREADY_RECEIVED: 'The file has arrived already.',
  STATE_CONFLICT: 'The upload is in another state by now.',
  EXPIRED: 'The upload was left alone for too long and has been removed. Send the file again.',
  DELETED: 'The upload was taken back.',
  NOT_FOUND: 'The upload is not there any more. Send the file again.',
  STORAGE_FULL: "The server's disk is full. Tell the operator, and try again later.",
  STORAGE_FAILED: 'The server could not store the bytes. Try again later.',
  STORE_UNAVAILABLE: "The server's object store does not answer. Try again later.",
  DATABASE_UNAVAILABLE: "The server's database does not answer. Try again in a moment.",
  // what is wrong with the file
  EMPTY_FILE: 'The file is empty.',
  NOT_A_TIFF: 'This is not a TIFF. Make one: gdal_translate -of COG in out.tif',
  CORRUPT: 'The file is damaged or cut off. Copy it again from where it came from.',
  TOO_COMPLEX: 'The file has too many parts or tags, or takes too much memory to read.',
  METADATA_TOO_LARGE: 'There is too much metadata. For those in the file: gdal_translate -nomd in.tif out.tif',
  EXTERNAL_REFERENCE: 'The file names other files or addresses. Remove them: gdal_translate -nomd in.tif out.tif',
  TOO_LARGE_DECODED: 'The picture is too large, or unpacks to far more than the file.',
  TOO_MANY_BANDS: 'There are too many bands. Send them as several files.',
  UNSUPPORTED_DTYPE: 'This type of pixels is not supported. For real numbers: gdal_translate -ot Float32 in.tif out.tif',
  UNSUPPORTED_COMPRESSION: 'This compression is not supported: gdal_translate -co COMPRESS=DEFLATE in.tif out.tif',
  TIMED_OUT: 'Checking and converting took too long. Try again, or send it in smaller pieces.',
  NOT_GEOREFERENCED: 'The file does not say where on Earth it lies.',
  NO_CRS: 'The file names no coordinate reference system.',
  CRS_INVALID: 'The coordinate reference system cannot be used.',
  CRS_NOT_EARTH: 'The coordinate reference system is of another body than the Earth.',
  OUT_OF_BOUNDS: 'The place of the raster is not on Earth.',
  ITEM_INVALID: 'No valid item of the catalogue can be made of the file.',
  ITEM_UNKNOWN: 'You have no such item here.',
  ASSET_EXISTS: 'The item has a file under that name already. Choose another name, or replace it.',
  SUPERSEDED: 'This is an older version of the item. Name the newest one.',
  ITEM_DELETED: 'Its item was deleted by somebody who edits this collection.',
  ITEM_GONE: 'The item that was to be replaced is gone. Send the file as an item of its own.',
  ITEM_EXISTS: 'There is another item in the place where the version before would be kept.',
  ORIGINAL_UNAVAILABLE: 'The object store did not give the file back. Send it again, or tell the operator.',
  CONVERSION_FAILED: 'The conversion failed several times. Send the file again, or tell the operator.',
}

const STATUSES = {
  0: 'The service does not answer. Is the network there?',
  401: 'Uploads need a key here. Enter yours above, then go on.',
  403: 'You may not do this with the key that was given.',
  404: 'It is not there any more.',
  413: 'The file is too large.',
  429: 'Too many requests. Wait a moment.',
  502: 'The service is being restarted. Try again in a moment.',
  503: 'The service is busy. Try again in a moment.',
  504: 'The service took too long. Try again in a moment.',
}

const CAPITAL = /^./

/** A problem in plain words: ours for its code, then what the service says of this case, then the numbers. */
export function words(problem) {
  const known = CODES[problem.code] ?? STATUSES[problem.status] ?? 'Something went wrong.'
  const detail = typeof problem.detail === 'string' && problem.detail ? problem.detail : ''
  const numbers = ['limit', 'actual']
    .filter((name) => typeof problem[name] === 'number')
    .map((name) => `${name}: ${number.format(problem[name])}`)
  const more = [detail.replace(CAPITAL, (letter) => letter.toUpperCase()), numbers.join(', ')].filter(Boolean).join('; ')
  return more ? `${known} (${more})` : known
}
