/** The loads of the hot path, as issue-sized questions: what is asked, how deep, and by whom it is answered faster. */
import type { BenchOptions } from '../../addon/test/frontend.js'
import type { BenchTarget } from '../../addon/test/native-frontend.js'

export interface Targets {
  readonly large: readonly BenchTarget[]
  readonly files: readonly BenchTarget[]
  readonly folders: readonly BenchTarget[]
}

export interface Load {
  readonly name: string
  readonly options: Pick<BenchOptions, 'kind' | 'size' | 'depth' | 'poll'>
  readonly targets: keyof Targets
  /** What counts: requests a second, or the median latency (lower is better). */
  readonly figure: 'rate' | 'p50'
  /**
   * Bytes of the large file that were read before, and of how many reads one is of a chunk that was not. Each measurement
   * has a server of its own, with an empty cache, and ends when all chunks were read.
   */
  readonly cold?: { readonly from: number; readonly every: number }
  /** What is wanted against nydusd: at least (rate) or at most (p50). */
  readonly wanted?: number
}

const KIB = 1 << 10
const MIB = 1 << 20

export const LOADS: readonly Load[] = [
  {
    name: 'read 4 KiB random, depth 1, polling',
    options: { kind: 'read', size: 4 * KIB, depth: 1, poll: true },
    targets: 'large',
    figure: 'p50',
    wanted: 0.2,
  },
  {
    name: 'read 4 KiB random, depth 1, eventfds',
    options: { kind: 'read', size: 4 * KIB, depth: 1, poll: false },
    targets: 'large',
    figure: 'rate',
    wanted: 1.5,
  },
  {
    name: 'read 4 KiB random, depth 32',
    options: { kind: 'read', size: 4 * KIB, depth: 32, poll: false },
    targets: 'large',
    figure: 'rate',
    wanted: 2,
  },
  {
    name: 'read 4 KiB random, depth 32, one of 512 cold',
    options: { kind: 'read', size: 4 * KIB, depth: 32, poll: false },
    targets: 'large',
    cold: { from: 32 * MIB, every: 512 },
    figure: 'rate',
  },
  {
    name: 'read 128 KiB sequential, depth 8',
    options: { kind: 'seq', size: 128 * KIB, depth: 8, poll: false },
    targets: 'large',
    figure: 'rate',
    wanted: 1.8,
  },
  {
    name: 'read 1 MiB sequential, depth 4',
    options: { kind: 'seq', size: MIB, depth: 4, poll: false },
    targets: 'large',
    figure: 'rate',
    wanted: 1.5,
  },
  {
    name: 'GETATTR + LOOKUP, depth 32',
    options: { kind: 'stat', size: 0, depth: 32, poll: false },
    targets: 'files',
    figure: 'rate',
    wanted: 3,
  },
  {
    name: 'GETATTR + LOOKUP, depth 1, polling',
    options: { kind: 'stat', size: 0, depth: 1, poll: true },
    targets: 'files',
    figure: 'p50',
  },
  {
    name: 'READDIRPLUS walk, depth 16',
    options: { kind: 'readdirplus', size: 4 * KIB, depth: 16, poll: false },
    targets: 'folders',
    figure: 'rate',
    wanted: 2,
  },
]
