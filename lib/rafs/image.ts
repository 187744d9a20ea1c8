/**
 * RAFS: what is in an image, and where. A *bootstrap* is the file that holds an image's metadata, *blobs* hold its
 * content as *chunks*; an *inode* names the chunks of a file.
 *
 *     vfs ── FileSystem ── openRafs (lane) ── readers ──┐
 *                                                        ├── mapped bootstrap
 *     daemon, tools ────── RafsImage (yard) ── checks ──┘
 *
 * RafsImage opens and checks an image once, and makes the handle from which each lane opens its own reader. It does
 * not know FUSE, mounts, or how chunks are fetched; the cache is told what to fetch in ChunkWants.
 */
import type { BlobHandle, BlobInfo, ChunkWant } from '../cache/cache.js'
import { native } from '../native.js'
import { newAttr } from '../vfs/filesystem.js'
import { Blobs } from './blobs.js'
import { openBootstrapFile, type BootstrapFile } from './bootstrap-file.js'
import { badImage, Bootstrap } from './bootstrap.js'
import type { SuperblockFacts } from './check.js'
import { ChunkDigests } from './chunk-digests.js'
import { newChunkPlace } from './chunks.js'
import type { ImageHandle } from './handle.js'
import { S_IFDIR, S_IFMT, S_IFREG } from './layout/flags.js'
import { owner } from './owner.js'
import { RafsReader } from './reader.js'
import { readSuper, type RafsSuper } from './super.js'
import { resolve, walk, type WalkEntry } from './walk.js'
import { resolveWant } from './want.js'

export interface ImageOptions {
  /** The bootstrap, or a blob that holds its own. */
  readonly path: string | Buffer
  /** The cache's `work_dir`: a bootstrap taken out of a blob is kept there. */
  readonly workDir?: string
  /** `enable_xattr`. */
  readonly xattrs: boolean
  /** `digest_validate`: inode digests of v5 are checked. Digests of chunks come with every want, whatever this says. */
  readonly validate: boolean
}

/** One chunk of a file, as prefetch and tools see it. What no chunk covers is zeros. */
export interface FileChunk {
  /** Blob number in the image. */
  readonly blob: number
  readonly fileOffset: number
  readonly want: ChunkWant
}

export class RafsImage {
  readonly #file: BootstrapFile
  readonly #boot: Bootstrap
  readonly #super: RafsSuper
  readonly #options: ImageOptions
  readonly #digests: ChunkDigests | undefined
  /** The yard's own reader: for walks; knows of no cache. */
  readonly reader: RafsReader
  #registered = 0

  /** Opens, maps and checks; cost and memory do not depend on the number of inodes. Throws NydusError RAFS_*. */
  static async open(options: ImageOptions): Promise<RafsImage> {
    const file = await openBootstrapFile(options.path, options.workDir)
    try {
      return new RafsImage(file, options)
    } catch (error) {
      await file.file.close()
      throw error
    }
  }

