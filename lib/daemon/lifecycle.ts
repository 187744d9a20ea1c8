/**
 * The daemon's states and what may happen in each (design: nydusd.md 4). No action here: the daemon does what a
 * transition asks for, then takes it.
 */
import { NydusError } from '../base/errors.js'

export type State = 'INIT' | 'READY' | 'RUNNING' | 'STOPPED'
export type LifecycleEvent = 'Mount' | 'Takeover' | 'Start' | 'Stop' | 'Exit'

const TRANSITIONS: { readonly [S in State]: { readonly [E in LifecycleEvent]?: State } } = {
  INIT: { Mount: 'READY', Takeover: 'READY', Stop: 'STOPPED' },
  READY: { Start: 'RUNNING', Stop: 'STOPPED', Exit: 'STOPPED' },
  RUNNING: { Stop: 'READY' },
  STOPPED: {},
}

export class Lifecycle {
  #state: State = 'INIT'
  readonly #onChange: (from: State, to: State, event: LifecycleEvent) => void

  constructor(onChange: (from: State, to: State, event: LifecycleEvent) => void) {
    this.#onChange = onChange
  }

  get state(): State {
    return this.#state
  }

  /** Throws NydusError STATE_UNEXPECTED when `event` has no place in this state. */
  check(event: LifecycleEvent): State {
    const next = TRANSITIONS[this.#state][event]
    if (next === undefined)
      throw new NydusError('STATE_UNEXPECTED', 'EINVAL', `${event} is not possible while ${this.#state}`)
    return next
  }

  take(event: LifecycleEvent): void {
    const from = this.#state
    this.#state = this.check(event)
    this.#onChange(from, this.#state, event)
  }
}
