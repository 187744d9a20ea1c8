/**
 * What the device has to say, in the log. A guest or front-end can provoke some of it at will, so each kind has a
 * rate; events that come before there is a log are kept.
 */
import type { Log } from '../base/log.js'
import { LogLimit } from '../base/log-limit.js'
import type { DeviceEvent } from '../native.js'

/** Lines of one kind in ten seconds. */
const LINES = 20
const INTERVAL_MS = 10_000
/** Until the log is open a front-end has hardly had time to connect. */
const MAX_KEPT = 1000

export class DeviceEvents {
  #log: Log | undefined
  #kept: DeviceEvent[] = []
  readonly #limits = new Map<string, LogLimit>()

  readonly add = (event: DeviceEvent): void => {
    if (this.#log) this.#write(this.#log, event)
    else if (this.#kept.length < MAX_KEPT) this.#kept.push(event)
  }

  logTo(log: Log): void {
    this.#log = log
    for (const event of this.#kept) this.#write(log, event)
    this.#kept = []
  }

  #write(log: Log, { level, kind, message, queue }: DeviceEvent): void {
    let limit = this.#limits.get(kind)
    if (limit === undefined) this.#limits.set(kind, (limit = new LogLimit(LINES, INTERVAL_MS)))
    const held = limit.pass()
    if (held < 0) return
    const fields = { kind, ...(queue !== undefined && { queue }), ...(held > 0 && { held }) }
    log[level](fields, `device: ${message}`)
  }
}