  private constructor(file: BootstrapFile, options: ImageOptions) {
    this.#file = file
    this.#options = options
    this.#boot = new Bootstrap(native.mapFile(file.file.fd, file.length, 'r'), file.length, file.name)
    this.#super = readSuper(this.#boot, file.stem)
    this.#digests = this.#super.version === 6 ? new ChunkDigests(this.#boot, this.#super) : undefined
    this.reader = new RafsReader(this.#boot, this.#super, new Blobs(this.#super.blobs, [], []), {
      bootstrapFile: 0,
      xattrs: true,
      validate: options.validate,
      ...owner(),
    })
    const root = newAttr()
    if (this.reader.getattr(this.#super.rootIno, root) !== 0 || (root.mode & S_IFMT) !== S_IFDIR)
      throw badImage(
        'RAFS_BAD_ROOT',
        this.#boot,
        `its root (inode ${this.#super.rootIno}) is damaged or no folder${options.validate ? ', or its digest is wrong' : ''}`,
      )
  }

  get version(): 5 | 6 {
    return this.#super.version
  }

  /** By blob number. */
  get blobs(): readonly BlobInfo[] {
    return this.#super.blobs
  }

  get facts(): SuperblockFacts {
    return this.#super.facts
  }

  get rootIno(): number {
    return this.#super.rootIno
  }

  /** Bytes of metadata. */
  get bootstrapLength(): number {
    return this.#file.length
  }

  /** Bytes of the bootstrap: what the extents of `reader.readlink` and `reader.getxattr` name. For tools. */
  bytes(offset: number, length: number): Uint8Array {
    if (!this.#boot.has(offset, length))
      throw badImage('RAFS_TRUNCATED', this.#boot, `bytes ${offset}+${length} lie behind its end`)
    return this.#boot.bytes.subarray(offset, offset + length)
  }

  /** What lanes need; `blobs[i]` belongs to blob i. Valid until `close`. */
  handle(blobs: readonly BlobHandle[]): ImageHandle {
    if (this.#registered === 0) this.#registered = native.registerFile(this.#file.file.fd, this.#file.length)
    return {
      version: this.version,
      bootstrapFd: this.#file.file.fd,
      bootstrapLength: this.#file.length,
      bootstrapFile: this.#registered,
      xattrs: this.#options.xattrs,
      validate: this.#options.validate,
      blobs,
    }
  }

  /**
   * What the cache needs to fetch a chunk that a lane named in ExtentSink.want. Throws NydusError RAFS_BAD_CHUNK
   * when image or lane are wrong about it.
   */
  want(blob: number, ref: number): ChunkWant {
    return resolveWant(this.#boot, this.#super, blob, ref, this.#digests)
  }

  /** Digest of a chunk from the chunk table of a v6 bootstrap; undefined when there is none. */
  chunkDigest(blob: number, index: number): Uint8Array | undefined {
    return this.#digests?.get(blob, index)
  }

  /** Inodes that the image itself wants to have prefetched, files or folders, in order. */
  *prefetchInos(): Generator<number> {
    const { prefetchOffset, prefetchEntries } = this.#super
    for (let i = 0; i < prefetchEntries; i++)
      yield this.#boot.view.getUint32(prefetchOffset + i * PREFETCH_ENTRY_SIZE, true)
  }

  /**
   * Chunks of a regular file in file order, beginning with the one at file offset `from`; none for anything else. Throws
   * NydusError when the file is damaged.
   */
  *chunks(ino: number, from = 0): Generator<FileChunk> {
    if (this.reader.typeOf(ino) !== S_IFREG) return
    const place = newChunkPlace()
    for (let k = from === 0 ? 0 : (this.reader.chunkList(ino)?.chunkAt(from) ?? 0); ; k++) {
      // Asked again each time: the reader has one list, and others use it between two steps.
      const list = this.reader.chunkList(ino)
      if (list === undefined || (k < list.chunkCount && list.chunk(k, place) !== 0))
        throw badImage('RAFS_BAD_CHUNK', this.#boot, `chunk ${k} of inode ${ino} is damaged`)
      if (k >= list.chunkCount) return
      if (place.hole) continue
      yield { blob: place.blob, fileOffset: place.fileOffset, want: this.want(place.blob, place.ref) }
    }
  }

  /** `from` and all below it, in the order in which blobs are filled. Throws NydusError RAFS_* for a damaged tree. */
  walk(from = this.rootIno, path: Buffer = Buffer.from('/')): Generator<WalkEntry> {
    return walk(this.reader, from, path)
  }

  /** Regular files at and below `from`, in that order; a file with several names comes once for each. */
  *files(from: number): Generator<number> {
    for (const { ino, type } of this.walk(from)) if (type === S_IFREG) yield ino
  }

  /** Inode of an absolute path (bytes); undefined when there is none. Symlinks are not followed. */
  resolve(path: Uint8Array): number | undefined {
    const ino = resolve(this.reader, path)
    return ino < 0 ? undefined : ino
  }

  /** All paths of an inode. Walks the whole tree: for tools. */
  *pathsOf(wanted: number): Generator<Buffer> {
    for (const { ino, path } of this.walk()) if (ino === wanted) yield path
  }

  /** Lanes must have let go of the handle's file. Idempotent. */
  async close(): Promise<void> {
    if (this.#registered !== 0) native.releaseFile(this.#registered)
    this.#registered = 0
    await this.#file.file.close()
  }
}

/** Both versions: an array of u32. */
const PREFETCH_ENTRY_SIZE = 4
