/** How long reads took that had to wait for the backend, in the buckets of the metrics API (http-api.md 4). */

/** Upper bounds in milliseconds of all buckets but the last. The first is what lanes answer at once. */
const BOUNDS_MS = [0.2, 1, 20, 50, 500, 1000, 2000]

export class ReadLatency {
  readonly buckets: number[] = Array.from({ length: BOUNDS_MS.length + 1 }, () => 0)
  totalMs = 0

  add(ms: number): void {
    const found = BOUNDS_MS.findIndex(bound => ms <= bound)
    const bucket = found < 0 ? BOUNDS_MS.length : found
    this.buckets[bucket] = (this.buckets[bucket] ?? 0) + 1
    this.totalMs += ms
  }
}
