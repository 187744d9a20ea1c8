/**
 * `nydus-image inspect`: looks around in the metadata of an image, one command at a time. Commands give text; some
 * also values for JSON. No blob is read.
 */
import { NydusError } from '../base/errors.js'
import { S_IFMT, TYPE } from '../build/tree.js'
import { BLOB_FEATURE, type BlobInfo } from '../cache/cache.js'
import type { RafsImage } from '../rafs/image.js'
import { readaheadOf } from '../build/readahead-v5.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import { BlobEntryV6 } from '../rafs/layout/v6.js'
import { ChunkRecords } from './chunk-records.js'
import { attrOf } from './inodes.js'

/** What a command gives: text for people; `value` for programs, null when there is none. */
export interface Answer {
  readonly text: string
  readonly value: unknown
}

export const HELP = `
    stats:              Display RAFS filesystem metadata
    ls:                 Show files in current directory
    cd DIR:             Change current directory
    stat FILE_NAME:     Show particular information of RAFS file
    blobs:              Show blob table
    prefetch:           Show prefetch table
    chunk OFFSET:       List basic info of a single chunk together with a list of files that share it
    icheck INODE:       Show path of the inode and basic information
    exit:               Exit
`

const SIGNS: Readonly<Record<number, string>> = { [TYPE.REG]: '-', [TYPE.DIR]: 'd', [TYPE.LNK]: 'l' }
/** Names of the flags as the reference prints them. */
const FLAG_WORDS: readonly [keyof typeof RAFS_FLAG, string][] = [
  ['COMPRESSION_NONE', 'COMPRESSION_NONE'],
  ['COMPRESSION_LZ4', 'COMPRESSION_LZ4'],
  ['DIGEST_BLAKE3', 'HASH_BLAKE3'],
  ['DIGEST_SHA256', 'HASH_SHA256'],
  ['EXPLICIT_UIDGID', 'EXPLICIT_UID_GID'],
  ['HAS_XATTR', 'HAS_XATTR'],
  ['COMPRESSION_GZIP', 'COMPRESSION_GZIP'],
  ['COMPRESSION_ZSTD', 'COMPRESSION_ZSTD'],
  ['INLINED_CHUNK_DIGEST', 'INLINED_CHUNK_DIGEST'],
  ['TARFS_MODE', 'TARFS_MODE'],
  ['ENCRYPTION_NONE', 'ENCRYPTION_NONE'],
  ['ENCRYPTION_AES_128_XTS', 'ENCRYPTION_AES_128_XTS'],
]
const COMPRESSOR_WORDS = { none: 'None', lz4_block: 'Lz4Block', gzip: 'GZip', zstd: 'Zstd' } as const
const DIGESTER_WORDS = { blake3: 'Blake3', sha256: 'Sha256' } as const
const LABEL = 24

/** A name in quotes; bytes that are no text as \xNN. */
export function quoted(name: Uint8Array): string {
  const text = Buffer.from(name).toString()
  if (!text.includes('\ufffd')) return JSON.stringify(text)
  const shown = [...name].map(byte =>
    byte < 0x20 || byte > 0x7e || byte === 0x22 || byte === 0x5c
      ? `\\x${byte.toString(16).padStart(2, '0').toUpperCase()}`
      : String.fromCharCode(byte),
  )
  return `"${shown.join('')}"`
}

function baseName(path: Buffer): Buffer {
  return path.length === 1 ? path : path.subarray(path.lastIndexOf('/') + 1)
}

function hex(n: number): string {
  return `0x${n.toString(16)}`
}

interface Place {
  readonly path: Buffer
  readonly ino: number
}

export class Inspector {
  readonly #image: RafsImage
  readonly #records: ChunkRecords
  #cwd: Place

  constructor(image: RafsImage) {
    this.#image = image
    this.#records = new ChunkRecords(image)
    this.#cwd = { path: Buffer.from('/'), ino: image.rootIno }
  }

