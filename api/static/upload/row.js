// One upload as people see it: name, progress, steps, words, buttons, links. Texts are only ever set as texts.

import { STATES, size, utc, words } from './words.js'

const STEPS = ['sending', 'received', 'scanning', 'converting', 'registering', 'ready']
const LABELS = { sending: 'Sending', received: 'Received', scanning: 'Checking', converting: 'Converting', registering: 'Registering', ready: 'Ready' }
const list = document.getElementById('uploads')
const news = document.getElementById('news')

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

export class Row {
  #name
  #steps = {}
  #buttons = {}
  #links = {}
  #question
  #state = ''

  /** `bytes` of the file, where they are known. */
  constructor(name, bytes) {
    this.#name = name
    this.title = make('h3', { textContent: name })
    this.bytes = make('span', { className: 'quiet', textContent: bytes ? ` ${size(bytes)}` : '' })
    this.title.append(this.bytes)
    this.bar = make('progress', { max: 1, value: 0, ariaLabel: `Bytes of ${name} that were sent` })
    const steps = STEPS.map((step) => (this.#steps[step] = make('li', { textContent: LABELS[step] })))
    this.steps = make('ol', { className: 'steps', hidden: true }, ...steps)
    this.status = make('p', { className: 'quiet' })
    this.actions = make('div', { className: 'actions' })
    this.element = make('li', {}, this.title, this.bar, this.steps, this.status, this.actions)
    list.append(this.element)
    document.getElementById('none').hidden = true
  }

  get state() {
    return this.#state
  }

  /** Say where it is; `text` replaces what is usually said. People who listen hear of every new state. */
  show(state, text = STATES[state] ?? '') {
    this.status.className = 'quiet'
    this.status.textContent = text
    if (state !== this.#state) news.textContent = `${this.#name}: ${text}`
    this.#mark(state)
  }

  /** Say what is wrong, in plain words. */
  refuse(state, problem) {
    const text = words(problem)
    this.status.className = 'problem'
    this.status.textContent = text
    news.textContent = `${this.#name}: ${text}`
    this.#mark(state)
    this.element.dataset.code = problem.code ?? ''
  }

  #mark(state) {
    this.#state = this.element.dataset.state = state
    delete this.element.dataset.code
    const at = STEPS.indexOf(state)
    this.steps.hidden = at < 0
    STEPS.forEach((step, number) => {
      const element = this.#steps[step]
      element.classList.toggle('past', number < at || (number === at && state === 'ready'))
      if (number === at && state !== 'ready') element.setAttribute('aria-current', 'step')
      else element.removeAttribute('aria-current')
    })
    this.bar.hidden = at > 0
  }

  progress(sent, total) {
    const done = total ? sent / total : 0
    this.bar.value = done
    this.bytes.textContent = ` ${size(sent)} of ${size(total)} (${Math.floor(done * 100)} %)`
  }

  /** The buttons that make sense now: {words: what to do}. One that had the focus keeps it where it stays. */
  offer(actions) {
    for (const [label, button] of Object.entries(this.#buttons)) {
      if (!(label in actions)) {
        button.remove()
        delete this.#buttons[label]
      }
    }
    Object.entries(actions).forEach(([label, act], place) => {
      const button = (this.#buttons[label] ??= make('button', { type: 'button', textContent: label, ariaLabel: `${label}: ${this.#name}` }))
      button.onclick = act
      const there = this.actions.children[place] ?? null
      if (there !== button) this.actions.insertBefore(button, there)
    })
  }

  /** Links by their words. */
  links(links) {
    for (const [label, href] of Object.entries(links)) {
      const link = (this.#links[label] ??= make('a', { textContent: label, ariaLabel: `${label}: ${this.#name}` }))
      link.href = href
      if (!link.isConnected) this.actions.append(link)
    }
  }

  /** Ask when the data are from; `answer` gets the moment. Without it the question goes. */
  ask(answer) {
    this.#question?.remove()
    this.#question = undefined
    if (!answer) return
    const field = make('input', { type: 'datetime-local', step: '1', required: true })
    const label = make('label', { textContent: 'When the data are from (UTC)' }, field)
    this.#question = make('form', { className: 'question', noValidate: true }, label, make('button', { type: 'submit', textContent: 'Answer', ariaLabel: `Answer: ${this.#name}` }))
    this.#question.addEventListener('submit', (event) => {
      event.preventDefault()
      if (field.value) answer(utc(field.value))
      else field.focus()
    })
    this.actions.before(this.#question)
  }

  remove() {
    this.element.remove()
    document.getElementById('none').hidden = list.children.length > 0
  }
}
