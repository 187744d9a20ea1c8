/** What all blobs of a CacheManager share. */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Buffers } from './buffers.js'
import type { Decoder } from './decoder.js'
import type { TempPool } from './temp-pool.js'

export interface CacheServices {
  readonly decoder: Decoder
  readonly pool: TempPool
  readonly buffers: Buffers
  readonly log: Log
  readonly clock: Clock
}
