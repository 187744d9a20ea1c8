/** Long walks over an image share their thread with guests' cold reads: they go on for a moment, then let others run. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** At most so long at a stretch. */
const STRETCH_MS = 2

export class Stretch {
  #since = performance.now()

  /** It has lasted long enough: `rest` is due. Asked for at every step, where a promise would cost too much. */
  get over(): boolean {
    return performance.now() - this.#since >= STRETCH_MS
  }

  /** Lets others run; the next stretch begins. */
  async rest(): Promise<void> {
    await nextTurn()
    this.#since = performance.now()
  }
}
