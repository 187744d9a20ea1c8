import t from 'tap'
import { assert, property, string } from 'fast-check'
import { parseChallenges } from './registry-challenge.js'

const cases: readonly [
  header: string | string[] | undefined,
  expected: ReturnType<typeof parseChallenges>,
][] = [
  [undefined, []],
  ['', []],
  ['Basic realm="x"', [{ scheme: 'basic', params: { realm: 'x' } }]],
  // Docker Hub
  [
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push"',
    [
      {
        scheme: 'bearer',
        params: {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:library/alpine:pull,push',
        },
      },
    ],
  ],
  // RFC 9110 §11.6.1
  [
    'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
    [
      { scheme: 'basic', params: { realm: 'simple' } },
      { scheme: 'newauth', params: { realm: 'apps', type: '1', title: 'Login to "apps"' } },
    ],
  ],
  [
    ['Negotiate', 'bearer Realm = https://r/t , scope="a b"'],
    [
      { scheme: 'negotiate', params: {} },
      { scheme: 'bearer', params: { realm: 'https://r/t', scope: 'a b' } },
    ],
  ],
  ['Bearer realm="a",realm="b"', [{ scheme: 'bearer', params: { realm: 'a' } }]],
  ['Bearer realm="never closed', [{ scheme: 'bearer', params: { realm: '' } }]],
  [',,,', []],
  ['realm="no scheme"', []],
]

t.test('challenges as servers write them', async t => {
  for (const [header, expected] of cases)
    t.strictSame(parseChallenges(header), expected, JSON.stringify(header))
})

t.test('anything else neither throws nor hangs', async () => {
  assert(property(string({ maxLength: 300 }), text => Array.isArray(parseChallenges(text))))
  parseChallenges('Bearer ' + 'a="b\\'.repeat(100_000))
})
