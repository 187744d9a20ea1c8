import { mkdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { BlobReader, LocalfsOptions } from './backend.js'
import { openLocalfs } from './localfs.js'
import { backendMetricsJson } from './metrics.js'

function open(options: Partial<LocalfsOptions>) {
  return openLocalfs({ type: 'localfs', localfs: { dir: '', blob_file: '', alt_dirs: [], ...options } })
}

async function read(reader: BlobReader, offset: number, length: number): Promise<string> {
  const bytes = new Uint8Array(length)
  await reader.read(bytes, offset)
  return Buffer.from(bytes).toString()
}

t.test('where a blob is looked for', async t => {
  const root = t.testdir({
    dir: { here: 'in dir', empty: '' },
    alt1: { here: 'never', empty: '' },
    alt2: { empty: 'in alt2', there: 'in alt2' },
    file: 'fixed',
  })
  const at = (name: string): string => join(root, name)
  const dirs = { dir: at('dir'), alt_dirs: [at('alt1'), at('alt2')] }
  t.equal(await read(open(dirs).open('here'), 0, 6), 'in dir')
  t.equal(await read(open(dirs).open('empty'), 0, 7), 'in alt2')
  t.equal(await read(open(dirs).open('there'), 3, 4), 'alt2')
  t.equal(await read(open({ ...dirs, blob_file: at('file') }).open('whatever'), 0, 5), 'fixed')
  t.equal(await open(dirs).open('there').size(), 7)
  mkdirSync(at('dir/folder'))
  await t.rejects(open(dirs).open('folder').size(), {
    code: 'BACKEND_BLOB_MISSING',
    errno: 'EIO',
    message: `blob folder is in none of the places that the localfs backend knows: ${at('dir/folder')} (is a folder), ${at('alt1/folder')} (missing), ${at('alt2/folder')} (missing); put the blob there or correct backend.config.dir`,
  })
})

t.test('nothing is looked for before the first read; a failure is not remembered', async t => {
  const dir = t.testdir()
  const reader = open({ dir }).open('late')
  await t.rejects(reader.size(), { code: 'BACKEND_BLOB_MISSING' })
  writeFileSync(join(dir, 'late'), 'now')
  t.equal(await read(reader, 0, 3), 'now')
})

t.test('a truncated blob is an error that says where; repaired, it is read', async t => {
  const dir = t.testdir({ blob: '0123456789' })
  const reader = open({ dir }).open('blob')
  t.equal(await read(reader, 5, 5), '56789')
  truncateSync(join(dir, 'blob'), 7)
  await t.rejects(read(reader, 5, 5), {
    code: 'BACKEND_SHORT_READ',
    message: `blob blob in ${join(dir, 'blob')}: 5 bytes at 5 wanted, but it ends at 7; it is truncated`,
  })
  writeFileSync(join(dir, 'new'), 'abcdefghij')
  renameSync(join(dir, 'new'), join(dir, 'blob'))
  t.equal(await read(reader, 5, 5), 'fghij', 'another file has taken its place')
})

t.test('a fresh read looks the file up again', async t => {
  const dir = t.testdir({ blob: 'wrong' })
  const reader = open({ dir }).open('blob')
  t.equal(await read(reader, 0, 5), 'wrong')
  rmSync(join(dir, 'blob'))
  writeFileSync(join(dir, 'blob'), 'right')
  t.equal(await read(reader, 0, 5), 'wrong', 'the open file is kept otherwise')
  const bytes = new Uint8Array(5)
  await reader.read(bytes, 0, { fresh: true })
  t.equal(Buffer.from(bytes).toString(), 'right')
})

t.test('many reads at once, while the file is looked up again, leave no descriptor behind', async t => {
  const dir = t.testdir({ blob: 'x'.repeat(100) })
  const reader = open({ dir }).open('blob')
  await Promise.all(
    Array.from({ length: 50 }, (_, i) => reader.read(new Uint8Array(10), i, { fresh: i % 7 === 0 })),
  )
  await reader.close()
  const { readdirSync, readlinkSync } = await import('node:fs')
  const left = readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(join('/proc/self/fd', fd)) === join(dir, 'blob')
    } catch {
      return false
    }
  })
  t.same(left, [])
  await t.rejects(reader.size(), { code: 'BACKEND_CLOSED' })
})

t.test('an aborted read rejects with the reason and counts nowhere', async t => {
  const dir = t.testdir({ blob: 'x' })
  const backend = open({ dir })
  const reader = backend.open('blob')
  const signal = AbortSignal.abort(new Error('not wanted'))
  await t.rejects(reader.read(new Uint8Array(1), 0, { signal }), { message: 'not wanted' })
  t.match(backend.metrics, { readCount: 0, readErrors: 0 })
})

t.test('configurations that cannot be, ids that leave the folder', async t => {
  t.throws(() => open({}), { code: 'BACKEND_CONFIG', message: /neither blob_file nor dir is set/ })
  for (const id of ['../secret', '..', '', 'a/b'])
    t.throws(() => open({ dir: '/' }).open(id), { code: 'BLOB_BAD_ID' })
})

t.test('metrics in the shape of the API', async t => {
  const dir = t.testdir({ blob: 'x'.repeat(5000) })
  const backend = open({ dir })
  const reader = backend.open('blob')
  await read(reader, 0, 500)
  await read(reader, 0, 4096)
  await t.rejects(read(reader, 4999, 2))
  const json = backendMetricsJson(backend)
  t.match(json, {
    backend_type: 'localfs',
    read_count: 3,
    read_errors: 1,
    read_amount_total: 4596,
    read_count_block_size_dist: [1, 0, 1, 0, 0, 0, 0, 0],
  })
  const rows = json['read_latency_sizes_dist']
  t.ok(Array.isArray(rows) && rows.length === 8 && rows.every(row => Array.isArray(row) && row.length === 8))
})
