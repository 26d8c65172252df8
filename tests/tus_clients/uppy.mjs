// Sends a file with Uppy and @uppy/tus as they are: node uppy.mjs FILE ENDPOINT CHUNK_BYTES. Prints the upload's URL.
import { createReadStream, statSync } from 'node:fs'
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

const [path, endpoint, chunkBytes] = process.argv.slice(2)
const meta = { title: 'Uppy', datetime: '2026-05-01T12:00:00Z' }
const uppy = new Uppy({ meta }).use(Tus, {
  endpoint,
  chunkSize: Number(chunkBytes),
  retryDelays: Array(200).fill(500),
  allowedMetaFields: ['name', 'title', 'datetime'],
})
const data = Object.assign(createReadStream(path), { size: statSync(path).size }) // in Node, tus-js-client reads streams
uppy.addFile({ name: 'sent by Uppy.tif', type: 'image/tiff', data })
const done = await uppy.upload()
if (done.failed.length) {
  console.error(String(done.failed[0].error))
  process.exit(1)
}
console.log(done.successful[0].uploadURL)
process.exit(0)
