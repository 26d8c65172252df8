// Sends a file with tus-js-client as it is: node upload.mjs FILE ENDPOINT CHUNK_BYTES. Prints the upload's URL.
import { createReadStream, statSync } from 'node:fs'
import { Upload } from 'tus-js-client'

const [path, endpoint, chunkBytes] = process.argv.slice(2)
const upload = new Upload(createReadStream(path), {
  endpoint,
  chunkSize: Number(chunkBytes),
  uploadSize: statSync(path).size,
  retryDelays: Array(200).fill(500),
  metadata: { filename: 'sent by tus-js-client.tif', title: 'tus-js-client', datetime: '2026-05-01T12:00:00Z' },
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
  onSuccess: () => {
    console.log(upload.url)
    process.exit(0)
  },
})
upload.start()
