/**
 * What the yard tells the lanes about mounts: a change of the mount table, as plain data that crosses threads.
 *
 * The yard decides everything that must be the same in every lane (slots, inode numbers of pseudo folders,
 * times), so a lane that starts later gets one big change and ends up in the same state.
 */

/** Node id and inode number of the root. */
export const ROOT_INO = 1
/** nodeid = slot × SLOT_STRIDE + ino: 16 bits above 37, which a number holds exactly. */
export const SLOT_STRIDE = 2 ** 37
export const MAX_SLOT = 65_535
/** Pseudo folders are numbered from ROOT_INO up, each number once. */
export const INO_MAX = 0x7fff_ffff
/** Longest name of a folder and longest path of a mount, in bytes (Linux NAME_MAX, PATH_MAX less the NUL). */
export const NAME_MAX = 255
export const PATH_MAX = 4095

/** A slot that answers from this change on. */
export interface OpenedSlot<Image> {
  readonly slot: number
  readonly generation: number
  /** Slots of the same volume show the same opened image and share its file system. */
  readonly volume: number
  /** Inode number of the pseudo folder it is mounted on. */
  readonly folder: number
  readonly image: Image
  /** MOUNT_COUNTERS f64 per lane (lib/fuse/counters.ts). */
  readonly counters: SharedArrayBuffer
}

/** A folder on the way to a mount point, or the mount point itself. */
export interface FolderRecord {
  /** Inode number in slot 0; never used again. */
  readonly ino: number
  /** Inode number of its parent; the root is its own. */
  readonly parent: number
  readonly name: Uint8Array
  readonly mtime: number
  readonly mtimeNs: number
  /** Slot that is mounted on it, 0 for none. */
  readonly slot: number
}

export interface MountChange<Image> {
  /** Counts up by one; a lane's acknowledgement names it. */
  readonly version: number
  readonly opened: readonly OpenedSlot<Image>[]
  /** Created and changed folders, parents before their children. */
  readonly folders: readonly FolderRecord[]
  /** Folders that are gone, children before their parents. */
  readonly gone: readonly number[]
  /** Slots that answer ESTALE from this change on. */
  readonly closed: readonly number[]
}
