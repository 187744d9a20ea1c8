/**
 * Which chunk is in which image: the SQLite file of `chunkdict`. It is read as a whole, changed in memory, and written
 * back under a temporary name, so that a run that fails leaves it as it was.
 */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import initSqlJs, { type Database } from 'sql.js'
import { explain, NydusError } from '../base/errors.js'
import { written } from './output.js'

const SCHEMA = `
CREATE TABLE IF NOT EXISTS image (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  tag TEXT NOT NULL,
  UNIQUE (name, tag)
);
CREATE TABLE IF NOT EXISTS chunk (
  image INTEGER NOT NULL REFERENCES image (id),
  digest TEXT NOT NULL,
  uncompressed_size INTEGER NOT NULL,
  blob_id TEXT NOT NULL,
  chunk_index INTEGER NOT NULL,
  compressed_size INTEGER NOT NULL,
  UNIQUE (image, digest, uncompressed_size)
);
CREATE INDEX IF NOT EXISTS chunk_by_digest ON chunk (digest);
`

export interface StoredChunk {
  /** Hex. */
  readonly digest: string
  readonly uncompressedSize: number
  readonly blobId: string
  readonly index: number
  readonly compressedSize: number
}

/** `sqlite:///absolute/path`, `sqlite://relative`, or a path. */
export function databasePath(url: string): string {
  const [, path = url] = /^sqlite:\/\/(.*)$/.exec(url) ?? []
  if (path === '' || /^[a-z]+:\/\//.test(path))
    throw new NydusError(
      'CLI_USAGE',
      'EINVAL',
      `--database ${url} is no sqlite:// URL: give sqlite:///path/to/file`,
    )
  return resolve(path)
}

export class ChunkDatabase {
  readonly #db: Database
  readonly #path: string

  private constructor(db: Database, path: string) {
    this.#db = db
    this.#path = path
  }

  /** Opens the file or starts a new one. Throws CHUNKDICT_DATABASE. */
  static async open(path: string): Promise<ChunkDatabase> {
    const SQL = await initSqlJs()
    try {
      const bytes = await readFile(path).catch((error: unknown) => {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
        throw error
      })
      const db = new SQL.Database(bytes)
      db.run(SCHEMA)
      return new ChunkDatabase(db, path)
    } catch (error) {
      throw new NydusError(
        'CHUNKDICT_DATABASE',
        'EIO',
        `database ${path} cannot be used: ${explain(error)}`,
        { cause: error },
      )
    }
  }

  /** Replaces what is known of an image. */
  save(name: string, tag: string, chunks: readonly StoredChunk[]): void {
    this.#db.run('BEGIN')
    this.#db.run('INSERT OR IGNORE INTO image (name, tag) VALUES (?, ?)', [name, tag])
    const id =
      this.#db.exec('SELECT id FROM image WHERE name = ? AND tag = ?', [name, tag])[0]?.values[0]?.[0] ?? null
    this.#db.run('DELETE FROM chunk WHERE image = ?', [id])
    const insert = this.#db.prepare('INSERT OR IGNORE INTO chunk VALUES (?, ?, ?, ?, ?, ?)')
    for (const { digest, uncompressedSize, blobId, index, compressedSize } of chunks)
      insert.run([id, digest, uncompressedSize, blobId, index, compressedSize])
    insert.free()
    this.#db.run('COMMIT')
  }

  /** Keys (`chunkKey`) of the chunks that at least two images have. */
  shared(): Set<string> {
    const [found] = this.#db.exec(
      'SELECT digest, uncompressed_size FROM chunk GROUP BY digest, uncompressed_size HAVING COUNT(*) >= 2',
    )
    return new Set((found?.values ?? []).map(([digest, size]) => chunkKey(String(digest), Number(size))))
  }

  async write(): Promise<void> {
    await written(this.#path, output => output.write(this.#db.export()))
  }

  close(): void {
    this.#db.close()
  }
}

export function chunkKey(digest: string, uncompressedSize: number): string {
  return `${digest} ${uncompressedSize}`
}
