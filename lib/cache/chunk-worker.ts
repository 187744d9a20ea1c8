/**
 * A chunk Worker: everything that costs CPU between backend and cache file.
 *
 *     compressed bytes ── decrypt ── decompress ── verify ── pwrite ──> status
 *
 * It knows files and positions, not blobs or chunk maps. The yard sets ready bits when the status has come.
 */
import { readSync, writeSync } from 'node:fs'
import { parentPort, type TransferListItem } from 'node:worker_threads'
import { explain, NydusError } from '../base/errors.js'
import { decodeUnit, decrypt, mismatch } from './decode.js'
import type {
  ChunkJob,
  MemberResult,
  MemberTask,
  RecheckJob,
  TableJob,
  UnitTask,
  WorkerReply,
  WorkerRequest,
} from './worker-protocol.js'

let scratch = new Uint8Array(1 << 20)

function scratchOf(size: number): Uint8Array {
  if (scratch.byteLength < size) scratch = new Uint8Array(size)
  return scratch
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  let done = 0
  while (done < bytes.byteLength) done += writeSync(fd, bytes, done, bytes.byteLength - done, position + done)
}

function storeFailure(error: unknown): MemberResult {
  const errno = error instanceof Error && 'code' in error ? String(error.code) : 'EIO'
  return { kind: 'store', errno, message: explain(error) }
}

function doMember(job: ChunkJob, unit: UnitTask, output: Uint8Array, member: MemberTask): MemberResult {
  const plain = output.subarray(member.at, member.at + member.size)
  const wrong = mismatch(job.coding.digester, plain, member)
  if (wrong !== undefined) return { kind: 'damaged', message: wrong }
  if (member.position === undefined) return undefined
  try {
    writeAll(unit.fd, plain, member.position)
    return undefined
  } catch (error) {
    return storeFailure(error)
  }
}

function doUnit(job: ChunkJob, stored: Uint8Array, unit: UnitTask): MemberResult[] {
  let output: Uint8Array
  try {
    output = decodeUnit(job.coding, unit, stored, scratchOf(unit.outputSize))
  } catch (error) {
    const result: MemberResult = { kind: 'damaged', message: explain(error) }
    return unit.members.map(() => result)
  }
  if (unit.position !== undefined) {
    try {
      writeAll(unit.fd, output, unit.position)
    } catch (error) {
      const result = storeFailure(error)
      return unit.members.map(() => result)
    }
  }
  return unit.members.map(member => doMember(job, unit, output, member))
}

function doChunks(id: number, job: ChunkJob): void {
  const bytes = new Uint8Array(job.buffer)
  let first = 0
  let results: MemberResult[][] = []
  for (const [i, unit] of job.units.entries()) {
    results.push(doUnit(job, bytes.subarray(unit.start, unit.start + unit.size), unit))
    if (i + 1 === job.urgent && i + 1 < job.units.length) {
      reply({ id, done: false, first, results })
      first = i + 1
      results = []
    }
  }
  reply({ id, done: true, first, results, buffer: job.buffer }, [job.buffer])
}

function doTable(id: number, job: TableJob): void {
  const bytes = new Uint8Array(job.buffer)
  const { storedSize, plainSize, headerSize, encrypted } = job
  const result = new Uint8Array(new ArrayBuffer(job.resultSize))
  const coding = { compressed: job.coding.compressor !== 'none', encrypted, outputSize: plainSize }
  const table = decodeUnit(job.coding, coding, bytes.subarray(0, storedSize), scratchOf(plainSize))
  result.set(table)
  const header = bytes.subarray(storedSize, storedSize + headerSize)
  result.set(encrypted ? decrypt(job.coding, header) : header, job.resultSize - headerSize)
  reply({ id, done: true, buffer: result.buffer }, [result.buffer])
}

function doRecheck(id: number, job: RecheckJob): void {
  const results = job.members.map((member): MemberResult => {
    const plain = scratchOf(member.size).subarray(0, member.size)
    try {
      const got = readSync(job.fd, plain, 0, member.size, member.position)
      const wrong = got < member.size ? 'it is cut short' : mismatch(job.coding.digester, plain, member)
      return wrong === undefined ? undefined : { kind: 'damaged', message: wrong }
    } catch (error) {
      return { kind: 'damaged', message: explain(error) }
    }
  })
  reply({ id, done: true, results: [results] })
}

function reply(message: WorkerReply, transfer: readonly TransferListItem[] = []): void {
  parentPort?.postMessage(message, transfer)
}

parentPort?.on('message', ({ id, job }: WorkerRequest) => {
  try {
    if (job.kind === 'chunks') doChunks(id, job)
    else if (job.kind === 'table') doTable(id, job)
    else doRecheck(id, job)
  } catch (error) {
    const code = error instanceof NydusError ? error.code : 'CACHE_WORKER_FAILED'
    reply({ id, done: true, failure: { code, message: explain(error) } })
  }
})
