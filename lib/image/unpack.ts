/**
 * `nydus-image unpack`: an image back to a tar archive.
 *
 *     walk ── members and their chunks ── Content (read ahead, decode, verify) ── TarWriter
 */
import type { Backend } from '../backend/backend.js'
import { TAR_TYPE } from '../build/tar-header.js'
import { TYPE } from '../build/tree.js'
import type { RafsImage } from '../rafs/image.js'
import { Content, type Wanted } from './content.js'
import { attrOf, majorOf, minorOf, targetOf, xattrsOf } from './inodes.js'
import type { Output } from './output.js'
import { TarWriter, type TarMember } from './tar-writer.js'

export interface Unpacked {
  readonly members: number
  /** Plain bytes of all files. */
  readonly bytes: number
  /** Paths that no tar archive can hold: sockets. */
  readonly left: readonly string[]
}

export interface UnpackProgress {
  /** Called as content is written: members that are begun, and plain bytes. */
  stored(members: number, bytes: number): void
}

/** Permission bits. */
const PERMISSIONS = 0o7777

const TAR_TYPES: Readonly<Record<number, string>> = {
  [TYPE.REG]: TAR_TYPE.FILE,
  [TYPE.DIR]: TAR_TYPE.DIR,
  [TYPE.LNK]: TAR_TYPE.SYMLINK,
  [TYPE.CHR]: TAR_TYPE.CHR,
  [TYPE.BLK]: TAR_TYPE.BLK,
  [TYPE.FIFO]: TAR_TYPE.FIFO,
}

/** A step of the archive: a member begins, or a chunk of the one that has begun. */
interface Step {
  readonly path: Buffer
  readonly member: TarMember | undefined
  readonly fileOffset: number
}

function relative(path: Buffer, isFolder: boolean): Buffer {
  if (path.length === 1) return Buffer.from('./')
  const name = path.subarray(1)
  return isFolder ? Buffer.concat([name, Buffer.from('/')]) : name
}

class Steps {
  readonly #image: RafsImage
  /** First path of each inode that has several. */
  readonly #first = new Map<number, Buffer>()
  readonly left: string[] = []

  constructor(image: RafsImage) {
    this.#image = image
  }

  *all(): Generator<Wanted<Step>> {
    for (const { path, ino, type } of inTreeOrder(this.#image)) {
      const tarType = TAR_TYPES[type]
      if (tarType === undefined) this.left.push(path.toString())
      else yield* this.#member(path, ino, type, tarType)
    }
  }

  *#member(path: Buffer, ino: number, type: number, tarType: string): Generator<Wanted<Step>> {
    const attr = attrOf(this.#image, ino)
    const shared = type !== TYPE.DIR && attr.nlink > 1
    const first = shared ? this.#first.get(ino) : undefined
    const common = {
      path: relative(path, type === TYPE.DIR),
      mode: attr.mode & PERMISSIONS,
      uid: attr.uid,
      gid: attr.gid,
      mtime: attr.mtime,
      mtimeNs: attr.mtimeNs,
    }
    if (first !== undefined) {
      yield step(path, { ...common, type: TAR_TYPE.LINK, linkname: first, size: 0, xattrs: [] })
      return
    }
    if (shared) this.#first.set(ino, common.path)
    const isDevice = type === TYPE.CHR || type === TYPE.BLK
    yield step(path, {
      ...common,
      type: tarType,
      size: type === TYPE.REG ? attr.size : 0,
      xattrs: xattrsOf(this.#image, ino),
      ...(type === TYPE.LNK ? { linkname: targetOf(this.#image, ino) } : {}),
      ...(isDevice ? { devmajor: majorOf(attr.rdev), devminor: minorOf(attr.rdev) } : {}),
    })
    if (type !== TYPE.REG) return
    for (const chunk of this.#image.chunks(ino))
      yield { tag: { path, member: undefined, fileOffset: chunk.fileOffset }, chunk }
  }
}

const SLASH = 0x2f
type WalkEntry = ReturnType<RafsImage['walk']> extends Generator<infer E> ? E : never

/**
 * The walk, but each folder directly before what is in it: an extractor sets a folder's times when the archive leaves
 * it. Files stay in the order in which they lie in the blob.
 */
function* inTreeOrder(image: RafsImage): Generator<WalkEntry> {
  /** Folders that come next, the nearest last. */
  const coming: WalkEntry[] = []
  let found: WalkEntry[] = []
  let current: Buffer = Buffer.alloc(0)
  for (const entry of image.walk()) {
    const slash = entry.path.lastIndexOf(SLASH)
    const parent = entry.path.subarray(0, slash === 0 && entry.path.length > 1 ? 1 : slash)
    if (!parent.equals(current)) {
      coming.push(...found.reverse())
      found = []
      while (!parent.equals(current)) {
        const folder = coming.pop()
        if (folder === undefined)
          throw new RangeError(`the walk came to ${entry.path.toString()} out of order`)
        current = folder.path
        yield folder
      }
    }
    if (entry.type === TYPE.DIR) found.push(entry)
    else yield entry
  }
  yield* found
  yield* coming.reverse()
}

function step(path: Buffer, member: TarMember): Wanted<Step> {
  return { tag: { path, member, fileOffset: 0 }, chunk: undefined }
}

/** Writes the whole image. Throws NydusError RAFS_*, IMAGE_*, BACKEND_*. */
export async function unpackImage(
  image: RafsImage,
  backend: Backend,
  output: Output,
  progress: UnpackProgress,
): Promise<Unpacked> {
  const content = new Content(image, backend)
  const tar = new TarWriter(output)
  const steps = new Steps(image)
  let members = 0
  let total = 0
  /** Of the file that is being written. */
  let size = 0
  let at = 0
  try {
    for await (const { tag, bytes } of content.read(steps.all(), ({ path }) => path.toString())) {
      if (tag.member !== undefined) {
        if (at < size) await tar.zeros(size - at)
        await tar.member(tag.member)
        members++
        size = tag.member.size
        at = 0
        progress.stored(1, 0)
        continue
      }
      if (tag.fileOffset > at) await tar.zeros(tag.fileOffset - at)
      await tar.content(bytes)
      at = tag.fileOffset + bytes.length
      total += bytes.length
      progress.stored(0, bytes.length)
    }
    if (at < size) await tar.zeros(size - at)
    await tar.end()
    return { members, bytes: total, left: steps.left }
  } finally {
    await content.close()
  }
}
