import { untilAborted } from '../base/abort.js'

/** One reader's look at a place. */
export interface Visit {
  /** null: at the server that was asked. undefined: not known; this reader finds out. */
  readonly place: URL | null | undefined
  /** What this reader found; undefined: it failed. The first call counts. */
  readonly settle: (place: URL | null | undefined) => void
}

/**
 * Where the bytes of one blob are served: by the server that was asked, or at a URL that it redirects to (a
 * signed one, of a blob store, valid for minutes). Remembered until it fails, so that a read costs one request
 * and not two.
 *
 * Only one reader at a time finds the place out; the others wait for the head of its answer. Otherwise every
 * expiry of a signed URL would send all readers back to the registry at once.
 */
export class BlobPlace {
  #known: URL | null | undefined
  #scouting: Promise<void> | undefined

  /** Rejects with the signal's reason. A reader that gets no place must settle in the end. */
  async find(signal: AbortSignal): Promise<Visit> {
    while (this.#known === undefined && this.#scouting !== undefined)
      await untilAborted(this.#scouting, signal)
    if (this.#known !== undefined)
      return { place: this.#known, settle: place => void (this.#known = place ?? this.#known) }
    let report: () => void = () => {}
    const scouting = new Promise<void>(resolve => (report = resolve))
    this.#scouting = scouting
    return {
      place: undefined,
      settle: place => {
        if (this.#scouting !== scouting) return
        this.#scouting = undefined
        this.#known = place
        report()
      },
    }
  }

  /** `place` was refused: whoever asks next finds out anew. */
  forget(place: URL): void {
    if (this.#known === place) this.#known = undefined
  }

  /** What is remembered is not to be trusted. */
  reset(): void {
    this.#known = undefined
  }
}
