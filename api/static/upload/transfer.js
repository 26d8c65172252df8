// One file on its way: tus-js-client sends, the row shows; then the state is looked at until it is ready or refused.

import { arrived, endpoint, headers, isOurs, problemOf, put, read } from './server.js'
import { Row } from './row.js'

const { Upload, defaultOptions } = window.tus
const DELAYS = [0, 1000, 2000, 5000, 10000, 20000, 30000]
const CHUNK_BYTES = 32 * 2 ** 20 // proxies often bound a request's body
const FOLLOWED = 'federator.followed'
const OPEN = ['created', 'uploading']
const ENDS = ['ready', 'detached', 'rejected', 'failed', 'deleted']
const QUESTION = 'DATETIME_REQUIRED' // the file is kept until its owner answers
const GONE = [404, 410]
const DENIED = [401, 403]
const unfinished = new Map()

/** Uploads whose bytes have arrived, and that a reload shall find again: {url: name}. */
function followed(change) {
  const known = JSON.parse(localStorage.getItem(FOLLOWED) ?? '{}')
  if (change) {
    change(known)
    localStorage.setItem(FOLLOWED, JSON.stringify(known))
  }
  return known
}

/** What of an error of tus-js-client is the service's answer. */
function problemIn(error) {
  const answer = error.originalResponse
  return answer ? problemOf(answer.getStatus(), answer.getBody()) : { status: 0 }
}

export class Transfer {
  #upload
  #file
  #onDenied

