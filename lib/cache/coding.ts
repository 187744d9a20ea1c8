/** How chunks are coded in a blob. */
import type { Compressor, Digester } from './cache.js'
import type { ZranEntry } from './unit.js'

/** How all units of a blob are coded. */
export interface Coding {
  readonly compressor: Compressor
  readonly digester: Digester
  /** AES-128-XTS: both halves of the key (32 bytes), and the IV (16). */
  readonly cipher?: { readonly key: Uint8Array; readonly iv: Uint8Array }
}

/** How one unit is coded. */
export interface UnitCoding {
  readonly compressed: boolean
  readonly encrypted: boolean
  /** Bytes. */
  readonly outputSize: number
  readonly zran?: ZranEntry
}

/** What a plain chunk must match. The digest decides when there is one. */
export interface Expected {
  readonly digest?: Uint8Array
  readonly crc32?: number
}
