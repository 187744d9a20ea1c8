/** What a v5 image says of each blob is to be read before anything else (rafs-v5.md §9). */
import type { RafsImage } from '../rafs/image.js'
import { BlobEntryV5 } from '../rafs/layout/v5.js'

/** Bytes of the blob. */
export interface Readahead {
  readonly offset: number
  readonly size: number
}

/** By blob; of a v6 image, which has no place for it, nothing. The image has been opened, so that its table is sound. */
export function readaheadOf(image: Pick<RafsImage, 'version' | 'facts' | 'bytes'>): Readahead[] {
  const found: Readahead[] = []
  if (image.version !== 5) return found
  const { blob_table_offset: offset, blob_table_size: size } = image.facts
  const table = image.bytes(offset, size)
  // An id ends at a NUL or at the end of the table.
  for (let at = 0; size - at > BlobEntryV5.size;) {
    const { readaheadOffset, readaheadSize } = BlobEntryV5.read(table, at)
    found.push({ offset: readaheadOffset, size: readaheadSize })
    const nul = table.indexOf(0, at + BlobEntryV5.size)
    at = nul < 0 ? size : nul + 1
  }
  return found
}
