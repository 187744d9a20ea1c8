/** What scripts/bundle.mjs made: programs that start without compiling anything, and whose errors name the sources. */
import { execFile } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { promisify } from 'node:util'
import { Script } from 'node:vm'
import t from 'tap'
import { tempDir } from '../lib/daemon/testing/temp-dir.js'
import { projectRoot } from '../vm-tests/project.js'

const exec = promisify(execFile)
const folder = `${projectRoot}/dist/run`
const bundles = readdirSync(folder)
  .filter(name => name.endsWith('.cjs'))
  .map(name => basename(name, '.cjs'))

/** Of the digest that a bundle and its cache end with. */
const DIGEST = 64

t.test('V8 takes the code cache of every bundle', async t => {
  t.same(bundles.toSorted(), ['export-worker', 'lane-worker', 'nydus-image', 'nydusd', 'undici'])
  for (const name of bundles) {
    const source = readFileSync(`${folder}/${name}.bundle.js`, 'latin1')
    const cache = readFileSync(`${folder}/${name}.bundle.cache`)
    t.equal(
      cache.toString('latin1', cache.length - DIGEST),
      source.slice(-DIGEST),
      `${name}: made from this source`,
    )
    const script = new Script(source, { cachedData: cache.subarray(0, cache.length - DIGEST) })
    t.equal(script.cachedDataRejected, false, name)
  }
})

t.test('without a cache, or with one that is of something else, a program runs as well', async t => {
  const dir = tempDir(t)
  cpSync(folder, `${dir}/run`, { recursive: true })
  const cache = `${dir}/run/nydusd.bundle.cache`
  const run = () => exec('node', [`${dir}/run/nydusd.cjs`, '--help'])
  const whole = readFileSync(cache)
  writeFileSync(cache, Buffer.concat([whole.subarray(0, -1), Buffer.from('-')]))
  t.match(await run(), { stdout: /^Usage: nydusd/, stderr: '' }, 'another digest')
  truncateSync(cache, 10)
  t.match(await run(), { stdout: /^Usage: nydusd/, stderr: '' }, 'cut short')
  writeFileSync(cache, Buffer.concat([Buffer.alloc(100), whole.subarray(-DIGEST)]))
  t.match(await run(), { stdout: /^Usage: nydusd/, stderr: '' }, 'of another V8')
})

t.test('a start that fails while Workers come up: one sentence, nothing left behind', async t => {
  const dir = tempDir(t)
  const serve = ['--sock', `${dir}/v.sock`, '--apisock', `${dir}/a.sock`, '--log-level', 'error']
  const image = ['--bootstrap', `${dir}/none`, '--localfs-dir', dir]
  await t.rejects(exec(`${projectRoot}/dist/bin/nydusd`, [...serve, ...image]), {
    code: 1,
    stdout: '',
    stderr: /^Error: bootstrap .*none: No such file or directory[^\n]*\n$/,
  })
  t.same(readdirSync(dir), [])
})

t.test('stacks name sources and their lines', async t => {
  const script = `
    const { Pool } = require('${folder}/undici.cjs')
    try { new Pool('no URL') } catch (error) { console.log(error.stack) }`
  const { stdout } = await exec('node', ['-e', script])
  t.match(stdout, /^\w*Error: Invalid URL[^]*\n {4}at .*node_modules\/undici\/lib\/[\w/-]+\.js:\d+:\d+\)\n/)
  const [, file = '', line = ''] = /\((node_modules\/undici\/.*?):(\d+):\d+\)/.exec(stdout) ?? []
  t.match(readFileSync(`${projectRoot}/${file}`, 'utf8').split('\n')[Number(line) - 1], /new URL|throw/)
  t.notMatch(stdout, /bundle\.js/)
})

t.test('the licences of bundled packages go with them', async t => {
  const text = readFileSync(`${folder}/LICENSES.txt`, 'utf8')
  for (const name of ['commander', 'pino', 'undici', 'zod'])
    t.match(
      text,
      new RegExp(`^${name} [\\d.]+, MIT\n\n[^]*?Permission is hereby granted, free of charge`, 'm'),
      name,
    )
})