  /** `onDenied` is called when the service wants a key, or another one. */
  constructor(file, onDenied) {
    this.#file = file
    this.#onDenied = onDenied
    this.row = new Row(file.name, file.size)
    this.#upload = new Upload(file, {
      endpoint,
      chunkSize: CHUNK_BYTES,
      retryDelays: DELAYS,
      removeFingerprintOnSuccess: true,
      onBeforeRequest: (request) => {
        for (const [name, value] of Object.entries(headers())) request.setHeader(name, value)
      },
      onProgress: (sent, total) => this.#progress(sent, total),
      onShouldRetry: (error) => this.#shouldRetry(error),
      onError: (error) => this.#stopped(problemIn(error)),
      onSuccess: () => this.#sent(),
    })
    this.row.show('looking', 'Is some of it there already?')
  }

  #wait() {
    this.row.show('waiting', 'Chosen; fill in the fields and press Upload.')
    this.row.offer({ Remove: () => this.row.remove() })
  }

  get name() {
    return this.#file.name
  }

  /** Is this the same file, and still in the list? */
  isOf({ name, size, lastModified }) {
    const same = this.#file.name === name && this.#file.size === size && this.#file.lastModified === lastModified
    return same && this.row.element.isConnected && !ENDS.includes(this.row.state)
  }

  get isWaiting() {
    return this.row.state === 'waiting' && this.row.element.isConnected
  }

  /** Go on with an upload of this very file that was begun before; where there is none, wait for `begin`. */
  async resume() {
    const before = (await this.#upload.findPreviousUploads()).filter((one) => isOurs(one.uploadUrl)).pop()
    if (!before) return this.#wait()
    const forget = () => defaultOptions.urlStorage.removeUpload(before.urlStorageKey)
    let found
    try {
      found = await read(before.uploadUrl)
    } catch (problem) {
      if (!GONE.includes(problem.status)) return this.#interrupted(problem, () => this.resume())
      await forget()
      return this.#wait()
    }
    unfinished.get(before.uploadUrl)?.remove()
    unfinished.delete(before.uploadUrl)
    if (OPEN.includes(found.state)) {
      this.#upload.options.metadata = before.metadata ?? {}
      this.#upload.resumeFromPreviousUpload(before)
      this.row.progress(found.offset, this.#file.size)
      return this.#start('An earlier upload of this file goes on, with what was said of it then.')
    }
    await forget()
    return ENDS.includes(found.state) ? this.#wait() : follow(before.uploadUrl, this.row)
  }

  /** Begin; `metadata` is what the form says. */
  begin(metadata) {
    this.#upload.options.metadata = { filename: this.#file.name, ...metadata }
    this.#start()
  }

  #start(text = 'Being sent.') {
    window.removeEventListener('online', this.#goOn)
    this.row.show('sending', text)
    this.row.offer({ Pause: () => this.#pause(), Cancel: () => this.#cancel() })
    this.#upload.start()
  }

  #goOn = () => this.#start('Going on.')

  async #pause() {
    this.#upload.abort()
    this.row.offer({})
    // What the browser has sent is not yet there: much of it may be on the way still.
    const offset = this.#upload.url ? await arrived(this.#upload.url) : undefined
    if (offset !== undefined) this.row.progress(offset, this.#file.size)
    this.row.show('paused', 'Paused. Even when this page is closed, choosing the same file goes on from here.')
    this.row.offer({ Resume: this.#goOn, Cancel: () => this.#cancel() })
  }

  async #cancel() {
    window.removeEventListener('online', this.#goOn)
    try {
      await this.#upload.abort(true)
    } catch {
      // it expires by itself
    }
    this.row.remove()
  }

  #progress(sent, total) {
    this.row.progress(sent, total)
    if (this.row.state === 'retrying') this.row.show('sending', 'Being sent.')
  }

  #shouldRetry(error) {
    const { status } = problemIn(error)
    const isPassing = status === 0 || status >= 500 || [408, 409, 423, 429].includes(status)
    if (isPassing && navigator.onLine) this.row.show('retrying', 'The connection broke; trying again.')
    return isPassing && navigator.onLine
  }

  #stopped(problem) {
    if (!this.#upload.url && problem.status >= 400 && problem.status < 500) return this.#refused(problem)
    if (problem.status === 0) window.addEventListener('online', this.#goOn, { once: true })
    return this.#interrupted(problem, this.#goOn)
  }

  /** Nothing has been made: the form or the key can be corrected, and Upload pressed again. */
  #refused(problem) {
    this.row.refuse('waiting', problem)
    this.row.offer({ Remove: () => this.row.remove() })
    if (DENIED.includes(problem.status)) this.#onDenied(problem)
  }

  #interrupted(problem, goOn) {
    this.row.refuse('interrupted', problem)
    this.row.offer({ Resume: goOn, Cancel: () => this.#cancel() })
    if (DENIED.includes(problem.status)) this.#onDenied(problem)
  }

  #sent() {
    this.row.progress(this.#file.size, this.#file.size)
    follow(this.#upload.url, this.row)
  }
}

/** Where to see it: the map and the item. */
function links(found) {
  const words = { map: 'See it on the map', item: 'Its item' }
  return Object.fromEntries(found.links.filter(({ rel }) => rel in words).map(({ rel, href }) => [words[rel], href]))
}

/** Look at an upload until it is ready or refused. */
async function follow(url, row) {
  row.offer({})
  row.show('received')
  followed((known) => (known[url] = row.title.firstChild.textContent))
  for (let pause = 500; ; pause = Math.min(pause * 1.2, 5000)) {
    try {
      const found = await read(url)
      if (found.error) row.refuse(found.state, found.error)
      else row.show(found.state)
      row.links(links(found))
      if (found.error?.code === QUESTION) {
        if (await answered(url, row)) continue
        break
      }
      if (ENDS.includes(found.state)) break
    } catch (problem) {
      if (GONE.includes(problem.status)) {
        row.refuse('deleted', problem)
        break
      }
      const isDenied = DENIED.includes(problem.status)
      row.show(row.state, isDenied ? 'Enter your key above to see how it goes on.' : 'The service does not answer; trying again.')
    }
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
  followed((known) => delete known[url])
}

/** Wait until the owner has said when the data are from; false: he has taken the upload back. */
function answered(url, row) {
  return new Promise((resolve) => {
    const end = (goesOn) => {
      row.ask()
      row.offer({})
      resolve(goesOn)
    }
    const cancel = async () => {
      await Upload.terminate(url, { headers: headers(), retryDelays: [] }).catch(() => {})
      row.remove()
      end(false)
    }
    row.offer({ Cancel: cancel })
    row.ask(async (datetime) => {
      try {
        await put(`${url}/datetime`, { datetime })
      } catch (problem) {
        return row.refuse('rejected', problem)
      }
      row.show('received')
      return end(true)
    })
  })
}

/** After a reload: uploads that wait for the rest of their bytes, and those that the service works on. */
export async function remember() {
  for (const [url, name] of Object.entries(followed())) {
    if (isOurs(url)) follow(url, new Row(name))
  }
  for (const one of await defaultOptions.urlStorage.findAllUploads()) {
    if (isOurs(one.uploadUrl)) await showUnfinished(one)
  }
}

async function showUnfinished(one) {
  const forget = () => defaultOptions.urlStorage.removeUpload(one.urlStorageKey)
  let found
  try {
    found = await read(one.uploadUrl)
  } catch (problem) {
    if (GONE.includes(problem.status)) return forget()
  }
  if (found && !OPEN.includes(found.state)) return forget()
  const row = new Row(one.metadata?.filename ?? 'a file', one.size)
  if (found) row.progress(found.offset, one.size)
  row.show('unfinished', 'Not all of it has arrived. Choose the same file again, and it goes on from where it stopped.')
  const cancel = async () => {
    await Upload.terminate(one.uploadUrl, { headers: headers(), retryDelays: [] }).catch(() => {})
    await forget()
    row.remove()
  }
  row.offer({ Cancel: cancel })
  unfinished.set(one.uploadUrl, row)
}
