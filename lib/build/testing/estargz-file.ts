/** Makes eStargz files by the format's specification (containerd/stargz-snapshotter, docs/estargz.md). */
import { gzipSync } from 'node:zlib'
import { sha256, type ManifestRecord } from '../../../vm-tests/manifest.js'
import { TarWriter } from '../../image/tar-writer.js'
import { TAR_TYPE } from '../tar-header.js'

export interface StargzFile {
  readonly name: string
  /** Folders, symlinks and hard links have none. */
  readonly content?: Uint8Array
  readonly type?: 'dir' | 'symlink' | 'hardlink' | 'char'
  readonly target?: string
  readonly mode?: number
  readonly xattrs?: Readonly<Record<string, string>>
}

export interface Stargz {
  readonly bytes: Buffer
  /** The table of contents, as text. */
  readonly toc: string
}

/** An entry of the table of contents. */
export type TocEntry = Record<string, unknown>

interface Options {
  readonly chunkSize?: number
  /** Tampers with the table of contents before it is written. */
  readonly lie?: (entries: TocEntry[]) => void
  /** Tampers with the offset in the footer. */
  readonly footer?: (offset: number) => number
}

const TYPES = {
  dir: TAR_TYPE.DIR,
  symlink: TAR_TYPE.SYMLINK,
  hardlink: TAR_TYPE.LINK,
  char: TAR_TYPE.CHR,
} as const

/** What every entry has. */
export const OWNER = { uid: 1000, gid: 1001, mtime: 1_600_000_000 }

/** What a mounted image must show of a regular file. */
export function fileRecord(
  path: string,
  content: Uint8Array,
  more: Partial<ManifestRecord> = {},
): ManifestRecord {
  const { length: size } = content
  return { path, type: 'file', mode: 0o644, ...OWNER, nlink: 1, size, sha256: sha256(content), ...more }
}

function tocDigest(bytes: Uint8Array): string {
  return `sha256:${sha256(bytes)}`
}

/** An empty member whose extra field SG tells where the table's member starts. */
function footer(offset: number): Buffer {
  const field = Buffer.from(`${offset.toString(16).padStart(16, '0')}STARGZ`)
  const head = Buffer.from([
    0x1f,
    0x8b,
    8,
    4,
    0,
    0,
    0,
    0,
    0,
    0xff,
    field.length + 4,
    0,
    0x53,
    0x47,
    field.length,
    0,
  ])
  return Buffer.concat([head, field, Buffer.from([1, 0, 0, 0xff, 0xff]), Buffer.alloc(8)])
}

export async function makeStargz(files: readonly StargzFile[], options: Options = {}): Promise<Stargz> {
  const chunkSize = options.chunkSize ?? 4 << 20
  const members: Buffer[] = []
  const entries: TocEntry[] = []
  let length = 0
  let pending: Uint8Array[] = []
  // Headers and padding of the files before stand in the member of the last chunk, as in the files that tools make.
  const flush = (): void => {
    if (pending.length === 0) return
    const member = gzipSync(Buffer.concat(pending))
    members.push(member)
    length += member.length
    pending = []
  }
  const output = {
    offset: 0,
    write(bytes: Uint8Array) {
      pending.push(Uint8Array.from(bytes))
      output.offset += bytes.length
      return Promise.resolve()
    },
    zeros: (count: number) => output.write(Buffer.alloc(count)),
  }
  const tar = new TarWriter(output)
  for (const { name, content, type, target, mode = 0o644, xattrs = {} } of files) {
    const header = {
      type: type === undefined ? TAR_TYPE.FILE : TYPES[type],
      path: Buffer.from(name),
      mode,
      ...OWNER,
      mtimeNs: 0,
      size: content?.length ?? 0,
      ...(target !== undefined && { linkname: Buffer.from(target) }),
      ...(type === 'char' && { devmajor: 1, devminor: 3 }),
      xattrs: Object.entries(xattrs).map(([key, value]) => ({
        name: Buffer.from(key),
        value: Buffer.from(value),
      })),
    }
    await tar.member(header)
    const entry: TocEntry = {
      name,
      type: type ?? 'reg',
      modtime: new Date(OWNER.mtime * 1000).toISOString(),
      mode,
      uid: OWNER.uid,
      gid: OWNER.gid,
      ...(target !== undefined && { linkName: target }),
      ...(type === 'char' && { devMajor: 1, devMinor: 3 }),
      xattrs: Object.fromEntries(
        Object.entries(xattrs).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
      ),
    }
    entries.push(entry)
    if (content === undefined || content.length === 0) continue
    Object.assign(entry, { size: content.length, digest: tocDigest(content) })
    for (let at = 0; at < content.length; at += chunkSize) {
      flush()
      const part = content.subarray(at, at + chunkSize)
      const chunk: TocEntry = at === 0 ? entry : { name, type: 'chunk', chunkOffset: at }
      Object.assign(chunk, { offset: length, chunkDigest: tocDigest(part) })
      if (content.length > chunkSize) Object.assign(chunk, { chunkSize: part.length })
      if (at > 0) entries.push(chunk)
      await tar.content(part)
    }
  }
  flush()
  options.lie?.(entries)
  const toc = JSON.stringify({ version: 1, entries }, undefined, '\t')
  const tocOffset = length
  await tar.member({
    type: TAR_TYPE.FILE,
    path: Buffer.from('stargz.index.json'),
    mode: 0o444,
    uid: 0,
    gid: 0,
    mtime: 0,
    mtimeNs: 0,
    size: Buffer.byteLength(toc),
    xattrs: [],
  })
  await tar.content(Buffer.from(toc))
  pending.push(Buffer.alloc(1024))
  flush()
  return { bytes: Buffer.concat([...members, footer(options.footer?.(tocOffset) ?? tocOffset)]), toc }
}
