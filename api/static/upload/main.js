// The page: choosing files, reading the form, the key.

import { key, root } from './server.js'
import { Transfer, remember } from './transfer.js'
import { utc, words } from './words.js'

const form = document.getElementById('details')
const files = document.getElementById('files')
const drop = document.getElementById('drop')
const access = document.getElementById('access')
const keyField = document.getElementById('key')
const said = document.getElementById('said')
const maxBytes = Number(document.body.dataset.maxBytes)
const transfers = []

/** Say what has to be done before anything is sent; '' takes it back. */
function say(text, field) {
  said.textContent = text
  said.hidden = !text
  for (const element of [keyField, ...form.elements]) element.removeAttribute('aria-invalid')
  if (field) {
    const closed = field.closest('details:not([open])')
    if (closed) closed.open = true
    field.setAttribute('aria-invalid', 'true')
    field.focus()
  }
}

function askForKey(problem) {
  access.open = true
  say(words(problem), keyField)
}

/** What the form says, under its fields' names. Moments are UTC; lists go as JSON. */
function metadata() {
  const found = {}
  for (const field of form.elements) {
    const value = field.value?.trim()
    if (!field.name || !value || (field.type === 'checkbox' && !field.checked)) continue
    if (field.type === 'datetime-local') found[field.name] = utc(value)
    else if ('list' in field.dataset) found[field.name] = JSON.stringify(value.split(',').map((part) => part.trim()).filter(Boolean))
    else found[field.name] = value
  }
  return found
}

function add(chosen) {
  say('')
  for (const file of chosen) {
    if (transfers.some((transfer) => transfer.isOf(file))) {
      say(`${file.name} is in the list already.`)
      continue
    }
    const transfer = new Transfer(file, askForKey)
    if (file.size > maxBytes) transfer.row.refuse('refused', { code: 'TOO_LARGE', limit: maxBytes, actual: file.size })
    else if (!file.size) transfer.row.refuse('refused', { code: 'EMPTY_FILE' })
    else {
      transfers.push(transfer)
      transfer.resume()
    }
  }
}

files.addEventListener('change', () => {
  add([...files.files])
  files.value = '' // the same file can be chosen again
})
for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  window.addEventListener(kind, (event) => {
    event.preventDefault() // a file that is dropped beside the field is not opened instead
    drop.classList.toggle('over', kind === 'dragenter' || kind === 'dragover')
    if (kind === 'drop') add([...event.dataTransfer.files])
  })
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const waiting = transfers.filter((transfer) => transfer.isWaiting)
  if (!waiting.length) return say('Choose one or several files first.', files)
  const told = metadata()
  const { item, asset, replaces } = form.elements
  if (told.item && told.replaces) return say('A file is added to an item, or it is a new version of one; not both.', replaces)
  if (told.item && !told.asset) return say('Say under which name the item gets this file.', asset)
  if ((told.item || told.replaces) && waiting.length > 1) return say('One file at a time goes into an item that is there.', told.item ? item : replaces)
  say('')
  for (const transfer of waiting) {
    const title = told.title && waiting.length > 1 ? `${told.title} (${transfer.name})` : told.title
    transfer.begin(title ? { ...told, title } : told)
  }
})

keyField.value = key.get()
keyField.addEventListener('input', () => {
  key.set(keyField.value.trim())
  say('')
})

if (location.origin === new URL(root).origin) {
  remember()
} else {
  // Requests would come from a page of another origin, which may not write (api/access.py).
  document.getElementById('elsewhere').hidden = false
  for (const field of form.elements) field.disabled = true
}
