import t from 'tap'
import { Attributes } from './attributes.js'

const rules = (text: string): Attributes => Attributes.parse('rules', Buffer.from(text))

t.test('which files are external', async t => {
  const cases: readonly [text: string, yes: readonly string[], no: readonly string[]][] = [
    ['*.bin type=external', ['/a.bin', '/x/y/a.bin', '/x/dir.bin/file'], ['/a.bin2', '/abin', '/bin']],
    ['/models type=external', ['/models', '/models/a', '/models/a/b'], ['/x/models', '/models2']],
    ['models/ type=external', ['/models/a', '/x/models/a'], ['/models2/a']],
    ['/a/*.bin type=external', ['/a/x.bin'], ['/a/b/x.bin', '/x.bin', '/b/a/x.bin']],
    ['a/**/z type=external', ['/a/z', '/a/b/z', '/a/b/c/z/file'], ['/z', '/x/a/z']],
    ['**/z type=external', ['/z', '/a/b/z'], ['/az']],
    ['/a/** type=external', ['/a/b', '/a/b/c'], ['/a', '/b']],
    ['/[ab]?c type=external', ['/axc', '/b1c'], ['/cxc', '/ac', '/a/c']],
    ['/[!ab] type=external', ['/c'], ['/a', '/b', '//']],
    ['/[a-c]] type=external', ['/b]'], ['/b', '/d]']],
    [String.raw`/\*\[x] type=external`, ['/*[x]'], ['/a[x]']],
    ['"/with blank" type=external', ['/with blank'], ['/with']],
    ['/caf\u00e9 type=external', ['/caf\u00e9'], ['/cafe']],
    [
      '# all\n\n* type=external\n*.txt -type\r\n/a.txt type=external',
      ['/x', '/a.txt'],
      ['/b.txt', '/x/a.txt'],
    ],
    ['*.x type=external !type', [], ['/a.x']],
    ['', [], ['/a']],
  ]
  for (const [text, yes, no] of cases) {
    const attributes = rules(text)
    for (const path of yes) t.ok(attributes.isExternal(Buffer.from(path)), `${text}: ${path}`)
    for (const path of no) t.notOk(attributes.isExternal(Buffer.from(path)), `${text}: not ${path}`)
  }
})

t.test('a name that is not UTF-8', async t => {
  const bytes = Buffer.from([0x2f, 0xff, 0xfe])
  const attributes = Attributes.parse('rules', Buffer.concat([bytes, Buffer.from(' type=external')]))
  t.ok(attributes.isExternal(bytes))
  t.notOk(attributes.isExternal(Buffer.from('/\ufffd\ufffd')))
})

t.test('what is not understood is refused, with its line', async t => {
  for (const [text, message] of [
    ['# fine\n*.bin', 'rules, line 2: no attribute follows the pattern: type=external expected'],
    [
      '*.bin type=remote',
      "rules, line 1: attribute 'type=remote' is not known: type=external, -type or !type expected",
    ],
    [
      '*.bin crcs=0x1',
      "rules, line 1: attribute 'crcs=0x1' is not known: type=external, -type or !type expected",
    ],
    ['!a type=external', "rules, line 1: a pattern cannot begin with '!'"],
    ['/ type=external', 'rules, line 1: the root cannot be external; give a pattern for files'],
  ] as const)
    t.throws(() => rules(text), { code: 'BUILD_ATTRIBUTES', message })
})
