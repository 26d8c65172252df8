// The service as this page sees it: where it is, the caller's key, problems (RFC 9457).

export const root = document.body.dataset.root
export const endpoint = `${root}/uploads`
const KEY = 'federator.key'

/** The key stays in this tab and goes to this service alone. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
}

export function headers() {
  return key.get() ? { Authorization: `Bearer ${key.get()}` } : {}
}

/** Is this the address of an upload of this service? Addresses are kept in the browser; nothing else is ever asked with the key. */
export function isOurs(url) {
  return typeof url === 'string' && url.startsWith(`${endpoint}/`)
}

/** A problem as our code passes it on: status 0 is no answer at all. */
export function problemOf(status, text) {
  let body = {}
  try {
    body = JSON.parse(text)
  } catch {
    // a proxy's page, or nothing
  }
  return { ...(body && typeof body === 'object' ? body : {}), status }
}

/** JSON of a GET. Throws a problem. */
export async function read(url) {
  let answer
  try {
    answer = await fetch(url, { headers: headers(), cache: 'no-store', credentials: 'omit' })
  } catch {
    throw { status: 0 }
  }
  const text = await answer.text().catch(() => '')
  if (!answer.ok) throw problemOf(answer.status, text)
  return JSON.parse(text)
}

/** PUT of JSON. Throws a problem. */
export async function put(url, body) {
  const asked = { method: 'PUT', headers: { ...headers(), 'Content-Type': 'application/json' }, body: JSON.stringify(body) }
  const answer = await fetch(url, { ...asked, cache: 'no-store', credentials: 'omit' }).catch(() => {
    throw { status: 0 }
  })
  if (!answer.ok) throw problemOf(answer.status, await answer.text().catch(() => ''))
}

/** How many bytes of an upload are on the server's disk; undefined where it does not say. The request that sends them ends. */
export async function arrived(url) {
  try {
    const asked = { ...headers(), 'Tus-Resumable': '1.0.0' }
    const answer = await fetch(url, { method: 'HEAD', headers: asked, cache: 'no-store', credentials: 'omit' })
    if (answer.ok) return Number(answer.headers.get('Upload-Offset'))
  } catch {
    // no answer
  }
  return undefined
}
