/** From the first bytes of a file to a checked superblock of the version that they tell. */
import { badImage, type Bootstrap } from './bootstrap.js'
import { SuperblockV5, V5_MAGIC } from './layout/v5.js'
import {
  ExtSuperblockV6,
  SuperblockV6,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_MAGIC,
  V6_SUPERBLOCK_OFFSET,
} from './layout/v6.js'
import { readSuperV5, type SuperV5 } from './super-v5.js'
import { readSuperV6, type SuperV6 } from './super-v6.js'

export type RafsSuper = SuperV5 | SuperV6

/** Which version the bytes claim to be; undefined when it is no bootstrap at all. */
export function detectVersion(boot: Bootstrap): 5 | 6 | undefined {
  if (boot.has(0, 4) && boot.view.getUint32(SuperblockV5.at.magic, true) === V5_MAGIC) return 5
  if (
    boot.has(V6_SUPERBLOCK_OFFSET, SuperblockV6.size) &&
    boot.view.getUint32(V6_SUPERBLOCK_OFFSET + SuperblockV6.at.magic, true) === V6_MAGIC
  )
    return 6
  return undefined
}

/**
 * Checks and decodes. `stem` is the file's name up to the first dot: the id of the blob that holds this bootstrap.
 * Throws NydusError RAFS_*.
 */
export function readSuper(boot: Bootstrap, stem: string): RafsSuper {
  const version = detectVersion(boot)
  if (version === 5) return readSuperV5(boot, stem)
  if (version === 6) return readSuperV6(boot, stem)
  const minimum = V6_EXT_SUPERBLOCK_OFFSET + ExtSuperblockV6.size
  if (boot.length < minimum)
    throw badImage(
      'RAFS_NOT_BOOTSTRAP',
      boot,
      `is not a RAFS bootstrap: ${boot.length} bytes are less than any superblock (${minimum}); failed to fill whole buffer`,
    )
  const v5 = boot.view.getUint32(0, true).toString(16).padStart(8, '0')
  const v6 = boot.view.getUint32(V6_SUPERBLOCK_OFFSET, true).toString(16).padStart(8, '0')
  throw badImage(
    'RAFS_NOT_BOOTSTRAP',
    boot,
    `is not a RAFS bootstrap: magic 0x${v5} at 0 (v5: 0x${V5_MAGIC.toString(16)}), 0x${v6} at ${V6_SUPERBLOCK_OFFSET} ` +
      `(v6: 0x${V6_MAGIC.toString(16)}); name the file that \`nydus-image create\` wrote as bootstrap`,
  )
}
