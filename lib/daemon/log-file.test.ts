import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { LogFile } from './log-file.js'

t.test('appends, also to what an earlier process wrote', async t => {
  const dir = t.testdir({ 'a.log': 'before\n' })
  const file = new LogFile(`${dir}/a.log`, 0)
  for (let i = 0; i < 1000; i++) file.write(`line ${i}\n`)
  file.close()
  t.equal(readFileSync(`${dir}/a.log`, 'utf8').split('\n').length, 1002)
  t.strictSame(readdirSync(dir), ['a.log'])
})

t.test('makes the folder; says why it cannot', async t => {
  const dir = t.testdir({ file: '' })
  new LogFile(`${dir}/x/y/a.log`, 0).close()
  t.strictSame(readdirSync(`${dir}/x/y`), ['a.log'])
  t.throws(() => new LogFile(dir, 0), {
    code: 'START_LOG_FILE',
    message: /^log file .* cannot be opened: it is a folder$/,
  })
  t.throws(() => new LogFile(`${dir}/file/a.log`, 0), { message: /cannot be opened/ })
})

t.test('rotates by size, compresses, keeps ten, touches nothing else', async t => {
  const others = { 'd.log.gz': 'x', 'other_r2020-01-01_00-00-00.log.gz': 'x', 'd_notes.log': 'x' }
  const dir = t.testdir({ ...others, 'd_r2020-01-01_00-00-00.log.gz': 'oldest' })
  const file = new LogFile(`${dir}/d.log`, 100)
  for (let i = 0; i < 50; i++) file.write(`${String(i).padStart(48, '0')}\n`)
  await file.settle()
  file.close()
  const names = readdirSync(dir)
  for (const other of Object.keys(others)) t.ok(names.includes(other), other)
  const olds = names.filter(name => /^d_r.*\.gz$/.test(name)).sort()
  t.equal(olds.length, 10)
  t.notOk(olds.includes('d_r2020-01-01_00-00-00.log.gz'), 'the oldest went')
  t.equal(names.filter(name => /^d_r.*\.log$/.test(name)).length, 0, 'none is left uncompressed')
  const kept = [
    ...olds.map(name => gunzipSync(readFileSync(`${dir}/${name}`)).toString()),
    readFileSync(`${dir}/d.log`, 'utf8'),
  ].join('')
  const numbers = kept.trim().split('\n').map(Number)
  t.equal(numbers.at(-1), 49, 'the newest line is in the current file')
  t.strictSame(
    numbers,
    [...Array(numbers.length).keys()].map(i => 50 - numbers.length + i),
    'in order, without a gap',
  )
})

t.test('a line bigger than the limit is written whole', async t => {
  const dir = t.testdir({})
  const file = new LogFile(`${dir}/a.log`, 10)
  file.write(`${'x'.repeat(50)}\n`)
  file.write('y\n')
  await file.settle()
  file.close()
  t.equal(readFileSync(`${dir}/a.log`, 'utf8'), 'y\n')
})

t.test('a folder that vanished or a closed file loses lines, not the process', async t => {
  const dir = t.testdir({ logs: {} })
  const file = new LogFile(`${dir}/logs/a.log`, 10)
  file.write('0123456789\n')
  rmSync(`${dir}/logs`, { recursive: true })
  file.write('0123456789\n')
  t.equal(file.lostLines, 1)
  writeFileSync(`${dir}/logs`, '')
  file.close()
})
