/**
 * A log file that is started afresh when it has grown too big; the old ones are kept compressed, ten of them.
 *
 *     nydusd.log   nydusd_r2026-11-24_08-10-11.123.log.gz   …
 *
 * Lines are written synchronously: log lines are rare, and what was logged before a crash must be in the file.
 */
import { closeSync, createReadStream, createWriteStream, fstatSync, mkdirSync, openSync } from 'node:fs'
import { readdirSync, renameSync, rmSync, writeSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { NydusError } from '../base/errors.js'
import { reason } from './reason.js'

const KEEP = 10

/** 2026-11-24_08-10-11.123, UTC. */
function stamp(time: number): string {
  return new Date(time).toISOString().slice(0, 23).replace('T', '_').replaceAll(':', '-')
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

export class LogFile {
  readonly #path: string
  readonly #maxBytes: number
  #fd: number
  #size: number
  /** Compression of old files, one after the other. */
  #upkeep: Promise<void> = Promise.resolve()
  /** Writing failed (disk full): lines are lost until it works again. */
  lostLines = 0

  /** `maxBytes` 0: never rotated. Throws NydusError START_LOG_FILE. */
  constructor(path: string, maxBytes: number) {
    this.#path = path
    this.#maxBytes = maxBytes
    try {
      mkdirSync(dirname(path), { recursive: true })
      this.#fd = openSync(path, 'a', 0o644)
      this.#size = fstatSync(this.#fd).size
    } catch (error) {
      throw new NydusError('START_LOG_FILE', 'EIO', `log file ${path} cannot be opened: ${reason(error)}`)
    }
  }

  /** Appends a line (with its newline). Never throws: a log must not end what it reports on. */
  write(line: string): void {
    const bytes = Buffer.from(line)
    try {
      if (this.#maxBytes > 0 && this.#size > 0 && this.#size + bytes.length > this.#maxBytes) this.#rotate()
      for (let done = 0; done < bytes.length;) done += writeSync(this.#fd, bytes, done)
      this.#size += bytes.length
    } catch {
      this.lostLines++
    }
  }

  /** Waits for compressions that are under way. */
  async settle(): Promise<void> {
    await this.#upkeep
  }

  close(): void {
    closeSync(this.#fd)
  }

  #rotate(): void {
    const extension = extname(this.#path)
    const stem = this.#path.slice(0, this.#path.length - extension.length)
    const taken = new Set(readdirSync(dirname(this.#path)))
    let time = Date.now()
    let old: string
    // Names sort by time; two rotations within one millisecond need two names.
    do old = `${stem}_r${stamp(time++)}${extension}`
    while (taken.has(basename(old)) || taken.has(`${basename(old)}.gz`))
    renameSync(this.#path, old)
    const fd = openSync(this.#path, 'a', 0o644)
    closeSync(this.#fd)
    this.#fd = fd
    this.#size = 0
    // A failure leaves an uncompressed old file behind; the next rotation counts it among the ten.
    this.#upkeep = this.#upkeep.then(() => this.#compress(old)).catch(() => {})
  }

  async #compress(old: string): Promise<void> {
    await pipeline(createReadStream(old), createGzip(), createWriteStream(`${old}.gz`, { mode: 0o644 }))
    rmSync(old)
    const extension = extname(this.#path)
    const stem = escapeRegExp(basename(this.#path, extension))
    const pattern = new RegExp(`^${stem}_r\\d{4}-[\\d_.-]+${escapeRegExp(extension)}(?:\\.gz)?$`)
    const folder = dirname(this.#path)
    const olds = readdirSync(folder)
      .filter(name => pattern.test(name))
      .sort()
    for (const name of olds.slice(0, -KEEP)) rmSync(join(folder, name), { force: true })
  }
}