  /** Runs one line. Throws NydusError INSPECT_* for what cannot be answered, RAFS_* for a damaged image. */
  run(line: string): Answer {
    const [command = '', ...rest] = line.trim().split(/\s+/)
    const argument = line.trim().slice(command.length).trim()
    const needs = (): string => {
      if (argument === '') throw new NydusError('INSPECT_USAGE', 'EINVAL', `${command} needs an argument`)
      return argument
    }
    if (rest.length > 0 && ['stats', 'ls', 'blobs', 'prefetch', 'help'].includes(command))
      throw new NydusError('INSPECT_USAGE', 'EINVAL', `${command} takes no argument`)
    switch (command) {
      case 'stats':
        return this.#stats()
      case 'ls':
        return this.#ls()
      case 'cd':
        return this.#cd(needs())
      case 'stat':
        return this.#stat(needs())
      case 'blobs':
        return this.#blobs()
      case 'prefetch':
        return this.#prefetch()
      case 'chunk':
        return this.#chunk(number(needs(), 'a chunk starts at'))
      case 'icheck':
        return this.#icheck(number(needs(), 'an inode is'))
      default:
        throw new NydusError('INSPECT_USAGE', 'EINVAL', `Unsupported command: ${command}`)
    }
  }

  #stats(): Answer {
    const { facts, version } = this.#image
    const flags = FLAG_WORDS.filter(([flag]) => (facts.flags.bits & RAFS_FLAG[flag]) !== 0).map(
      ([, word]) => word,
    )
    const rows: readonly [string, string | number][] = [
      ['Version', version],
      ['Inodes Count', facts.inodes_count],
      ['Chunk Size', `${facts.chunk_size / 1024}KB`],
      ['Root Inode', facts.root_inode],
      ['Flags', flags.join(' | ')],
      ['Blob table offset', hex(facts.blob_table_offset)],
      ['Blob table size', hex(facts.blob_table_size)],
      ['Prefetch table offset', hex(facts.prefetch_table_offset)],
      ['Prefetch table entries', hex(facts.prefetch_table_entries)],
      ['Chunk table offset', hex(facts.chunk_table_offset)],
      ['Chunk table size', hex(facts.chunk_table_size)],
    ]
    const text = rows.map(([name, value]) => `    ${`${name}:`.padEnd(LABEL)}${value}\n`).join('')
    return { text: `\n${text}\n`, value: { inodes_count: facts.inodes_count } }
  }

  #ls(): Answer {
    let text = ''
    for (const { path, ino, type } of this.#childrenOf(this.#cwd))
      text += `${SIGNS[type] ?? ' '}    ${String(ino).padEnd(8)} ${quoted(baseName(path))}\n`
    return { text, value: null }
  }

  #childrenOf(folder: Place): { path: Buffer; ino: number; type: number }[] {
    const out: { path: Buffer; ino: number; type: number }[] = []
    for (const entry of this.#image.walk(folder.ino, folder.path)) {
      if (entry.path.equals(folder.path)) continue
      // The walk gives all children of a folder before anything below them.
      const parent = entry.path.subarray(0, Math.max(1, entry.path.lastIndexOf('/')))
      if (!parent.equals(folder.path)) break
      out.push(entry)
    }
    return out
  }

  /** A name in the current folder, or a path. */
  #find(name: string): Place {
    const folder = this.#cwd.path.length === 1 ? '/' : `${this.#cwd.path.toString('latin1')}/`
    const given = Buffer.from(name).toString('latin1')
    const parts: string[] = []
    for (const part of (given.startsWith('/') ? given : folder + given).split('/'))
      if (part === '..') parts.pop()
      else if (part !== '' && part !== '.') parts.push(part)
    const path = Buffer.from(`/${parts.join('/')}`, 'latin1')
    const ino = this.#image.resolve(path)
    if (ino === undefined) throw new NydusError('INSPECT_NOT_FOUND', 'ENOENT', `${name} is not in the image`)
    return { path, ino }
  }

  #cd(name: string): Answer {
    const place = this.#find(name)
    if ((attrOf(this.#image, place.ino).mode & S_IFMT) !== TYPE.DIR)
      throw new NydusError('INSPECT_NOT_FOUND', 'ENOTDIR', `${name} is not a folder`)
    this.#cwd = place
    return { text: '', value: null }
  }

  #stat(name: string): Answer {
    return { text: this.#describe(this.#find(name)), value: null }
  }

  #describe({ path, ino }: Place): string {
    const attr = attrOf(this.#image, ino)
    const parent =
      this.#image.resolve(path.subarray(0, Math.max(1, path.lastIndexOf('/')))) ?? this.#image.rootIno
    const rows: readonly [string, string | number][] = [
      ['Inode Number', ino],
      ['Name', quoted(baseName(path))],
      ['Size', attr.size],
      ['Parent', parent],
      ['Mode', `0x${attr.mode.toString(16).toUpperCase()}`],
      ['Permissions', attr.mode.toString(8)],
      ['Nlink', attr.nlink],
      ['UID', attr.uid],
      ['GID', attr.gid],
      ['Mtime', attr.mtime],
      ['MtimeNsec', attr.mtimeNs],
      ['Blocks', attr.blocks],
    ]
    let text = `\n${rows.map(([label, value]) => `${`${label}:`.padEnd(20)}${value}\n`).join('')}`
    let i = 0
    for (const chunk of this.#image.chunks(ino)) {
      const record = this.#records.of(chunk)
      if (i === 0) text += '  Chunk list:\n'
      text +=
        `        ${i++} ->\n        file offset: ${chunk.fileOffset}, chunk index: ${chunk.want.index}\n` +
        `        compressed size: ${record.compressedSize}, decompressed size: ${chunk.want.uncompressedSize}\n` +
        `        compressed offset: ${record.compressedOffset}, decompressed offset: ${chunk.want.uncompressedOffset}\n` +
        `        blob id: ${this.#image.blobs[chunk.blob]?.id ?? ''}\n` +
        `        chunk id: ${Buffer.from(record.digest).toString('hex')}\n    \n`
    }
    return text
  }

  #blobs(): Answer {
    const none = '0'.repeat(64)
    const readahead = readaheadOf(this.#image)
    let text = ''
    const value: object[] = []
    for (const blob of this.#image.blobs) {
      const features = Object.entries(BLOB_FEATURE)
        .filter(([, bit]) => (blob.features & bit) !== 0)
        .map(([name]) => name)
      const rows: readonly [string, string | number][] = [
        ['Blob Index', blob.blobIndex],
        ['Blob ID', blob.id],
        ['Raw Blob ID', blob.id],
        ['Blob Size', blob.compressedSize],
        ['Compressed Data Size', blob.ci.offset > 0 ? blob.ci.offset : blob.compressedSize],
        ['Uncompressed Data Size', blob.uncompressedSize],
        ['Features', features.join(' | ')],
        ['Compressor', COMPRESSOR_WORDS[blob.compressor]],
        ['Digester', DIGESTER_WORDS[blob.digester]],
        ['Chunk Size', hex(blob.chunkSize)],
        ['Chunk Count', blob.chunkCount],
        ['Prefetch Table Offset', 0],
        ['Prefetch Table Size', 0],
        ['Meta Compressor', COMPRESSOR_WORDS[blob.ci.compressor]],
        ['Meta Offset', blob.ci.offset],
        ['Meta Compressed Size', blob.ci.compressedSize],
        ['Meta Uncompressed Size', blob.ci.uncompressedSize],
        ['ToC Digest', blob.toc === undefined ? none : Buffer.from(blob.toc.digest).toString('hex')],
        ['ToC Size', blob.toc?.size ?? 0],
        ['RAFS Blob Digest', blob.metaBlobId ?? none],
        ['RAFS Blob Size', this.#metaSize(blob)],
      ]
      text += `\n${rows.map(([label, shown]) => `${`${label}:`.padEnd(LABEL)}${shown}\n`).join('')}`
      value.push({
        blob_id: blob.id,
        compressed_size: blob.compressedSize,
        decompressed_size: blob.uncompressedSize,
        readahead_offset: readahead[blob.blobIndex]?.offset ?? 0,
        readahead_size: readahead[blob.blobIndex]?.size ?? 0,
      })
    }
    return { text, value }
  }

  /** Bytes of the separate blob with the chunk information. */
  #metaSize(blob: BlobInfo): number {
    if (blob.metaBlobId === undefined) return 0
    const at = this.#image.facts.blob_table_offset + blob.blobIndex * BlobEntryV6.size
    const { metaSizeOrIv } = BlobEntryV6.read(this.#image.bytes(at, BlobEntryV6.size))
    return Number(Buffer.from(metaSizeOrIv).readBigUInt64LE())
  }

  #prefetch(): Answer {
    const inos = [...this.#image.prefetchInos()]
    const paths = this.#pathsOf(new Set(inos))
    const value = inos.map(inode => ({ inode, path: paths.get(inode) ?? [] }))
    const text = value
      .map(
        ({ inode, path }) =>
          `Inode Number:${String(inode).padStart(10)} | Path: ${path.map(one => JSON.stringify(one)).join(' ')} \n`,
      )
      .join('')
    return { text: `Total Prefetching Files: ${inos.length}\n${text}`, value }
  }

  /** Folders with a slash at their end. */
  #pathsOf(wanted: ReadonlySet<number>): Map<number, string[]> {
    const out = new Map<number, string[]>()
    if (wanted.size === 0) return out
    for (const { path, ino, type } of this.#image.walk()) {
      if (!wanted.has(ino)) continue
      const shown = path.toString() + (type === TYPE.DIR && path.length > 1 ? '/' : '')
      out.set(ino, [...(out.get(ino) ?? []), shown])
    }
    return out
  }

  /** Files with a chunk at that place of the compressed blob. */
  #chunk(offset: number): Answer {
    let text = ''
    for (const { path, ino, type } of this.#image.walk()) {
      if (type !== TYPE.REG) continue
      for (const chunk of this.#image.chunks(ino)) {
        const record = this.#records.of(chunk)
        if (record.compressedOffset !== offset) continue
        const parent = path.subarray(0, path.lastIndexOf('/') + 1)
        text +=
          `\nFile: ${baseName(path).toString().padEnd(32)} Parent Path: ${parent.toString().padEnd(32)}\n` +
          `Compressed Offset: ${record.compressedOffset}, Compressed Size: ${record.compressedSize}\n` +
          `Decompressed Offset: ${chunk.want.uncompressedOffset}, Decompressed Size: ${chunk.want.uncompressedSize}\n` +
          `Chunk ID: ${Buffer.from(record.digest).toString('hex')}, \n` +
          `Blob ID: ${this.#image.blobs[chunk.blob]?.id ?? ''}\n\n`
      }
    }
    return { text, value: null }
  }

  #icheck(wanted: number): Answer {
    for (const { path, ino } of this.#image.walk())
      if (ino === wanted) return { text: `${path.toString()}\n${this.#describe({ path, ino })}`, value: null }
    throw new NydusError('INSPECT_NOT_FOUND', 'ENOENT', `inode ${wanted} is not in the image`)
  }
}

function number(text: string, what: string): number {
  const n = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : NaN
  if (!Number.isSafeInteger(n))
    throw new NydusError('INSPECT_USAGE', 'EINVAL', `${what} a number, not ${JSON.stringify(text)}`)
  return n
}
