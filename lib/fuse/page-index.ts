/**
 * Finds the page and record that a listing goes on with: (folder, cookie, plain or plus) to (page, record).
 *
 * A fixed table of buckets with four ways. An entry that is pushed out or points to a page that is gone only costs
 * another encoding, so nothing is ever deleted.
 */
const WAYS = 4
const BUCKETS = 8192

function mix(hash: number, value: number): number {
  const low = Math.imul(hash ^ (value >>> 0), 0x9e3779b1)
  const high = Math.imul(low ^ (low >>> 15) ^ ((value / 2 ** 32) >>> 0), 0x85ebca6b)
  return high ^ (high >>> 13)
}

export class PageIndex {
  /** Result of the last successful `find`. */
  page = 0
  record = 0

  readonly #nodeids = new Float64Array(WAYS * BUCKETS)
  readonly #cookies = new Float64Array(WAYS * BUCKETS)
  /** Page numbers, counted from 1; 0 is an empty way. */
  readonly #pages = new Float64Array(WAYS * BUCKETS)
  /** Record number × 2, plus 1 for READDIRPLUS. */
  readonly #records = new Uint32Array(WAYS * BUCKETS)

  find(nodeid: number, cookie: number, plus: number): boolean {
    const first = this.#bucket(nodeid, cookie, plus)
    for (let way = first; way < first + WAYS; way++) {
      if (this.#nodeids[way] !== nodeid || this.#cookies[way] !== cookie) continue
      const record = this.#records[way] as number
      const page = this.#pages[way] as number
      if ((record & 1) !== plus || page === 0) continue
      this.page = page
      this.record = record >>> 1
      return true
    }
    return false
  }

  /** The newest page wins: it replaces the same key, or the way with the oldest page. */
  put(nodeid: number, cookie: number, plus: number, page: number, record: number): void {
    const first = this.#bucket(nodeid, cookie, plus)
    let chosen = first
    for (let way = first; way < first + WAYS; way++) {
      const same = this.#nodeids[way] === nodeid && this.#cookies[way] === cookie
      if (same && ((this.#records[way] as number) & 1) === plus) {
        chosen = way
        break
      }
      if ((this.#pages[way] as number) < (this.#pages[chosen] as number)) chosen = way
    }
    this.#nodeids[chosen] = nodeid
    this.#cookies[chosen] = cookie
    this.#pages[chosen] = page
    this.#records[chosen] = record * 2 + plus
  }

  #bucket(nodeid: number, cookie: number, plus: number): number {
    return (mix(mix(plus, nodeid), cookie) & (BUCKETS - 1)) * WAYS
  }
}
