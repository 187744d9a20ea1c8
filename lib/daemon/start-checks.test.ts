/** The small rules of the start: prefetch lists, the limit of open files, error events. */
import t from 'tap'
import { ErrorEvents } from './error-events.js'
import { raiseFileLimit } from './file-limit.js'
import { resolvePrefetchFiles } from './prefetch-files.js'
import { buildInfo, versionText } from './version.js'

t.test('--prefetch-files: a list on this host, or paths within the image', async t => {
  const dir = t.testdir({ list: '/usr/bin\n\n  /etc/ssl \r\n/', empty: '\n', bad: '/a\nusr\n', folder: {} })
  const rows: [string[], string[] | RegExp][] = [
    [[], []],
    [[`${dir}/list`], ['/usr/bin', '/etc/ssl', '/']],
    [[`${dir}/empty`], []],
    [['/usr/no-such-file-here'], ['/usr/no-such-file-here']],
    [[`${dir}/folder`], [`${dir}/folder`]],
    [
      ['/a', '/b'],
      ['/a', '/b'],
    ],
    [
      [`${dir}/list`, '/b'],
      [`${dir}/list`, '/b'],
    ],
    [[`${dir}/bad`], /bad: "usr" is not a path within the image; it must start with \/$/],
    [['/a', 'b'], /--prefetch-files: "b" is not a path within the image/],
    [['no-such-list'], /no-such-list: the list cannot be read: no such file or folder$/],
  ]
  for (const [values, result] of rows)
    if (result instanceof RegExp)
      await t.rejects(resolvePrefetchFiles(values), { code: 'START_PREFETCH_FILES', message: result })
    else t.strictSame(await resolvePrefetchFiles(values), result, values.join(' '))
})

t.test('the limit of open files', async t => {
  /** A system with these limits; `hard` cannot be raised. */
  const run = (soft: number, hard: number, wanted: number, fileMax: number) => {
    let set: number | undefined
    const warning = raiseFileLimit(
      {
        getFileLimit: () => [soft, hard],
        setFileLimit: limit => (set = Math.min(limit, hard)),
      },
      wanted,
      fileMax,
    )
    return { set, warned: warning !== undefined }
  }
  const rows: [Parameters<typeof run>, ReturnType<typeof run>][] = [
    [[1024, 2_000_000, 0, Infinity], { set: undefined, warned: false }],
    [[1024, 2_000_000, 1_000_000, Infinity], { set: 1_000_000, warned: false }],
    [[1024, 4096, 1_000_000, Infinity], { set: 4096, warned: true }],
    [[1_048_576, 1_048_576, 1_000_000, Infinity], { set: undefined, warned: false }],
    [[1024, 1_000_000, 1_000_000, 100_000], { set: 83_616, warned: false }],
    [[1024, 1_000_000, 1_000_000, 32_000], { set: undefined, warned: true }],
  ]
  for (const [input, result] of rows) t.strictSame(run(...input), result, input.join(' '))
})

t.test('error events are bounded, the oldest go', async t => {
  const events = new ErrorEvents()
  t.strictSame(events.report(), {
    max_errors: 500,
    total_errors: 0,
    max_size: 51200,
    total_size: 0,
    errors: [],
  })
  events.add('backend is gone', new Date(0))
  t.strictSame(events.report().errors, ['Thu, 01 Jan 1970 00:00:00 GMT - backend is gone'])
  for (let i = 0; i < 2000; i++) events.add(`error ${i}`)
  t.equal(events.report().total_errors, 500)
  t.match(events.report().errors.at(-1), /error 1999$/)
  events.add('é'.repeat(100_000))
  const { total_size, errors } = events.report()
  t.ok(total_size <= 51200)
  t.equal(
    total_size,
    errors.reduce((sum, line) => sum + Buffer.byteLength(line), 0),
  )
})

t.test('--version has the lines that clients look for', async t => {
  const info = { version: '1.2.3', commit: 'abc', time: '2026-11-24T00:00:00Z', profile: 'release' } as const
  t.equal(
    versionText(info),
    `Version: \tv1.2.3\nGit Commit: \tabc\nBuild Time: \t2026-11-24T00:00:00Z\nProfile: \trelease\nRustc: \tnode ${process.version}\n`,
  )
  t.match(buildInfo(), { version: /^\d+\.\d+\.\d+/, profile: 'source' })
})
