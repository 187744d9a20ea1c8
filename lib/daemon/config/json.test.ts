import t from 'tap'
import { JsonError, parseJson } from './json.js'

t.test('what JSON.parse takes, and what people write', async t => {
  const rows: [string, unknown][] = [
    ['{"a":[1,-2.5e3,true,false,null,"x\\n\\u00e9"]}', { a: [1, -2500, true, false, null, 'x\né'] }],
    [
      '{\n "amplify_io": 131072, // 128KB\n "mode": "direct" /* and\n more */ }',
      { amplify_io: 131072, mode: 'direct' },
    ],
    ['// head\n{"url":"http://x//y /* no */"}\n// tail', { url: 'http://x//y /* no */' }],
    ['{"a":[1,2,],}', { a: [1, 2] }],
    ['\uFEFF {"a": 1}', { a: 1 }],
    ['[{},[],"",] // x', [{}, [], '']],
    ['"\\"//"//', '"//'],
  ]
  for (const [text, value] of rows) t.strictSame(parseJson(text), value, text)
})

t.test('a key named __proto__ is a key', async t => {
  const value = parseJson('{"__proto__": {"mode": "direct"}, // x\n}') as Record<string, unknown>
  t.equal(Object.getPrototypeOf(value), Object.prototype)
  t.ok(Object.hasOwn(value, '__proto__'))
})

t.test('errors tell the place and never the text', async t => {
  const rows: [string, number, number][] = [
    ['{"auth": "c2VjcmV0" "b"}', 1, 21],
    ['{\n  "auth": c2VjcmV0\n}', 2, 11],
    ['{"auth": "c2VjcmV0', 1, 19],
    ['{"a": 1', 1, 8],
    ['', 1, 1],
    ['{"a": 01}', 1, 7],
    ['{"a": 1} c2VjcmV0', 1, 10],
    ['{a: 1}', 1, 2],
    ['{"a" 1}', 1, 6],
    ['[1 2]', 1, 4],
    ['[1,,2]', 1, 4],
    ['{"a": "\\q"}', 1, 7],
    ['{"a": "c2Vj\ncmV0"}', 1, 12],
    ['{"a": truex}', 1, 7],
    ['{"a": /* never closed', 1, 7],
    ['['.repeat(100_000), 1, 130],
  ]
  for (const [text, line, column] of rows) {
    const label = text.slice(0, 40)
    try {
      parseJson(text)
      t.fail(`${label} was accepted`)
    } catch (error) {
      t.type(error, JsonError, label)
      t.match(error, { line, column }, label)
      t.notMatch((error as Error).message, /c2V/, label)
    }
  }
})
