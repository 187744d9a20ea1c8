/** Whiteouts: how a layer says that something of the layers below is gone (blobs-and-cache.md §7). */
import { S_IFMT, TYPE, type NodeStat } from './tree.js'

/** `--whiteout-spec`. */
export type WhiteoutSpec = 'oci' | 'overlayfs' | 'none'

/** `.wh.NAME` removes NAME. */
const PREFIX = Buffer.from('.wh.')
/** Clears the folder that it is in. */
const OPAQUE = Buffer.from('.wh..wh..opq')
/** overlayfs: this xattr with value `y` makes a folder opaque. */
export const OVERLAY_OPAQUE = Buffer.from('trusted.overlay.opaque')

export type Whiteout = { readonly kind: 'remove'; readonly name: Buffer } | { readonly kind: 'opaque' }

/** What a name of a layer says of the layers below, if anything. */
export function whiteoutOf(
  spec: WhiteoutSpec,
  name: Uint8Array,
  stat: Pick<NodeStat, 'mode' | 'rdev'>,
): Whiteout | undefined {
  const bytes = Buffer.from(name)
  if (spec === 'oci') {
    if (bytes.equals(OPAQUE)) return { kind: 'opaque' }
    if (bytes.length > PREFIX.length && bytes.subarray(0, PREFIX.length).equals(PREFIX))
      return { kind: 'remove', name: bytes.subarray(PREFIX.length) }
  } else if (spec === 'overlayfs' && (stat.mode & S_IFMT) === TYPE.CHR && stat.rdev === 0) {
    return { kind: 'remove', name: bytes }
  }
  return undefined
}

export function isMarker(
  spec: WhiteoutSpec,
  name: Uint8Array,
  stat: Pick<NodeStat, 'mode' | 'rdev'>,
): boolean {
  // Nearly all names: without a copy of each.
  if (spec === 'none' || (spec === 'oci' && name[0] !== PREFIX[0])) return false
  return whiteoutOf(spec, name, stat) !== undefined
}
